"""Pages of streams that are large: how many are in memory at once, for whom, and for how long."""

import asyncio
from collections.abc import Awaitable

from workflow_server.app.handlers.paging import TenantSlots
from workflow_server.routers.large_answers import SLOWEST, SMALL, STALLED

LOOK = 1.0  # seconds after which one that waits for a slot is asked whether it still does


class LargePages:
    """Slot of one stream for each large page that it sends.

    A page with no more than `SMALL` bytes of events needs none.
    """

    __slots__ = ("_slots", "_tenant", "_turn", "_until")  # thousands of streams may be open

    def __init__(self, slots: TenantSlots, tenant: str) -> None:
        self._slots = slots
        self._tenant = tenant
        self._turn: asyncio.Future[None] | None = None
        self._until = 0.0

    @property
    def has_slot(self) -> bool:
        """Return whether the stream has a slot."""
        return self._turn is not None and self._turn.done()

    @property
    def is_waiting(self) -> bool:
        """Return whether the stream stands in line for a slot."""
        return self._turn is not None and not self._turn.done()

    def enter(self, size: int) -> bool:
        """Return whether a page may be sent; where it may not, the stream now stands in line."""
        if self._turn is None:
            if size <= SMALL:
                return True
            self._turn = self._slots.ask(self._tenant)
        self._until = asyncio.get_running_loop().time() + STALLED + size / SLOWEST
        return self._turn.done()

    async def wait(self, seconds: float) -> None:
        """Return when it is the stream's turn, or after some seconds."""
        if self._turn is not None:
            await asyncio.wait({self._turn}, timeout=seconds)

    async def in_time(self, sending: Awaitable[None]) -> bool:
        """Send a part of a page; return whether its client took it in time.

        It need not hurry without a slot. With one it takes something in `STALLED` seconds, and the
        whole page in that time and the time that `SLOWEST` takes.
        """
        if not self.has_slot:
            await sending
            return True
        bound = asyncio.timeout_at(min(self._until, asyncio.get_running_loop().time() + STALLED))
        try:
            async with bound:
                await sending
        except TimeoutError:
            if not bound.expired():
                raise
            return False
        return True

    def leave(self) -> None:
        """Give the slot back, or leave the line."""
        turn, self._turn = self._turn, None
        if turn is not None:
            self._slots.withdraw(self._tenant, turn)
