"""Slots for what is large: how much is in memory at once, and whose is next."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PAGES_AT_ONCE = 3  # each may have a few megabytes in memory, in several copies
RECORDS_AT_ONCE = 6  # that are read, for nobody knows before how large one is
LARGE_STEPS_AT_ONCE = 1  # that are read, whose values take a hundred megabytes
LARGE_ANSWERS = 12  # that are sent at once, each of them as large as a record may be
LARGE_PAGES = 12  # of streams that are sent at once, each with an event as large as it may be


class TenantSlots:
    """Slots that tenants take in turn, so that one with many requests keeps no other from its own.

    A request that is cancelled while it waits leaves the line.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """The number of those that wait for a slot."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def hold(self, tenant: str) -> AsyncIterator[None]:
        """Hold a slot, which is waited for."""
        await self.take(tenant)
        try:
            yield
        finally:
            self.give_back()

    def take_free(self) -> bool:
        """Take a slot where one is free; return whether it was."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    async def take(self, tenant: str) -> None:
        """Take a slot, which is waited for."""
        if self.take_free():
            return
        turn = self.ask(tenant)
        try:
            await turn
        except asyncio.CancelledError:
            self.withdraw(tenant, turn)  # It may have its turn in the very moment of its end.
            raise

    def ask(self, tenant: str) -> asyncio.Future[None]:
        """Return the turn of one that wants a slot: it has that once its turn is done."""
        turn = asyncio.get_running_loop().create_future()
        if self.take_free():
            turn.set_result(None)
        else:
            self._waiting.setdefault(tenant, deque()).append(turn)
        return turn

    def withdraw(self, tenant: str, turn: asyncio.Future[None]) -> None:
        """Give back the slot of a turn, or leave the line before it comes."""
        if turn.done() and not turn.cancelled():
            self.give_back()
        else:
            turn.cancel()
            self._leave(tenant, turn)

    def _leave(self, tenant: str, turn: asyncio.Future[None]) -> None:
        line = self._waiting.get(tenant, deque())
        if turn not in line:
            return  # It was passed over already.
        line.remove(turn)
        if not line:
            del self._waiting[tenant]

    def give_back(self) -> None:
        """Let the next one have a slot: the first of the tenant that has waited longest.

        One that was cancelled a moment ago, and has not left the line yet, is passed over.
        """
        while self._waiting:
            tenant, line = self._waiting.popitem(last=False)
            turn = line.popleft()
            if line:
                self._waiting[tenant] = line
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
