"""The readers of a run's events: each keeps nothing but its cursor.

A reader walks over the pages of the run's tail; what the tail has dropped it reads from the store,
in pages too. So a reader costs the same whether it is fast, slow or gone.
"""

import asyncio
from collections import OrderedDict
from itertools import islice
from typing import Protocol

from prometheus_client import Gauge

from workflow_server.app.errors import StoreFailed
from workflow_server.app.reads import Reads
from workflow_server.app.streams.tail import EventTail, Page
from workflow_server.stores.base import StoreError

STORE_PAGE_EVENTS = 1_024
MAX_SHARED_POSITIONS = 10_000


class SharedPosition:
    """The one reading position of a run's readers that bring no cursor: one holds it at a time."""

    def __init__(self) -> None:
        self.cursor = -1
        self._lock = asyncio.Lock()

    @property
    def held(self) -> bool:
        """Return whether a reader holds the position."""
        return self._lock.locked()

    async def acquire(self, timeout: float) -> bool:
        """Return whether the position was free within `timeout` seconds, and is now held."""
        try:
            async with asyncio.timeout(timeout):
                return await self._lock.acquire()
        except TimeoutError:
            return False

    def release(self) -> None:
        """Let another reader hold the position."""
        self._lock.release()


class HeldPosition(Protocol):
    """A reading position that one reader holds, and moves."""

    cursor: int

    def release(self) -> None:
        """Let another reader hold the position."""


class SharedPositions:
    """The shared reading positions of runs; the least used beyond a bound are forgotten."""

    def __init__(self) -> None:
        self._positions: OrderedDict[str, SharedPosition] = OrderedDict()

    def of(self, run_id: str) -> SharedPosition:
        """Return the run's position, at its first event where no reader has moved it."""
        position = self._positions.setdefault(run_id, SharedPosition())
        self._positions.move_to_end(run_id)
        surplus = max(len(self._positions) - MAX_SHARED_POSITIONS, 0)
        for other in list(islice(self._positions, surplus)):
            if not self._positions[other].held:
                del self._positions[other]
        return position

    def look(self, run_id: str) -> SharedPosition:
        """Return the run's position as `of` does, and keep none for it where there is none."""
        return self._positions.get(run_id) or SharedPosition()

    def forget(self, run_id: str) -> None:
        """Forget the position of a run that is no more."""
        self._positions.pop(run_id, None)


class Subscription:
    """One reader of one run: a cursor that moves over its pages until the run has ended.

    `first` is the sequence of the run's first event, and `last` that of its last one, where the run
    has ended and is not live. A cursor from an earlier run reads all events.
    """

    # Thousands of them may be open, and quiet.
    __slots__ = (
        *("run_id", "cursor", "_reads", "_tail", "_last"),
        *("_position", "_readers", "_opened"),
    )

    def __init__(
        self,
        run_id: str,
        *,
        reads: Reads,
        tail: EventTail | None,
        after: int,
        first: int = 0,
        last: int,
        readers: Gauge | None = None,
    ) -> None:
        self.run_id = run_id
        self.cursor = max(after, first - 1)
        self._reads = reads
        self._tail = tail
        self._last = last
        self._position: HeldPosition | None = None
        self._readers = readers
        self._opened = False

    @property
    def exhausted(self) -> bool:
        """Return whether nothing more is read: the run has ended, or the server stops."""
        return self.complete or (self._tail is not None and self._tail.closed)

    @property
    def dismissed(self) -> bool:
        """Return whether the reader is sent away although there may be more events."""
        return self.exhausted and not self.complete

    @property
    def complete(self) -> bool:
        """Return whether the run has ended and nothing is left after the cursor."""
        if self._tail is None:
            return self.cursor >= self._last
        return self._tail.ended and self.cursor >= self._tail.last

    async def next_pages(self, *, timeout: float | None) -> list[Page]:
        """Return the pages that are there; none after `timeout` seconds without one.

        Raises `StoreFailed` where the stream cannot go on.
        """
        while not self.exhausted:
            pages = await self._read()
            if pages:
                self.cursor = pages[-1].last
                return pages
            if self._tail is None or self._tail.ended:
                # Purged, or dropped by retention, while it was read: there is nothing more.
                self._tail, self._last = None, self.cursor
                break
            if self._tail.failed:
                raise StoreFailed("The store has failed; the stream cannot go on for now.")
            await self._tail.wait(timeout)
            if timeout is not None and self.cursor >= self._tail.last:
                return []
        return []

    def go_back(self, cursor: int) -> None:
        """Read again what comes after a cursor: its pages were not sent."""
        self.cursor = cursor

    async def _read(self) -> list[Page]:
        if self._tail is not None:
            if self.cursor >= self._tail.last:
                return []
            pages = self._tail.pages_after(self.cursor)
            if pages is not None:
                return pages
        return await self._read_store()

    async def _read_store(self) -> list[Page]:
        try:
            events = await self._reads.bound(
                self._reads.store.read_events(
                    self.run_id, after=self.cursor, limit=STORE_PAGE_EVENTS
                )
            )
        except StoreError as error:
            raise StoreFailed("The store has failed; the stream cannot go on for now.") from error
        return [Page(events)] if events else []

    def share(self, position: HeldPosition) -> None:
        """Move a position along that the reader holds, and give it back at the end."""
        self._position = position

    def delivered(self, cursor: int) -> None:
        """Note that all events up to the cursor were sent."""
        if self._position is not None:
            self._position.cursor = cursor

    def open(self) -> None:
        """Count the reader among those who read, until it closes."""
        if self._readers is not None and not self._opened:
            self._opened = True
            self._readers.inc()

    def close(self) -> None:
        """Give back what the reader held; closing twice does nothing."""
        if self._readers is not None and self._opened:
            self._opened = False
            self._readers.dec()
        position, self._position = self._position, None
        if position is not None:
            position.release()
