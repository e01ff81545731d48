"""The runs of the memory store, and where they are found."""

import bisect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain, islice
from typing import TypeVar

from workflow_server.schemas.listings import (
    ALL_DOCUMENTS,
    Documents,
    HandlerPosition,
    HandlerQuery,
    ListedRuns,
)
from workflow_server.schemas.records import (
    Batch,
    DueRun,
    EventRecord,
    HistoryExtent,
    HistoryRecord,
    InboxRecord,
    PayloadRecord,
    Phase,
    RunRecord,
    SnapshotRecord,
    StateChangeRecord,
    StateRecord,
    Status,
    StoredRecord,
    StoredState,
    Suspect,
    TickRecord,
    UnfinishedRun,
    list_documents,
)
from workflow_server.schemas.times import to_micros
from workflow_server.stores.base import count_fitting

Row = TypeVar("Row", EventRecord, TickRecord)


@dataclass(slots=True)
class StoredRun:
    """A run with all that belongs to it."""

    record: RunRecord
    owner: int | None
    events: list[EventRecord] = field(default_factory=list)
    ticks: list[TickRecord] = field(default_factory=list)
    state: StateRecord | None = None
    changes: dict[int, bytes] = field(default_factory=dict)
    snapshot: SnapshotRecord | None = None
    inbox: list[InboxRecord] = field(default_factory=list)
    payloads: dict[int, PayloadRecord] = field(default_factory=dict)
    history: dict[int, HistoryRecord] = field(default_factory=dict)

    @property
    def stored_state(self) -> StoredState | None:
        """The state with its changes; None where none was written."""
        if self.state is None:
            return None
        numbers = sorted(self.changes)
        next_change = numbers[-1] + 1 if numbers else self.state.first_change
        changes = tuple(self.changes[number] for number in numbers)
        return StoredState(self.state.state, changes, next_change)

    def put_state(self, state: StateRecord) -> None:
        """Replace the state, and drop the changes that it holds already."""
        self.state = state
        first = state.first_change
        self.changes = {number: self.changes[number] for number in self.changes if number >= first}

    def put_snapshot(self, snapshot: SnapshotRecord) -> None:
        """Replace the snapshot, and drop the ticks before it."""
        self.snapshot = snapshot
        self.ticks = [tick for tick in self.ticks if tick.sequence >= snapshot.tick_sequence]

    def list_records(self) -> list[StoredRecord]:
        """Return all that belongs to the run, and the run."""
        run_id, state = self.record.run_id, self.state
        records: list[StoredRecord] = [*self.events, *self.ticks]
        records += [self.payloads[number] for number in sorted(self.payloads)]
        records += [self.history[first] for first in sorted(self.history)]
        records += self.inbox
        if state is not None:
            records.append(StateRecord(run_id, state.state, state.first_change))
            records += [StateChangeRecord(run_id, *item) for item in sorted(self.changes.items())]
        if self.snapshot is not None:
            records.append(self.snapshot)
        return [*records, self.record]

    @property
    def size(self) -> int:
        """The bytes of the documents of all that."""
        return sum(len(document) for r in self.list_records() for document in list_documents(r))

    def read_payloads(self, after: int, limit: int) -> list[PayloadRecord]:
        """Return the first payloads with a number greater than `after`."""
        numbers = sorted(number for number in self.payloads if number > after)
        return [self.payloads[number] for number in numbers[:limit]]

    def put_history(self, pack: HistoryRecord) -> None:
        """Add a pack, or replace the one that begins with the same tick."""
        self.history[pack.first] = pack

    def forget_history(self, size: int) -> None:
        """Remove the packs that begin before this size of all."""
        kept = (p for p in self.history.values() if p.bytes_until - len(p.ticks) >= size)
        self.history = {pack.first: pack for pack in kept}

    def read_history(self, after: int, limit: int) -> list[HistoryRecord]:
        """Return the first packs with a tick greater than `after`."""
        packs = sorted(self.history.values(), key=lambda pack: pack.first)
        return [pack for pack in packs if pack.last > after][:limit]

    @property
    def history_extent(self) -> HistoryExtent:
        """The extent of the history."""
        if not self.history:
            return HistoryExtent()
        last = self.history[max(self.history)]
        return HistoryExtent(last.last + 1, last.bytes_until)


def position(record: RunRecord) -> tuple[datetime, str]:
    """Return the place of a handler in listings."""
    return record.handler_created_at, record.handler_id


def run_position(record: RunRecord) -> tuple[datetime, str]:
    """Return the place of a run among those of its handler."""
    return record.started_at, record.run_id


class Places:
    """Index of the unfinished runs, by their phase and by their timer.

    `unfinished` has them in order, by phase and workflow, and by phase alone.
    """

    def __init__(self) -> None:
        self.unfinished: dict[tuple[Phase, str | None], list[UnfinishedRun]] = {}
        self._due: list[DueRun] = []

    def take(self, record: RunRecord) -> None:
        """Put a run where it is found."""
        if record.status is not Status.RUNNING:
            return
        place = UnfinishedRun(record.accepted, record.run_id)
        for workflow_name in (None, record.workflow_name):
            bisect.insort(self.unfinished.setdefault((record.phase, workflow_name), []), place)
        if record.phase is Phase.WAITING and record.due_at is not None:
            bisect.insort(self._due, DueRun(to_micros(record.due_at), record.run_id))

    def leave(self, record: RunRecord) -> None:
        """Take a run away from where `take` has put it."""
        if record.status is not Status.RUNNING:
            return
        place = UnfinishedRun(record.accepted, record.run_id)
        for workflow_name in (None, record.workflow_name):
            places = self.unfinished[record.phase, workflow_name]
            del places[bisect.bisect_left(places, place)]
            if not places:
                del self.unfinished[record.phase, workflow_name]
        if record.phase is Phase.WAITING and record.due_at is not None:
            due = DueRun(to_micros(record.due_at), record.run_id)
            del self._due[bisect.bisect_left(self._due, due)]

    def list_of(
        self, phase: Phase, workflow_name: str | None, after: UnfinishedRun | None
    ) -> list[UnfinishedRun]:
        """Return the runs of a phase, and of a workflow where one is named, after a place."""
        places = self.unfinished.get((phase, workflow_name), [])
        start = bisect.bisect_right(places, after) if after is not None else 0
        return places[start:]

    def list_due(self, after: DueRun | None) -> list[DueRun]:
        """Return the waiting runs with a timer after a place, the first due first."""
        start = bisect.bisect_right(self._due, after) if after is not None else 0
        return self._due[start:]

    def list_all(self) -> list[UnfinishedRun]:
        """Return all unfinished runs, in no order."""
        by_phase = [places for (_, name), places in self.unfinished.items() if name is None]
        return list(chain.from_iterable(by_phase))

    @property
    def last_accepted(self) -> int:
        """The greatest `accepted` of all, or 0 where there are none."""
        return max((places[-1].accepted for places in self.unfinished.values()), default=0)


def append(rows: list[Row], row: Row) -> None:
    """Add a row, unless it is there already."""
    if not rows or rows[-1].sequence < row.sequence:
        rows.append(row)


def after_sequence(rows: list[Row], after: int, limit: int) -> list[Row]:
    """Return rows with a greater sequence, at most `limit`."""
    start = bisect.bisect_right(rows, after, key=lambda row: row.sequence)
    return rows[start : start + limit]


def is_present(run: StoredRun) -> bool:
    """Return whether an incarnation has a run at work, or is restoring it."""
    is_at_work = run.record.phase is Phase.WORKING or run.record.attempted
    return is_at_work and run.owner is not None


def suspect_of(run: StoredRun) -> Suspect:
    """Return what is known of a run that may have ended a process."""
    record = run.record
    return Suspect(
        run_id=record.run_id,
        accepted=record.accepted,
        phase=record.phase,
        was_present=is_present(run),
        attempted=record.attempted,
        resumes=record.resumes,
        strikes=record.strikes,
    )


def matches(record: RunRecord, query: HandlerQuery) -> bool:
    """Return whether a run passes the filters of a listing."""
    running = record.status is Status.RUNNING
    if query.waiting and not (record.questions and running):
        return False
    if query.statuses and record.status not in query.statuses:
        return False
    if query.phases and (record.phase if running else Phase.ENDED) not in query.phases:
        return False
    if query.started_after is not None and record.started_at <= query.started_after:
        return False
    if query.started_before is not None and record.started_at >= query.started_before:
        return False
    if not record.handler_id.startswith(query.handler_id_prefix):
        return False
    return not query.workflow_names or record.workflow_name in query.workflow_names


def refuses(run: StoredRun, record: RunRecord, incarnation: int) -> bool:
    """Return whether what an incarnation writes of a run is refused."""
    is_elsewhere = run.owner not in (None, incarnation)
    runs_again = record.status is Status.RUNNING and run.record.status is not Status.RUNNING
    return run.record.epoch != record.epoch or is_elsewhere or runs_again


def behind(
    order: list[tuple[datetime, str]], after: HandlerPosition | None, *, oldest_first: bool
) -> Iterator[tuple[datetime, str]]:
    """Yield the places of handlers, given oldest first, in one order or the other after a place."""
    place = (after.created_at, after.handler_id) if after is not None else None
    if oldest_first:
        start = bisect.bisect_right(order, place) if place is not None else 0
        return islice(order, start, None)
    end = bisect.bisect_left(order, place) if place is not None else len(order)
    return (order[index] for index in range(end - 1, -1, -1))


def cut_page(records: Iterable[RunRecord], limit: int, documents: Documents) -> ListedRuns:
    """Return the first of some runs as a page, without the documents that are not wanted."""
    found = list(islice(records, limit + 1))
    if documents != ALL_DOCUMENTS:
        found = [_with_documents(record, documents) for record in found]
    fitting = count_fitting([record.size for record in found[:limit]])
    return ListedRuns(found[:fitting], is_last=fitting == len(found))


def _with_documents(record: RunRecord, documents: Documents) -> RunRecord:
    start_event = record.start_event if "start_event" in documents else None
    result = record.result if "result" in documents else None
    return replace(record, start_event=start_event, result=result)


def write_records(runs: Mapping[str, StoredRun], batch: Batch) -> None:
    """Write and remove what a batch says of runs, but for their records."""
    for event in batch.events:
        append(runs[event.run_id].events, event)
    for tick in batch.ticks:
        append(runs[tick.run_id].ticks, tick)
    for state in batch.states.values():
        runs[state.run_id].put_state(state)
    for change in batch.changes:
        run = runs[change.run_id]
        if run.state is not None and change.number >= run.state.first_change:
            run.changes.setdefault(change.number, change.change)
    for snapshot in batch.snapshots.values():
        runs[snapshot.run_id].put_snapshot(snapshot)
    for item in batch.inbox:
        inbox = runs[item.run_id].inbox
        if not inbox or inbox[-1].number < item.number:
            inbox.append(item)
    for payload in batch.payloads:
        runs[payload.run_id].payloads.setdefault(payload.number, payload)
    for pack in batch.histories:
        runs[pack.run_id].put_history(pack)
    for run_id, size in batch.forgotten.items():
        if run_id in runs:
            runs[run_id].forget_history(size)
    for run_id, number in batch.dropped:
        if run_id in runs:
            runs[run_id].payloads.pop(number, None)
    for run_id in batch.cleared | batch.superseded:
        if run_id in runs:
            runs[run_id].payloads.clear()
    for run_id, number in batch.taken.items():
        if run_id in runs:
            run = runs[run_id]
            run.inbox = [item for item in run.inbox if item.number > number]
    for run_id in batch.finished | batch.superseded:
        if run_id in runs:
            run = runs[run_id]
            run.ticks, run.snapshot, run.inbox = [], None, []
    for run_id in batch.superseded:
        if run_id in runs:
            runs[run_id].state, runs[run_id].changes = None, {}
