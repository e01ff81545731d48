"""The store for tests and throw-away runs: nothing outlives the process."""

import bisect
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import TypeVar

from workflow_server.schemas.listings import (
    ALL_DOCUMENTS,
    Documents,
    HandlerQuery,
    ListedRuns,
    RunPosition,
)
from workflow_server.schemas.records import (
    Batch,
    ClockRecord,
    DueRun,
    EndedHandler,
    EventRecord,
    HandlerKey,
    HistoryExtent,
    HistoryRecord,
    InboxRecord,
    PayloadRecord,
    Phase,
    PhaseCount,
    RunRecord,
    ServerRecord,
    SnapshotRecord,
    Status,
    StoredRecord,
    StoredState,
    Suspect,
    TickPage,
    TickRecord,
    UnfinishedRun,
)
from workflow_server.stores.base import Store
from workflow_server.stores.batches import leave_out
from workflow_server.stores.memory_runs import (
    Places,
    StoredRun,
    after_sequence,
    behind,
    cut_page,
    is_present,
    matches,
    position,
    refuses,
    run_position,
    suspect_of,
    write_records,
)

DEFAULT_MAX_ENDED_HANDLERS = 1_000

Row = TypeVar("Row", EventRecord, TickRecord)


class MemoryStore(Store):
    """Keeps runs in dictionaries.

    Ended handlers beyond `max_ended_handlers` are dropped with all that belongs to them, the one
    that ended first first. It has as many methods as the contract, and one for each kind of record.
    """

    def __init__(self, *, max_ended_handlers: int = DEFAULT_MAX_ENDED_HANDLERS) -> None:
        self._max_ended_handlers = max_ended_handlers
        self._runs: dict[str, StoredRun] = {}
        self._runs_of: dict[HandlerKey, list[str]] = {}
        self._orders: dict[str, list[tuple[datetime, str]]] = {}  # by tenant
        self._ended: OrderedDict[HandlerKey, None] = OrderedDict()
        self._places = Places()
        self._incarnation = 0
        self._is_started = False
        self._clock: ClockRecord | None = None
        self._server = ServerRecord()
        self._copied: str | None = None

    async def start(self) -> None:
        """Begin another incarnation: there is nothing to open."""
        if not self._is_started:
            self._incarnation += 1
            self._server = ServerRecord()
            self._is_started = True

    async def stop(self) -> None:
        """Keep what was committed, until the process ends."""
        self._is_started = False

    async def check(self) -> None:
        """Return: memory can always be reached."""

    async def commit(self, batch: Batch) -> Collection[str]:
        refused = [
            record.run_id
            for record in batch.runs.values()
            if (run := self._runs.get(record.run_id)) and refuses(run, record, self._incarnation)
        ]
        self._write(leave_out(batch, refused) if refused else batch)
        return refused

    async def claim(self, run_ids: Sequence[str]) -> Sequence[str]:
        claimed: list[str] = []
        for run_id in run_ids:
            run = self._runs.get(run_id)
            if run is None or run.record.status is not Status.RUNNING:
                continue
            changes_hands = run.owner != self._incarnation
            run.record = replace(run.record, epoch=run.record.epoch + changes_hands, attempted=True)
            run.owner = self._incarnation
            claimed.append(run_id)
        return claimed

    async def list_suspects(self, *, after: Suspect | None = None, limit: int) -> Sequence[Suspect]:
        runs = [self._runs[place.run_id] for place in self._places.list_all()]
        found = sorted(
            (run for run in runs if is_present(run) or run.record.attempted or run.record.resumes),
            key=lambda run: (run.record.accepted, run.record.run_id),
        )
        suspects = (
            suspect_of(run)
            for run in found
            if after is None
            or (run.record.accepted, run.record.run_id) > (after.accepted, after.run_id)
        )
        return list(islice(suspects, limit))

    async def write_suspects(self, suspects: Sequence[Suspect]) -> None:
        for suspect in suspects:
            run = self._runs.get(suspect.run_id)
            if run is None or run.record.status is not Status.RUNNING:
                continue
            was_at_work = run.record.phase is Phase.WORKING
            written = replace(
                run.record,
                phase=Phase.QUEUED if was_at_work else run.record.phase,
                slot=run.record.slot and not was_at_work,
                attempted=False,
                resumes=suspect.resumes,
                strikes=suspect.strikes,
            )
            self._put_run(written, is_released=True)

    async def let_go(self) -> None:
        for place in self._places.list_all():
            run = self._runs[place.run_id]
            if is_present(run) and run.owner == self._incarnation:
                well = replace(run.record, attempted=False, resumes=0, strikes=0)
                run.record, run.owner = well, None

    def _write(self, batch: Batch) -> None:
        for record in batch.runs.values():
            self._put_run(record, is_released=record.run_id in batch.released)
        write_records(self._runs, batch)
        for ended in batch.purged:
            self._purge_ended(ended)
        for run_id in batch.purged_runs:
            self._purge_superseded(run_id)
        self._clock = batch.clock or self._clock
        while len(self._ended) > self._max_ended_handlers:
            self._purge(next(iter(self._ended)))

    async def describe(self, server: ServerRecord) -> None:
        self._server = server

    async def list_servers(self) -> Sequence[ServerRecord]:
        return [self._server]

    async def note_copy(self, source: str | None) -> None:
        self._copied = source

    async def get_copy(self) -> str | None:
        return self._copied

    async def get_clock(self) -> ClockRecord | None:
        return self._clock

    def _put_run(self, record: RunRecord, *, is_released: bool) -> None:
        is_free = is_released or record.status is not Status.RUNNING
        owner = None if is_free else self._incarnation
        run = self._runs.get(record.run_id)
        if run is None:
            self._runs[record.run_id] = StoredRun(record, owner)
            self._add_to_handler(record)
        else:
            self._places.leave(run.record)
            run.record, run.owner = record, owner
        self._places.take(record)
        if not record.current:
            return
        if record.status is Status.RUNNING:
            self._ended.pop(record.key, None)
        else:
            self._ended[record.key] = None

    def _add_to_handler(self, record: RunRecord) -> None:
        runs = self._runs_of.get(record.key)
        if runs is not None:
            runs.append(record.run_id)
            return
        self._runs_of[record.key] = [record.run_id]
        bisect.insort(self._orders.setdefault(record.tenant, []), position(record))

    def _purge_ended(self, ended: EndedHandler) -> None:
        """Remove a handler whose current run is still the one that ended."""
        run_ids = self._runs_of.get(ended.key)
        if run_ids and run_ids[-1] == ended.run_id:
            self._purge(ended.key)

    def _purge(self, key: HandlerKey) -> None:
        run_ids = self._runs_of.pop(key, None)
        if run_ids is None:
            return
        first = self._runs[run_ids[0]].record
        order = self._orders[first.tenant]
        del order[bisect.bisect_left(order, position(first))]
        if not order:
            del self._orders[first.tenant]
        for run_id in run_ids:
            self._places.leave(self._runs.pop(run_id).record)
        self._ended.pop(key, None)

    def _purge_superseded(self, run_id: str) -> None:
        run = self._runs.get(run_id)
        if run is not None and not run.record.current:
            del self._runs[run_id]
            self._runs_of[run.record.key].remove(run_id)
            self._places.leave(run.record)

    async def get_handler(self, key: HandlerKey) -> RunRecord | None:
        run_ids = self._runs_of.get(key)
        return self._runs[run_ids[-1]].record if run_ids else None

    async def get_run(self, run_id: str) -> RunRecord | None:
        run = self._runs.get(run_id)
        return run.record if run else None

    async def list_run_ids(self, *, after: str | None = None, limit: int) -> Sequence[str]:
        run_ids = sorted(run_id for run_id in self._runs if after is None or run_id > after)
        return run_ids[:limit]

    async def weigh_runs(self, run_ids: Sequence[str]) -> Mapping[str, int]:
        return {run_id: self._runs[run_id].size for run_id in run_ids if run_id in self._runs}

    async def read_runs(self, run_ids: Sequence[str]) -> Sequence[StoredRecord]:
        runs = [self._runs[run_id] for run_id in run_ids if run_id in self._runs]
        return [record for run in runs for record in run.list_records()]

    async def list_handlers(self, query: HandlerQuery) -> ListedRuns:
        order = self._orders.get(query.tenant, [])
        places = behind(order, query.after, oldest_first=query.oldest_first)
        records = (
            self._runs[self._runs_of[HandlerKey(query.tenant, handler_id)][-1]].record
            for _, handler_id in places
        )
        found = (record for record in records if matches(record, query))
        return cut_page(found, query.limit, query.documents)

    async def list_runs(
        self,
        key: HandlerKey,
        *,
        after: RunPosition | None,
        limit: int,
        documents: Documents = ALL_DOCUMENTS,
    ) -> ListedRuns:
        records = [self._runs[run_id].record for run_id in self._runs_of.get(key, ())]
        records.sort(key=run_position, reverse=True)
        if after is not None:
            bound = after.started_at, after.run_id
            records = [record for record in records if run_position(record) < bound]
        return cut_page(records, limit, documents)

    async def list_not_resumable(
        self, *, after: UnfinishedRun | None = None, limit: int
    ) -> Sequence[UnfinishedRun]:
        found = (
            place
            for place in self._places.list_of(Phase.WAITING, None, after)
            if self._runs[place.run_id].record.not_resumable_because is not None
        )
        return list(islice(found, limit))

    async def list_unfinished(
        self,
        phase: Phase,
        *,
        workflow_name: str | None = None,
        after: UnfinishedRun | None = None,
        limit: int,
    ) -> Sequence[UnfinishedRun]:
        return self._places.list_of(phase, workflow_name, after)[:limit]

    async def list_due(self, *, after: DueRun | None = None, limit: int) -> Sequence[DueRun]:
        return self._places.list_due(after)[:limit]

    async def last_accepted(self) -> int:
        return self._places.last_accepted

    async def count_unfinished(self) -> Sequence[PhaseCount]:
        return [
            PhaseCount(
                phase,
                workflow_name,
                runs=len(places),
                slots=sum(self._runs[place.run_id].record.slot for place in places),
            )
            for (phase, workflow_name), places in self._places.unfinished.items()
            if workflow_name is not None
        ]

    async def list_ended(self, *, before: datetime, limit: int) -> Sequence[EndedHandler]:
        ended: list[tuple[datetime, EndedHandler]] = []
        for key in self._ended:
            record = self._runs[self._runs_of[key][-1]].record
            if record.completed_at is not None and record.completed_at < before:
                ended.append((record.completed_at, EndedHandler(key, record.run_id)))
        return [handler for _, handler in sorted(ended)[:limit]]

    async def list_superseded(self, *, before: datetime, limit: int) -> Sequence[str]:
        ended = [
            (record.completed_at, record.run_id)
            for record in (run.record for run in self._runs.values())
            if not record.current and record.completed_at and record.completed_at < before
        ]
        return [run_id for _, run_id in sorted(ended)[:limit]]

    async def list_purged(self) -> Sequence[str]:
        return ()

    async def next_sequence(self, run_id: str) -> int:
        run = self._runs.get(run_id)
        if run is None:
            return 0
        return run.events[-1].sequence + 1 if run.events else run.record.first_sequence

    async def read_events(self, run_id: str, *, after: int, limit: int) -> Sequence[EventRecord]:
        run = self._runs.get(run_id)
        return after_sequence(run.events, after, limit) if run else ()

    async def read_ticks(self, run_id: str, *, after: int, limit: int) -> TickPage:
        run = self._runs.get(run_id)
        found = after_sequence(run.ticks, after, limit + 1) if run else []
        return TickPage(found[:limit], is_last=len(found) <= limit)

    async def read_payloads(
        self, run_id: str, *, after: int, limit: int
    ) -> Sequence[PayloadRecord]:
        run = self._runs.get(run_id)
        return run.read_payloads(after, limit) if run else ()

    async def read_history(self, run_id: str, *, after: int, limit: int) -> Sequence[HistoryRecord]:
        run = self._runs.get(run_id)
        return run.read_history(after, limit) if run else ()

    async def get_history_extent(self, run_id: str) -> HistoryExtent:
        run = self._runs.get(run_id)
        return run.history_extent if run else HistoryExtent()

    async def read_inbox(self, run_id: str) -> Sequence[InboxRecord]:
        run = self._runs.get(run_id)
        return list(run.inbox) if run else ()

    async def get_state(self, run_id: str) -> StoredState | None:
        run = self._runs.get(run_id)
        return run.stored_state if run else None

    async def get_snapshot(self, run_id: str) -> SnapshotRecord | None:
        run = self._runs.get(run_id)
        return run.snapshot if run else None
