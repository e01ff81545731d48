"""The store for tests and throw-away runs: nothing outlives the process."""

import bisect
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from schemas.records import (
    Batch,
    EventRecord,
    HandlerQuery,
    RunPosition,
    RunRecord,
    SnapshotRecord,
    Status,
    TickRecord,
    handler_key,
)
from stores.base import Store

DEFAULT_MAX_ENDED_HANDLERS = 1_000

Row = TypeVar("Row", EventRecord, TickRecord)


@dataclass(slots=True)
class _Run:
    record: RunRecord
    events: list[EventRecord] = field(default_factory=list)
    ticks: list[TickRecord] = field(default_factory=list)
    state: bytes | None = None
    snapshot: SnapshotRecord | None = None


def _position(record: RunRecord) -> tuple[datetime, str]:
    return record.handler_created_at, record.handler_id


def _run_position(record: RunRecord) -> tuple[datetime, str]:
    return record.started_at, record.run_id


class MemoryStore(Store):
    """Keeps runs in dictionaries.

    Ended handlers beyond `max_ended_handlers` are dropped with all that belongs to them, the one
    that ended first first.
    """

    def __init__(self, *, max_ended_handlers: int = DEFAULT_MAX_ENDED_HANDLERS) -> None:
        self._max_ended_handlers = max_ended_handlers
        self._runs: dict[str, _Run] = {}
        self._runs_of: dict[str, list[str]] = {}
        self._orders: dict[str, list[tuple[datetime, str]]] = {}  # by tenant
        self._ended: OrderedDict[str, None] = OrderedDict()

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
            self._runs[state.run_id].state = state.state
        for snapshot in batch.snapshots.values():
            self._put_snapshot(snapshot)
        for key in batch.purged:
            self._purge(key)
        while len(self._ended) > self._max_ended_handlers:
            self._purge(next(iter(self._ended)))

    def _put_run(self, record: RunRecord) -> None:
        run = self._runs.get(record.run_id)
        if run is None:
            self._runs[record.run_id] = _Run(record)
            self._add_to_handler(record)
        else:
            run.record = record
        if not record.current:
            return
        if record.status is Status.RUNNING:
            self._ended.pop(record.handler_key, None)
        else:
            self._ended[record.handler_key] = None

    def _add_to_handler(self, record: RunRecord) -> None:
        runs = self._runs_of.get(record.handler_key)
        if runs is not None:
            runs.append(record.run_id)
            return
        self._runs_of[record.handler_key] = [record.run_id]
        bisect.insort(self._orders.setdefault(record.tenant, []), _position(record))

    def _put_snapshot(self, snapshot: SnapshotRecord) -> None:
        run = self._runs[snapshot.run_id]
        run.snapshot = snapshot
        run.ticks = [tick for tick in run.ticks if tick.sequence >= snapshot.tick_sequence]

    def _purge(self, key: str) -> None:
        run_ids = self._runs_of.pop(key, None)
        if run_ids is None:
            return
        first = self._runs[run_ids[0]].record
        order = self._orders[first.tenant]
        del order[bisect.bisect_left(order, _position(first))]
        if not order:
            del self._orders[first.tenant]
        for run_id in run_ids:
            del self._runs[run_id]
        self._ended.pop(key, None)

    async def get_handler(self, key: str) -> RunRecord | None:
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
            key = handler_key(query.tenant, order[index][1])
            record = self._runs[self._runs_of[key][-1]].record
            if _matches(record, query):
                page.append(record)
                if len(page) == query.limit:
                    break
        return page

    async def list_runs(
        self, key: str, *, after: RunPosition | None, limit: int
    ) -> Sequence[RunRecord]:
        records = [self._runs[run_id].record for run_id in self._runs_of.get(key, ())]
        records.sort(key=_run_position, reverse=True)
        if after is not None:
            bound = after.started_at, after.run_id
            records = [record for record in records if _run_position(record) < bound]
        return records[:limit]

    async def list_unfinished(self) -> AsyncIterator[RunRecord]:
        for run in list(self._runs.values()):
            if run.record.status is Status.RUNNING:
                yield run.record

    async def list_ended(self, *, before: datetime, limit: int) -> Sequence[str]:
        ended: list[tuple[datetime, str]] = []
        for key in self._ended:
            completed_at = self._runs[self._runs_of[key][-1]].record.completed_at
            if completed_at is not None and completed_at < before:
                ended.append((completed_at, key))
        return [key for _, key in sorted(ended)[:limit]]

    async def count_events(self, run_id: str) -> int:
        run = self._runs.get(run_id)
        return len(run.events) if run else 0

    async def read_events(self, run_id: str, *, after: int, limit: int) -> Sequence[EventRecord]:
        run = self._runs.get(run_id)
        return _after(run.events, after, limit) if run else ()

    async def read_ticks(self, run_id: str, *, after: int, limit: int) -> Sequence[TickRecord]:
        run = self._runs.get(run_id)
        return _after(run.ticks, after, limit) if run else ()

    async def get_state(self, run_id: str) -> bytes | None:
        run = self._runs.get(run_id)
        return run.state if run else None

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
    if query.waiting and not (record.questions and record.status is Status.RUNNING):
        return False
    if query.statuses and record.status not in query.statuses:
        return False
    return not query.workflow_names or record.workflow_name in query.workflow_names
