"""Those who wait until a journal is committed up to a position of theirs."""

import asyncio


class PositionWaiters:
    """Waits for positions of one journal, each ended once."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def wait(self, position: int) -> None:
        """Return when the position is released; raise what it is refused with."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((position, waiter))
        await waiter

    def release(self, *, until: int | None = None) -> None:
        """End the waits for positions up to one, or all of them."""
        waiting: list[tuple[int, asyncio.Future[None]]] = []
        for position, waiter in self._waiting:
            if waiter.done():
                continue
            if until is None or position <= until:
                waiter.set_result(None)
            else:
                waiting.append((position, waiter))
        self._waiting = waiting

    def refuse(self, error: Exception, *, after: int) -> None:
        """End the waits for positions after one with an error."""
        for position, waiter in self._waiting:
            if position > after and not waiter.done():
                waiter.set_exception(error)
