"""Readers that come, read, pause, go and come back: each gets every event after its cursor once.

The machine publishes in batches of all sizes, over bounds so small that the tail soon drops pages
and readers go on from the store, whose reads take so long that more is published meanwhile.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.properties.values import SETTINGS
from workflow_server.app.errors import StoreFailed
from workflow_server.app.reads import Reads
from workflow_server.app.streams import subscription, tail
from workflow_server.app.streams.subscription import SharedPosition, Subscription
from workflow_server.app.streams.tail import EventTail, Page
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.records import Batch, EventRecord, RunRecord
from workflow_server.stores.memory import MemoryStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = RunRecord(
    run_id="run",
    handler_id="handler",
    handler_created_at=NOW,
    workflow_name="workflow",
    started_at=NOW,
    updated_at=NOW,
)
FIRST = 7  # the sequence of the run's first event
TURNS = 12  # of the event loop: more than any step of a reader takes


class SlowStore(MemoryStore):
    """Answers after some turns of the event loop."""

    async def read_events(self, run_id: str, *, after: int, limit: int) -> Sequence[EventRecord]:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        events = await super().read_events(run_id, after=after, limit=limit)
        await asyncio.sleep(0)
        return events


@dataclass(eq=False)
class Reader:
    """A reader, the sequence before the first one that it must get, and what it has got."""

    subscription: Subscription
    after: int
    is_shared: bool = False
    got: list[EventRecord] = field(default_factory=list)
    reading: asyncio.Task[list[Page]] | None = None


class Streams(RuleBasedStateMachine):
    """One run, and its readers."""

    readers = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = SlowStore()
        self.tail = EventTail(last=FIRST - 1)
        self.events: list[EventRecord] = []
        self.open: list[Reader] = []
        self.position = SharedPosition()
        self.shared: list[EventRecord] = []
        self.ended = False
        self.commit()

    def commit(self, *events: EventRecord) -> None:
        batch = Batch(runs={RUN.run_id: RUN}, events=list(events))
        self.loop.run_until_complete(self.store.commit(batch))

    @property
    def last(self) -> int:
        """The sequence of the last event."""
        return FIRST + len(self.events) - 1

    def due(self, reader: Reader) -> list[EventRecord]:
        """Return what a reader gets, in the end."""
        return self.events[reader.after + 1 - FIRST :]

    def turn(self, turns: int) -> None:
        """Let the event loop go round."""

        async def turn() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turn())

    @precondition(lambda self: not self.ended)
    @rule(sizes=st.lists(st.integers(0, 12), min_size=1, max_size=9), turns=st.integers(0, 3))
    def publish(self, sizes: list[int], turns: int) -> None:
        """Show a commit of some events, of these sizes in bytes."""
        first = FIRST + len(self.events)
        batch = [
            EventRecord(RUN.run_id, first + index, b"x" * size, internal=False)
            for index, size in enumerate(sizes)
        ]
        self.commit(*batch)
        self.events += batch
        self.tail.publish(batch)
        self.turn(turns)

    @rule(target=readers, after=st.integers(-3, 40) | st.just(10**30), live=st.booleans())
    def subscribe(self, after: int, live: bool) -> Reader:
        """Begin after a cursor; once the run has ended, also as one that is no longer live."""
        return self.open_reader(after, live=live)

    @rule(target=readers)
    def subscribe_now(self) -> Reader:
        """Begin after the latest event."""
        return self.open_reader(self.last, live=True)

    @rule(reader=readers)
    def come_back(self, reader: Reader) -> None:
        """Be cut off, perhaps in the middle of a read, and go on after the last event."""
        self.interrupt(reader)
        reader.subscription.close()
        after = self.position.cursor if reader.is_shared else reader.after + len(reader.got)
        reader.subscription = self.subscription(after, live=True)
        if reader.is_shared:
            assert self.loop.run_until_complete(self.position.acquire(0))
            reader.subscription.share(self.position)

    @precondition(lambda self: not self.position.held)
    @rule(target=readers)
    def subscribe_shared(self) -> Reader:
        """Take the shared reading position, and go on where the one before was."""
        assert self.loop.run_until_complete(self.position.acquire(0))
        assert self.position.cursor == (self.shared[-1].sequence if self.shared else -1)
        reader = self.open_reader(self.position.cursor, live=True)
        reader.subscription.share(self.position)
        reader.is_shared = True
        return reader

    def open_reader(self, after: int, *, live: bool) -> Reader:
        reader = Reader(self.subscription(after, live=live), max(after, FIRST - 1))
        self.open.append(reader)
        return reader

    def subscription(self, after: int, *, live: bool) -> Subscription:
        last = self.last if self.ended else -1
        tail = None if self.ended and not live else self.tail
        reads = Reads(self.store, Metrics())
        return Subscription(RUN.run_id, reads=reads, tail=tail, after=after, first=FIRST, last=last)

    @rule(reader=readers, turns=st.integers(0, TURNS))
    def read(self, reader: Reader, turns: int) -> None:
        """Ask for pages, unless that is being done already, and let some time pass."""
        if reader.reading is None:
            reader.reading = self.loop.create_task(reader.subscription.next_pages(timeout=None))
        self.turn(turns)
        self.collect(reader)

    @rule(reader=readers)
    def interrupt(self, reader: Reader) -> None:
        """Cancel a read, as a heartbeat's timer or a disconnect may; nothing is lost."""
        if reader.reading is not None:
            reader.reading.cancel()
            self.turn(2)
            self.collect(reader)

    @rule(reader=consumes(readers))
    def leave(self, reader: Reader) -> None:
        """Go, in the middle of the stream or at its end."""
        self.interrupt(reader)
        reader.subscription.close()
        self.open.remove(reader)

    @precondition(lambda self: not self.ended)
    @rule()
    def release(self) -> None:
        """Leave memory, and return with a tail that has no pages; all readers come back."""
        self.tail = EventTail(last=self.last)
        for reader in self.open:
            self.come_back(reader)

    @precondition(lambda self: not self.ended)
    @rule()
    def end(self) -> None:
        """End the run."""
        self.ended = True
        self.tail.end()

    def collect(self, reader: Reader) -> None:
        """Take what a read has brought."""
        if reader.reading is None or not reader.reading.done():
            return
        task, reader.reading = reader.reading, None
        if task.cancelled():
            return
        for page in task.result():
            reader.got += page.events
            if reader.is_shared:
                self.shared += page.events
                reader.subscription.delivered(page.last)

    @invariant()
    def nobody_misses_or_repeats_an_event(self) -> None:
        for reader in self.open:
            self.collect(reader)
            due = self.due(reader)
            assert reader.got == due[: len(reader.got)]
        assert self.shared == self.events[: len(self.shared)]

    @invariant()
    def an_exhausted_reader_has_got_everything(self) -> None:
        for reader in self.open:
            self.collect(reader)
            if reader.subscription.exhausted:
                assert self.ended
                assert reader.got == self.due(reader)

    def teardown(self) -> None:
        """End the run: every reader gets all that is left, is exhausted, and leaves no task."""
        try:
            self.tail.end()
            self.ended = True
            for reader in list(self.open):
                while not reader.subscription.exhausted:
                    self.read(reader, TURNS)
                self.nobody_misses_or_repeats_an_event()
                self.an_exhausted_reader_has_got_everything()
                self.leave(reader)
            assert not self.position.held
            assert asyncio.all_tasks(self.loop) == set()
        finally:
            self.loop.close()


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the tail drop pages, and the store give small ones, after a handful of events."""
    monkeypatch.setattr(tail, "TAIL_BYTES", 60)
    monkeypatch.setattr(tail, "TAIL_EVENTS", 7)
    monkeypatch.setattr(subscription, "STORE_PAGE_EVENTS", 3)


@pytest.mark.usefixtures("small_bounds")
def test_every_reader_gets_every_event_after_its_cursor_once_and_in_order() -> None:
    run_state_machine_as_test(
        Streams, settings=settings(SETTINGS, max_examples=150, stateful_step_count=30)
    )


@pytest.mark.usefixtures("small_bounds")
async def test_a_failed_store_ends_a_stream_with_an_error_after_what_was_committed() -> None:
    store, tail = MemoryStore(), EventTail()
    events = [EventRecord(RUN.run_id, sequence, b"{}", internal=False) for sequence in range(20)]
    await store.commit(Batch(runs={RUN.run_id: RUN}, events=events))
    reads = Reads(store, Metrics())
    subscription = Subscription(RUN.run_id, reads=reads, tail=tail, after=-1, last=-1)
    tail.publish(events[:10])
    tail.publish(events[10:])
    tail.fail()
    read: list[EventRecord] = []
    while len(read) < len(events):
        read += [e for page in await subscription.next_pages(timeout=60) for e in page.events]
    with pytest.raises(StoreFailed):
        await subscription.next_pages(timeout=60)
    assert read == events
