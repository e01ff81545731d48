"""Work in pieces: it lets others have the event loop whenever it has had it for a while."""

import asyncio
from time import perf_counter

PIECE = 0.02  # seconds after which others have their turn


class GivingWay:
    """Counts the time that a piece of work takes; called between two parts of it."""

    def __init__(self) -> None:
        self._since = perf_counter()

    async def __call__(self) -> None:
        """Let the event loop turn, where the piece has taken long enough."""
        if perf_counter() - self._since >= PIECE:
            await asyncio.sleep(0)
            self._since = perf_counter()
