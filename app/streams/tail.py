"""The tail of a run: its latest committed events in pages, for all readers."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from workflow_server.schemas.records import EventRecord

TAIL_BYTES = 1 << 21
TAIL_EVENTS = 4_096
PAGE_BYTES = 1 << 17  # after which a page takes no more events
READ_BYTES = 1 << 17  # after which a reader takes no further page: one that is stuck keeps these


@dataclass(slots=True)
class Page:
    """Some events of a run in order, and their frames, made once for all readers of a format."""

    events: Sequence[EventRecord]
    frames: dict[object, Sequence[bytes]] = field(default_factory=dict)
    size: int = field(init=False)  # bytes of the envelopes

    def __post_init__(self) -> None:
        self.size = sum([len(event.envelope) for event in self.events])

    @property
    def first(self) -> int:
        """The sequence of the first event."""
        return self.events[0].sequence

    @property
    def last(self) -> int:
        """The sequence of the last event."""
        return self.events[-1].sequence

    def after(self, cursor: int) -> "Page":
        """Return the part of the page after a cursor inside it; the page itself before it."""
        if cursor < self.first:
            return self
        return Page(self.events[cursor - self.first + 1 :])


class EventTail:
    """The latest committed events of a live run, and the readers that wait for more.

    `last` is the sequence of the run's last committed event; it may be `known` later, by `reach`.
    """

    def __init__(self, *, last: int = -1, known: bool = True) -> None:
        self.last = last
        self.known = known
        self.ended = False
        self.failed = False
        self.closed = False
        self._pages: deque[Page] = deque()
        self._events = 0
        self._bytes = 0
        self._waiters: set[asyncio.Future[None]] = set()

    def publish(self, events: Sequence[EventRecord]) -> None:
        """Show committed events to all readers."""
        if not events:
            return
        for page in _split(events):
            self._pages.append(page)
            self._bytes += page.size
        self._events += len(events)
        self.last = events[-1].sequence
        while len(self._pages) > 1 and (self._bytes > TAIL_BYTES or self._events > TAIL_EVENTS):
            dropped = self._pages.popleft()
            self._events -= len(dropped.events)
            self._bytes -= dropped.size
        self._wake()

    def reach(self, last: int) -> None:
        """Take in that the store has events up to the last one, or had when it was asked."""
        self.known = True
        if last > self.last:
            # What is in memory would be followed by a gap.
            self._pages.clear()
            self._events = self._bytes = 0
            self.last = last
            self._wake()

    def end(self) -> None:
        """Say that no more events come."""
        self.ended = True
        self._wake()

    def fail(self) -> None:
        """Say that the store has failed, so that nobody waits for what may never be written."""
        self.failed = True
        self._wake()

    def close(self) -> None:
        """Send the readers away, though more events may come: the server stops."""
        self.closed = True
        self._wake()

    @property
    def size(self) -> int:
        """The bytes of the envelopes that are still in memory."""
        return self._bytes

    def pages_after(self, cursor: int) -> list[Page] | None:
        """Return the next pages after a cursor, of `READ_BYTES` or a little more.

        None where the tail no longer reaches back to the cursor.
        """
        if not self._pages or cursor + 1 < self._pages[0].first:
            return None
        pages: list[Page] = []
        size = 0
        for page in self._pages:
            if size >= READ_BYTES:
                break
            if page.last > cursor:
                pages.append(page.after(cursor))
                size += page.size
        return pages

    async def wait(self, timeout: float | None) -> None:
        """Return at the next change, or after `timeout` seconds."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.add(waiter)
        timer = loop.call_later(timeout, _resolve, waiter) if timeout else None
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        for waiter in self._waiters:
            _resolve(waiter)


def _split(events: Sequence[EventRecord]) -> Iterator[Page]:
    """Yield the events of a commit in pages, of which but those with large events are small."""
    whole = Page(events)
    if whole.size <= PAGE_BYTES:
        yield whole
        return
    start = size = 0
    for end, event in enumerate(events, start=1):
        size += len(event.envelope)
        if size >= PAGE_BYTES or end == len(events):
            yield Page(events[start:end])
            start, size = end, 0


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
