"""A wait that ends by itself, for loops that look after runs."""

import asyncio

LONGEST_WAIT = 60.0  # seconds until a timer is looked at again, for clocks may be set


async def wait_for(changed: asyncio.Event, seconds: float | None) -> None:
    """Return when something changed, or after some seconds; None waits for a change alone."""
    try:
        async with asyncio.timeout(min(max(seconds, 0), LONGEST_WAIT) if seconds else seconds):
            await changed.wait()
    except TimeoutError:
        pass
    changed.clear()
