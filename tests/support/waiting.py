"""Waiting for conditions, never for time."""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable

DEADLINE = 60.0  # seconds; long, for the machine may be busy with something else
PAUSE = 0.005


async def until(
    condition: Callable[[], bool | Awaitable[bool]], *, within: float = DEADLINE
) -> None:
    """Return once the condition holds; fail when it does not within so many seconds."""
    async with asyncio.timeout(within):
        while not await _holds(condition):  # noqa: ASYNC110  # HTTP has no event
            await asyncio.sleep(PAUSE)


async def _holds(condition: Callable[[], bool | Awaitable[bool]]) -> bool:
    answer = condition()
    return await answer if isawaitable(answer) else answer
