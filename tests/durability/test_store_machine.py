"""Every store, held to a model of a few lists through any sequence of commits and restarts."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from tests.support.backends import FRESH_URLS
from tests.support.records import claim_runs, ended_of
from workflow_server.schemas.listings import HandlerPosition, HandlerQuery, RunPosition
from workflow_server.schemas.records import (
    Batch,
    DueRun,
    EventRecord,
    HandlerKey,
    Idle,
    InboxRecord,
    PayloadRecord,
    Phase,
    PhaseCount,
    RunRecord,
    SnapshotRecord,
    StateChangeRecord,
    StateRecord,
    Status,
    StoredState,
    TickRecord,
    UnfinishedRun,
)
from workflow_server.schemas.times import to_micros
from workflow_server.stores.backends import open_store
from workflow_server.stores.base import Store

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
PAGE = 3
HANDLERS = "abcde"
UNFINISHED = (Phase.QUEUED, Phase.WORKING, Phase.WAITING, Phase.HELD)
ENDS = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


@dataclass
class Known:
    """What a store must know of one run."""

    record: RunRecord
    events: list[EventRecord] = field(default_factory=list)
    ticks: list[TickRecord] = field(default_factory=list)
    next_tick: int = 0
    state: StoredState | None = None
    snapshot: SnapshotRecord | None = None
    inbox: list[InboxRecord] = field(default_factory=list)
    next_delivery: int = 0
    payloads: list[PayloadRecord] = field(default_factory=list)
    next_payload: int = 0

    @property
    def next_sequence(self) -> int:
        """Return the sequence of the run's next event."""
        return self.record.first_sequence + len(self.events)

    def finish(self) -> None:
        """Keep nothing of what only a run that goes on needs."""
        self.ticks, self.snapshot, self.inbox = [], None, []


class StoreMachine(RuleBasedStateMachine):
    """One writer commits batches, as the journals do; after each step all reads are compared."""

    kind: str

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._fresh = AsyncExitStack()
        self._store: Store
        self._known: dict[str, Known] = {}
        self._gone: set[str] = set()
        self._batch = Batch()
        self._clock = 0

    @initialize()
    def open(self) -> None:
        """Open a fresh store."""
        folder = Path(self._fresh.enter_context(TemporaryDirectory()))
        enter = self._fresh.enter_async_context(FRESH_URLS[self.kind](folder))
        self._store = open_store(self._runner.run(enter))
        self._runner.run(self._store.start())

    def teardown(self) -> None:
        """Close the store and remove it."""
        self._runner.run(self._store.stop())
        self._runner.run(self._fresh.aclose())
        self._runner.close()

    # What journals write; it reaches the store with the next commit.

    @rule(handler_id=st.sampled_from(HANDLERS), workflow=st.sampled_from(["v", "w"]))
    def begin(self, handler_id: str, workflow: str) -> None:
        """Accept a run of a handler, new or ended."""
        previous = self._current(handler_id)
        if previous is not None and previous.record.status is Status.RUNNING:
            return
        now = self._now()
        record = RunRecord(
            run_id=f"{handler_id}{self._clock}",
            handler_id=handler_id,
            handler_created_at=previous.record.handler_created_at if previous else now,
            workflow_name=workflow,
            started_at=now,
            updated_at=now,
            accepted=self._clock // 2,  # often that of another one, whose id then decides
            first_sequence=previous.record.next_sequence if previous else 0,
        )
        if previous is not None:
            self._write(replace(previous.record, current=False))
            previous.finish()
            previous.state, previous.payloads = None, []
            self._batch.superseded.add(previous.record.run_id)
        self._known[record.run_id] = Known(record)
        self._write(record)

    @rule(handler_id=st.sampled_from(HANDLERS), count=st.integers(1, 5), state=st.binary())
    def work(self, handler_id: str, count: int, state: bytes) -> None:
        """Let a run emit events, reduce ticks and leave a state."""
        run = self._running(handler_id)
        if run is None:
            return
        run_id = run.record.run_id
        for _ in range(count):
            sequence = run.next_sequence
            envelope = b'{"n":%d}' % sequence
            emitted_at = self._clock if count % 2 else None
            record = EventRecord(run_id, sequence, envelope, sequence % 2 == 0, emitted_at)
            run.events.append(record)
            run.ticks.append(TickRecord(run_id, run.next_tick, b"tick"))
            self._batch.events.append(run.events[-1])
            self._batch.ticks.append(run.ticks[-1])
            run.next_tick += 1
        if run.state is None or not count % 3:
            first = run.state.next_change if run.state is not None else 0
            run.state = StoredState(state, (), first)
            replaces = first > 0
            self._batch.states[run_id] = StateRecord(run_id, state, first, replaces)
        else:
            number = run.state.next_change
            self._batch.changes.append(StateChangeRecord(run_id, number, state))
            run.state = StoredState(run.state.state, (*run.state.changes, state), number + 1)

    @rule(
        handler_id=st.sampled_from(HANDLERS),
        phase=st.sampled_from(UNFINISHED),
        slot=st.booleans(),
        due=st.none() | st.integers(0, 5),
    )
    def move(self, handler_id: str, phase: Phase, slot: bool, due: int | None) -> None:
        """Let a run be in another phase, and have a timer if it waits."""
        run = self._running(handler_id)
        if run is None:
            return
        waits = phase is Phase.WAITING
        due_at = NOON + timedelta(seconds=due) if waits and due is not None else None
        idle = Idle(since=NOON, wake_at=due_at) if waits else None
        self._write(replace(run.record, phase=phase, slot=slot, idle=idle, due_at=due_at))

    @rule(handler_id=st.sampled_from(HANDLERS), count=st.integers(1, 3))
    def deliver(self, handler_id: str, count: int) -> None:
        """Put events into a run's inbox."""
        run = self._running(handler_id)
        if run is None:
            return
        for _ in range(count):
            run.inbox.append(InboxRecord(run.record.run_id, run.next_delivery, b"delivery"))
            run.next_delivery += 1
        self._batch.inbox += run.inbox[-count:]

    @rule(handler_id=st.sampled_from(HANDLERS))
    def take(self, handler_id: str) -> None:
        """Let a run take the first event of its inbox."""
        run = self._running(handler_id)
        if run is not None and run.inbox:
            self._batch.taken[run.record.run_id] = run.inbox.pop(0).number

    @rule(handler_id=st.sampled_from(HANDLERS), count=st.integers(1, 4))
    def add_payloads(self, handler_id: str, count: int) -> None:
        """Write down large values of a run."""
        run = self._running(handler_id)
        if run is None:
            return
        for _ in range(count):
            run.payloads.append(PayloadRecord(run.record.run_id, run.next_payload, b'"large"'))
            run.next_payload += 1
        self._batch.payloads += run.payloads[-count:]

    @rule(handler_id=st.sampled_from(HANDLERS), kept=st.integers(0, 7))
    def take_snapshot(self, handler_id: str, kept: int) -> None:
        """Write a run's state whole, which drops its ticks, and payloads."""
        run = self._running(handler_id)
        if run is None:
            return
        dropped = [payload for payload in run.payloads if not kept >> (payload.number % 3) & 1]
        run.payloads = [payload for payload in run.payloads if payload not in dropped]
        self._batch.dropped += [(payload.run_id, payload.number) for payload in dropped]
        run.snapshot = SnapshotRecord(run.record.run_id, run.next_tick, b"snapshot")
        run.ticks = []
        self._batch.snapshots[run.record.run_id] = run.snapshot

    @rule(handler_id=st.sampled_from(HANDLERS), status=st.sampled_from(ENDS))
    def end(self, handler_id: str, status: Status) -> None:
        """End a run."""
        run = self._running(handler_id)
        if run is None:
            return
        now = self._now()
        run.record = replace(
            run.record,
            status=status,
            phase=Phase.ENDED,
            completed_at=now,
            result=b"{}",
            event_count=len(run.events),
            next_sequence=run.next_sequence,
            slot=False,
            idle=None,
            due_at=None,
        )
        self._write(run.record)
        if status is Status.COMPLETED:
            self._finish(run)
            run.payloads = []
            self._batch.cleared.add(run.record.run_id)

    @rule(handler_id=st.sampled_from(HANDLERS))
    def purge(self, handler_id: str) -> None:
        """Remove a handler that has ended; nothing of it is written any more."""
        current = self._current(handler_id)
        if current is None or current.record.status is Status.RUNNING:
            return
        self._batch.purged.append(ended_of(current.record))
        for run_id in [r for r, run in self._known.items() if run.record.handler_id == handler_id]:
            del self._known[run_id]
            self._gone.add(run_id)
        self.commit(times=2)

    @rule(handler_id=st.sampled_from(HANDLERS))
    def purge_superseded(self, handler_id: str) -> None:
        """Remove the first of the superseded runs of a handler."""
        runs = (run.record for run in self._known.values() if run.record.handler_id == handler_id)
        superseded = [record.run_id for record in runs if not record.current]
        if not superseded:
            return
        self._batch.purged_runs.append(superseded[0])
        del self._known[superseded[0]]
        self._gone.add(superseded[0])
        self.commit(times=2)

    # What is done to the store.

    @rule(times=st.integers(1, 2))
    def commit(self, times: int) -> None:
        """Commit what was written, once or, as after an unknown outcome, twice."""
        for _ in range(times):
            self._runner.run(self._store.commit(self._batch))
        self._batch = Batch()
        self._runner.run(self._compare())

    @rule()
    def restart(self) -> None:
        """Close the store, open it again and claim what goes on."""
        self.commit(times=1)
        self._runner.run(self._store.stop())
        self._runner.run(self._store.start())
        running = [run for run in self._known.values() if run.record.status is Status.RUNNING]
        run_ids = [run.record.run_id for run in running]
        claimed = self._runner.run(claim_runs(self._store, *run_ids))
        for run, record in zip(running, claimed, strict=True):
            run.record = replace(run.record, epoch=run.record.epoch + 1, attempted=True)
            assert record == run.record

    # What must hold of everything that was committed.

    async def _compare(self) -> None:
        await self._compare_runs()
        await self._compare_listings()
        await self._compare_unfinished()
        await self._compare_earlier_runs()

    async def _compare_runs(self) -> None:
        store = self._store
        for run_id, run in self._known.items():
            assert await store.get_run(run_id) == run.record
            assert await store.get_state(run_id) == run.state
            assert await store.get_snapshot(run_id) == run.snapshot
            assert await self._read_ticks(run_id) == run.ticks
            assert list(await store.read_inbox(run_id)) == run.inbox
            assert list(await store.read_payloads(run_id, after=-1, limit=999)) == run.payloads
            assert await store.next_sequence(run_id) == run.next_sequence
            assert await self._read_all(run_id) == run.events
        for run_id in self._gone:
            assert list(await store.read_inbox(run_id)) == []
            assert list(await store.read_payloads(run_id, after=-1, limit=1)) == []
            assert await store.get_run(run_id) is None
            assert await store.get_state(run_id) is None
            assert await store.get_snapshot(run_id) is None
            assert await store.next_sequence(run_id) == 0
        for handler_id in HANDLERS:
            current = self._current(handler_id)
            found = await store.get_handler(HandlerKey("", handler_id))
            assert found == (current.record if current else None)

    async def _compare_listings(self) -> None:
        records = sorted(
            (run.record for run in self._known.values() if run.record.current),
            key=lambda record: (record.handler_created_at, record.handler_id),
            reverse=True,
        )
        assert await self._list() == records
        completed = [record for record in records if record.status is Status.COMPLETED]
        assert await self._list(statuses=frozenset({Status.COMPLETED})) == completed
        ended = [
            record for record in records if record.status in ENDS and record.workflow_name == "w"
        ]
        assert await self._list(statuses=frozenset(ENDS), workflow_names=frozenset("w")) == ended
        before = NOON + timedelta(days=1)
        by_end = [record for record in records if record.completed_at is not None]
        by_end.sort(key=lambda record: record.completed_at or NOON)
        oldest = list(await self._store.list_ended(before=before, limit=PAGE))
        assert oldest == [ended_of(record) for record in by_end[:PAGE]]
        superseded = [run.record for run in self._known.values() if not run.record.current]
        superseded.sort(key=lambda record: record.completed_at or NOON)
        found = list(await self._store.list_superseded(before=before, limit=PAGE))
        assert found == [record.run_id for record in superseded[:PAGE]]

    async def _compare_unfinished(self) -> None:
        store = self._store
        running = [
            run.record for run in self._known.values() if run.record.status is Status.RUNNING
        ]
        for phase in UNFINISHED:
            in_phase = [record for record in running if record.phase is phase]
            places = sorted(UnfinishedRun(record.accepted, record.run_id) for record in in_phase)
            assert await self._list_unfinished(phase) == places
            of_w = sorted(
                UnfinishedRun(record.accepted, record.run_id)
                for record in in_phase
                if record.workflow_name == "w"
            )
            assert list(await store.list_unfinished(phase, workflow_name="w", limit=99)) == of_w
        due = sorted(
            DueRun(to_micros(record.due_at), record.run_id)
            for record in running
            if record.due_at is not None
        )
        assert await self._list_due() == due
        runs = Counter((record.phase, record.workflow_name) for record in running)
        slots = Counter((record.phase, record.workflow_name) for record in running if record.slot)
        counts = [PhaseCount(*key, runs=count, slots=slots[key]) for key, count in runs.items()]
        found = list(await store.count_unfinished())
        assert sorted(found, key=repr) == sorted(counts, key=repr)
        assert await store.last_accepted() == max(
            (record.accepted for record in running), default=0
        )

    async def _list_unfinished(self, phase: Phase) -> list[UnfinishedRun]:
        places: list[UnfinishedRun] = []
        while page := await self._store.list_unfinished(
            phase, after=places[-1] if places else None, limit=2
        ):
            places += page
        return places

    async def _list_due(self) -> list[DueRun]:
        places: list[DueRun] = []
        while page := await self._store.list_due(after=places[-1] if places else None, limit=2):
            places += page
        return places

    async def _read_ticks(self, run_id: str) -> list[TickRecord]:
        ticks: list[TickRecord] = []
        is_last = False
        while not is_last:
            after = ticks[-1].sequence if ticks else -1
            page = await self._store.read_ticks(run_id, after=after, limit=PAGE)
            assert page.ticks or page.is_last
            ticks, is_last = [*ticks, *page.ticks], page.is_last
        return ticks

    async def _compare_earlier_runs(self) -> None:
        for handler_id in HANDLERS:
            key = HandlerKey("", handler_id)
            records = [
                run.record for run in self._known.values() if run.record.handler_id == handler_id
            ]
            records.sort(key=lambda record: record.started_at, reverse=True)
            first = list((await self._store.list_runs(key, after=None, limit=1)).records)
            assert first == records[:1]
            for record in first:
                after = RunPosition(record.started_at, record.run_id)
                rest = (await self._store.list_runs(key, after=after, limit=1_000)).records
                assert list(rest) == records[1:]

    async def _read_all(self, run_id: str) -> list[EventRecord]:
        events: list[EventRecord] = []
        after = -1
        while page := await self._store.read_events(run_id, after=after, limit=PAGE):
            events += page
            after = page[-1].sequence
        return events

    async def _list(self, **filters: frozenset[Status] | frozenset[str]) -> list[RunRecord]:
        found: list[RunRecord] = []
        query = replace(HandlerQuery(limit=2), **filters)  # type: ignore[arg-type]  # by name
        while page := (await self._store.list_handlers(query)).records:
            found += page
            after = HandlerPosition(page[-1].handler_created_at, page[-1].handler_id)
            query = replace(query, after=after)
        return found

    def _now(self) -> datetime:
        self._clock += 1
        return NOON + timedelta(seconds=self._clock)

    def _write(self, record: RunRecord) -> None:
        self._known[record.run_id].record = record
        self._batch.runs[record.run_id] = record

    def _finish(self, run: Known) -> None:
        run.finish()
        self._batch.finished.add(run.record.run_id)

    def _current(self, handler_id: str) -> Known | None:
        runs = (run for run in self._known.values() if run.record.handler_id == handler_id)
        return next((run for run in runs if run.record.current), None)

    def _running(self, handler_id: str) -> Known | None:
        run = self._current(handler_id)
        return run if run is not None and run.record.status is Status.RUNNING else None


@pytest.mark.parametrize(("kind", "examples"), [("memory", 50), ("sqlite", 12), ("postgres", 5)])
def test_any_sequence_of_commits_leaves_what_a_model_says(kind: str, examples: int) -> None:
    machine = type("Machine", (StoreMachine,), {"kind": kind})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
