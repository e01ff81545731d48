"""The store for tests and throw-away runs: nothing outlives the process."""

import bisect
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TypeVar

from workflow_server.schemas.records import (
    Batch,
    DueRun,
    EventRecord,
    HandlerKey,
    HandlerQuery,
    InboxRecord,
    PayloadRecord,
    Phase,
    PhaseCount,
    RunPosition,
    RunRecord,
    SnapshotRecord,
    StateRecord,
    Status,
    StoredState,
    TickPage,
    TickRecord,
    UnfinishedRun,
)
from workflow_server.schemas.times import to_micros
from workflow_server.stores.base import Store

DEFAULT_MAX_ENDED_HANDLERS = 1_000

Row = TypeVar("Row", EventRecord, TickRecord)


@dataclass(slots=True)
class _Run:
    record: RunRecord
    events: list[EventRecord] = field(default_factory=list)
    ticks: list[TickRecord] = field(default_factory=list)
    state: StateRecord | None = None
    changes: dict[int, bytes] = field(default_factory=dict)
    snapshot: SnapshotRecord | None = None
    inbox: list[InboxRecord] = field(default_factory=list)
    payloads: dict[int, PayloadRecord] = field(default_factory=dict)


def _position(record: RunRecord) -> tuple[datetime, str]:
    return record.handler_created_at, record.handler_id


def _run_position(record: RunRecord) -> tuple[datetime, str]:
    return record.started_at, record.run_id


class MemoryStore(Store):
    """Keeps runs in dictionaries.

    Ended handlers beyond `max_ended_handlers` are dropped with all that belongs to them, the one
    that ended first first. It has as many methods as the contract, and one for each kind of record.
    """

    def __init__(self, *, max_ended_handlers: int = DEFAULT_MAX_ENDED_HANDLERS) -> None:
        self._max_ended_handlers = max_ended_handlers
        self._runs: dict[str, _Run] = {}
        self._runs_of: dict[HandlerKey, list[str]] = {}
        self._orders: dict[str, list[tuple[datetime, str]]] = {}  # by tenant
        self._ended: OrderedDict[HandlerKey, None] = OrderedDict()
        # In order, by phase and workflow, and by phase alone.
        self._unfinished: dict[tuple[Phase, str | None], list[UnfinishedRun]] = {}
        self._due: list[DueRun] = []

    async def start(self) -> None:
        """Do nothing: there is nothing to open."""

    async def stop(self) -> None:
        """Do nothing: what was committed stays until the process ends."""

    async def check(self) -> None:
        """Return: memory can always be reached."""

    async def commit(self, batch: Batch) -> None:
        for record in batch.runs.values():
            self._put_run(record)
        for event in batch.events:
            _append(self._runs[event.run_id].events, event)
        for tick in batch.ticks:
            _append(self._runs[tick.run_id].ticks, tick)
        for state in batch.states.values():
            self._put_state(state)
        for change in batch.changes:
            run = self._runs[change.run_id]
            if run.state is not None and change.number >= run.state.first_change:
                run.changes.setdefault(change.number, change.change)
        for snapshot in batch.snapshots.values():
            self._put_snapshot(snapshot)
        for item in batch.inbox:
            inbox = self._runs[item.run_id].inbox
            if not inbox or inbox[-1].number < item.number:
                inbox.append(item)
        for payload in batch.payloads:
            self._runs[payload.run_id].payloads.setdefault(payload.number, payload)
        for run_id, number in batch.dropped:
            if run_id in self._runs:
                self._runs[run_id].payloads.pop(number, None)
        for run_id in batch.cleared | batch.superseded:
            if run_id in self._runs:
                self._runs[run_id].payloads.clear()
        for run_id, number in batch.taken.items():
            if run_id in self._runs:
                run = self._runs[run_id]
                run.inbox = [item for item in run.inbox if item.number > number]
        for run_id in batch.finished | batch.superseded:
            if run_id in self._runs:
                run = self._runs[run_id]
                run.ticks, run.snapshot, run.inbox = [], None, []
        for run_id in batch.superseded:
            if run_id in self._runs:
                self._runs[run_id].state, self._runs[run_id].changes = None, {}
        for key in batch.purged:
            self._purge(key)
        for run_id in batch.purged_runs:
            self._purge_superseded(run_id)
        while len(self._ended) > self._max_ended_handlers:
            self._purge(next(iter(self._ended)))

    def _put_run(self, record: RunRecord) -> None:
        run = self._runs.get(record.run_id)
        if run is None:
            self._runs[record.run_id] = _Run(record)
            self._add_to_handler(record)
        else:
            self._leave_places(run.record)
            run.record = record
        self._take_places(record)
        if not record.current:
            return
        if record.status is Status.RUNNING:
            self._ended.pop(record.key, None)
        else:
            self._ended[record.key] = None

    def _take_places(self, record: RunRecord) -> None:
        """Put a run where it is found by its phase, and by its timer."""
        if record.status is not Status.RUNNING:
            return
        place = UnfinishedRun(record.accepted, record.run_id)
        for workflow_name in (None, record.workflow_name):
            bisect.insort(self._unfinished.setdefault((record.phase, workflow_name), []), place)
        if record.phase is Phase.WAITING and record.due_at is not None:
            bisect.insort(self._due, DueRun(to_micros(record.due_at), record.run_id))

    def _leave_places(self, record: RunRecord) -> None:
        if record.status is not Status.RUNNING:
            return
        place = UnfinishedRun(record.accepted, record.run_id)
        for workflow_name in (None, record.workflow_name):
            places = self._unfinished[record.phase, workflow_name]
            del places[bisect.bisect_left(places, place)]
            if not places:
                del self._unfinished[record.phase, workflow_name]
        if record.phase is Phase.WAITING and record.due_at is not None:
            due = DueRun(to_micros(record.due_at), record.run_id)
            del self._due[bisect.bisect_left(self._due, due)]

    def _add_to_handler(self, record: RunRecord) -> None:
        runs = self._runs_of.get(record.key)
        if runs is not None:
            runs.append(record.run_id)
            return
        self._runs_of[record.key] = [record.run_id]
        bisect.insort(self._orders.setdefault(record.tenant, []), _position(record))

    def _put_state(self, state: StateRecord) -> None:
        run = self._runs[state.run_id]
        run.state = state
        first = state.first_change
        run.changes = {number: run.changes[number] for number in run.changes if number >= first}

    def _put_snapshot(self, snapshot: SnapshotRecord) -> None:
        run = self._runs[snapshot.run_id]
        run.snapshot = snapshot
        run.ticks = [tick for tick in run.ticks if tick.sequence >= snapshot.tick_sequence]

    def _purge(self, key: HandlerKey) -> None:
        run_ids = self._runs_of.pop(key, None)
        if run_ids is None:
            return
        first = self._runs[run_ids[0]].record
        order = self._orders[first.tenant]
        del order[bisect.bisect_left(order, _position(first))]
        if not order:
            del self._orders[first.tenant]
        for run_id in run_ids:
            self._leave_places(self._runs.pop(run_id).record)
        self._ended.pop(key, None)

    def _purge_superseded(self, run_id: str) -> None:
        run = self._runs.get(run_id)
        if run is not None and not run.record.current:
            del self._runs[run_id]
            self._runs_of[run.record.key].remove(run_id)
            self._leave_places(run.record)

    async def get_handler(self, key: HandlerKey) -> RunRecord | None:
        run_ids = self._runs_of.get(key)
        return self._runs[run_ids[-1]].record if run_ids else None

    async def get_run(self, run_id: str) -> RunRecord | None:
        run = self._runs.get(run_id)
        return run.record if run else None

    async def list_handlers(self, query: HandlerQuery) -> Sequence[RunRecord]:
        order = self._orders.get(query.tenant, [])
        end = len(order)
        if query.after is not None:
            end = bisect.bisect_left(order, (query.after.created_at, query.after.handler_id))
        page: list[RunRecord] = []
        for index in range(end - 1, -1, -1):
            key = HandlerKey(query.tenant, order[index][1])
            record = self._runs[self._runs_of[key][-1]].record
            if _matches(record, query):
                page.append(record)
                if len(page) == query.limit:
                    break
        return page

    async def list_runs(
        self, key: HandlerKey, *, after: RunPosition | None, limit: int
    ) -> Sequence[RunRecord]:
        records = [self._runs[run_id].record for run_id in self._runs_of.get(key, ())]
        records.sort(key=_run_position, reverse=True)
        if after is not None:
            bound = after.started_at, after.run_id
            records = [record for record in records if _run_position(record) < bound]
        return records[:limit]

    async def list_unfinished(
        self,
        phase: Phase,
        *,
        workflow_name: str | None = None,
        after: UnfinishedRun | None = None,
        limit: int,
    ) -> Sequence[UnfinishedRun]:
        places = self._unfinished.get((phase, workflow_name), [])
        start = bisect.bisect_right(places, after) if after is not None else 0
        return places[start : start + limit]

    async def list_not_resumable(
        self, *, after: UnfinishedRun | None = None, limit: int
    ) -> Sequence[UnfinishedRun]:
        places = self._unfinished.get((Phase.WAITING, None), [])
        start = bisect.bisect_right(places, after) if after is not None else 0
        found = (
            place
            for place in places[start:]
            if self._runs[place.run_id].record.not_resumable_because is not None
        )
        return list(islice(found, limit))

    async def list_due(self, *, after: DueRun | None = None, limit: int) -> Sequence[DueRun]:
        start = bisect.bisect_right(self._due, after) if after is not None else 0
        return self._due[start : start + limit]

    async def count_unfinished(self) -> Sequence[PhaseCount]:
        return [
            PhaseCount(
                phase,
                workflow_name,
                runs=len(places),
                slots=sum(self._runs[place.run_id].record.slot for place in places),
            )
            for (phase, workflow_name), places in self._unfinished.items()
            if workflow_name is not None and places
        ]

    async def last_accepted(self) -> int:
        return max((places[-1].accepted for places in self._unfinished.values()), default=0)

    async def list_ended(self, *, before: datetime, limit: int) -> Sequence[HandlerKey]:
        ended: list[tuple[datetime, HandlerKey]] = []
        for key in self._ended:
            completed_at = self._runs[self._runs_of[key][-1]].record.completed_at
            if completed_at is not None and completed_at < before:
                ended.append((completed_at, key))
        return [key for _, key in sorted(ended)[:limit]]

    async def list_superseded(self, *, before: datetime, limit: int) -> Sequence[str]:
        ended = [
            (record.completed_at, record.run_id)
            for record in (run.record for run in self._runs.values())
            if not record.current and record.completed_at and record.completed_at < before
        ]
        return [run_id for _, run_id in sorted(ended)[:limit]]

    async def next_sequence(self, run_id: str) -> int:
        run = self._runs.get(run_id)
        if run is None:
            return 0
        return run.events[-1].sequence + 1 if run.events else run.record.first_sequence

    async def read_events(self, run_id: str, *, after: int, limit: int) -> Sequence[EventRecord]:
        run = self._runs.get(run_id)
        return _after(run.events, after, limit) if run else ()

    async def read_ticks(self, run_id: str, *, after: int, limit: int) -> TickPage:
        run = self._runs.get(run_id)
        found = _after(run.ticks, after, limit + 1) if run else []
        return TickPage(found[:limit], is_last=len(found) <= limit)

    async def read_payloads(
        self, run_id: str, *, after: int, limit: int
    ) -> Sequence[PayloadRecord]:
        run = self._runs.get(run_id)
        numbers = sorted(number for number in run.payloads if number > after) if run else ()
        return [run.payloads[number] for number in numbers[:limit]] if run else ()

    async def read_inbox(self, run_id: str) -> Sequence[InboxRecord]:
        run = self._runs.get(run_id)
        return list(run.inbox) if run else ()

    async def get_state(self, run_id: str) -> StoredState | None:
        run = self._runs.get(run_id)
        if run is None or run.state is None:
            return None
        numbers = sorted(run.changes)
        next_change = numbers[-1] + 1 if numbers else run.state.first_change
        changes = tuple(run.changes[number] for number in numbers)
        return StoredState(run.state.state, changes, next_change)

    async def get_snapshot(self, run_id: str) -> SnapshotRecord | None:
        run = self._runs.get(run_id)
        return run.snapshot if run else None


def _append(rows: list[Row], row: Row) -> None:
    if not rows or rows[-1].sequence < row.sequence:
        rows.append(row)


def _after(rows: list[Row], after: int, limit: int) -> list[Row]:
    start = bisect.bisect_right(rows, after, key=lambda row: row.sequence)
    return rows[start : start + limit]


def _matches(record: RunRecord, query: HandlerQuery) -> bool:
    running = record.status is Status.RUNNING
    if query.waiting and not (record.questions and running):
        return False
    if query.statuses and record.status not in query.statuses:
        return False
    if query.phases and (record.phase if running else Phase.ENDED) not in query.phases:
        return False
    return not query.workflow_names or record.workflow_name in query.workflow_names
