"""The reads of the SQL stores, over the rows that each fetches in its way."""

import asyncio
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from operator import itemgetter
from typing import Any

from workflow_server.schemas.listings import (
    ALL_DOCUMENTS,
    Documents,
    HandlerQuery,
    ListedRuns,
    RunPosition,
)
from workflow_server.schemas.records import (
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
    StateChangeRecord,
    StateRecord,
    StoredRecord,
    StoredState,
    Suspect,
    TickPage,
    TickRecord,
    UnfinishedRun,
)
from workflow_server.schemas.times import to_micros
from workflow_server.stores.base import Store, count_fitting
from workflow_server.stores.listings import (
    PLACED_COLUMNS,
    SELECT_RUNS,
    listing,
    listing_of_runs,
    select_runs,
)
from workflow_server.stores.packs import PACK_COLUMNS, unpack_events
from workflow_server.stores.purging import LIST_PURGED, TABLES_OF_RUN
from workflow_server.stores.queries import (
    COUNT_UNFINISHED,
    DUE_COLUMNS,
    JOURNAL_BYTES,
    LAST_ACCEPTED,
    PAGE_BYTES,
    SELECT_CLOCK,
    SELECT_COPY,
    SELECT_SERVERS,
    SUSPECT_COLUMNS,
    UNFINISHED_COLUMNS,
    Query,
    due_page,
    events_page,
    history_page,
    not_resumable_page,
    payloads_page,
    run_ids_page,
    state_with_changes,
    superseded_page,
    suspects_page,
    ticks_page,
    unfinished_page,
)
from workflow_server.stores.rows import (
    CHANGE_COLUMNS,
    HISTORY_COLUMNS,
    INBOX_COLUMNS,
    PAYLOAD_COLUMNS,
    RUN_COLUMNS,
    SNAPSHOT_COLUMNS,
    STATE_COLUMNS,
    TICK_COLUMNS,
    documents_size,
    row_to_clock,
    row_to_run,
    row_to_server,
    row_to_suspect,
)

Rows = Sequence[Sequence[Any]]
# The bytes of a row of each table that has rows of runs.
SIZES = {"runs": "COALESCE(length(start_event), 0) + COALESCE(length(result), 0)"} | {
    table: size for table, (_, size) in TABLES_OF_RUN.items()
}
LARGE_ROWS = 1 << 18  # bytes of documents that are checked beside the event loop


class SqlStore(Store):
    """Reads runs from a database; it asks in the SQL that all of them know.

    It has as many methods as the contract has reads, and what a database answers them with.
    """

    @staticmethod
    @abstractmethod
    def _placeholder(index: int) -> str:
        """Return what stands for a value, numbered from 1, in a statement."""

    @abstractmethod
    async def _read(self, sql: str, *values: Any) -> Rows:
        """Return the rows of a query that has few; `StoreUnavailable` where it cannot be asked."""

    @abstractmethod
    async def _read_rows(self, columns: Sequence[str], sql: str, *values: Any) -> Rows:
        """Return rows of these columns of runs, many perhaps."""

    @abstractmethod
    async def _read_runs(self, select: str, run_ids: Sequence[str], size: int) -> Rows:
        """Return the rows of runs of which this is selected, `size` bytes or so, in no order."""

    @abstractmethod
    async def _read_of(self, sql: str, run_ids: Sequence[str]) -> Rows:
        """Return the rows of a query, in which `{}` stands for that a row is of these runs."""

    @abstractmethod
    async def _read_page(self, columns: Sequence[str], sql: str, *values: Any) -> Rows:
        """Return rows of these columns, of which those of documents may be large bytes."""

    async def check(self) -> None:
        await self._read("SELECT 1")

    async def list_servers(self) -> Sequence[ServerRecord]:
        return [row_to_server(row) for row in await self._read(SELECT_SERVERS)]

    async def get_copy(self) -> str | None:
        rows = await self._read(SELECT_COPY)
        return str(rows[0][0]) if rows else None

    async def get_clock(self) -> ClockRecord | None:
        rows = await self._read(SELECT_CLOCK)
        return row_to_clock(rows[0]) if rows else None

    async def get_handler(self, key: HandlerKey) -> RunRecord | None:
        tenant, handler_id = self._placeholder(1), self._placeholder(2)
        rows = await self._read(
            f"{SELECT_RUNS} WHERE tenant = {tenant} AND handler_id = {handler_id} AND is_current",
            *key,
        )
        return (await _to_runs(rows))[0] if rows else None

    async def get_run(self, run_id: str) -> RunRecord | None:
        rows = await self._read(f"{SELECT_RUNS} WHERE {self._is_run}", run_id)
        return (await _to_runs(rows))[0] if rows else None

    async def list_run_ids(self, *, after: str | None = None, limit: int) -> Sequence[str]:
        sql, values = run_ids_page(after, limit, self._placeholder)
        return [run_id for (run_id,) in await self._read_rows(("run_id",), sql, *values)]

    async def weigh_runs(self, run_ids: Sequence[str]) -> Mapping[str, int]:
        sizes: dict[str, int] = {}
        for table, size_of_row in SIZES.items():
            sql = f"SELECT run_id, SUM({size_of_row}) FROM {table} WHERE {{}} GROUP BY run_id"
            for run_id, size in await self._read_of(sql, run_ids):
                if run_id in sizes or table == "runs":
                    sizes[run_id] = sizes.get(run_id, 0) + size
        return sizes

    async def read_runs(self, run_ids: Sequence[str]) -> Sequence[StoredRecord]:
        async def read(table: str, columns: Sequence[str]) -> Rows:
            sql = f"SELECT {', '.join(columns)} FROM {table} WHERE {{}}"
            return sorted(await self._read_of(sql, run_ids), key=itemgetter(0, 1))

        runs = await _to_runs(await read("runs", RUN_COLUMNS))
        packs = await read("events", PACK_COLUMNS)
        records: list[StoredRecord] = [*unpack_events(packs)]
        records += [TickRecord(*row) for row in await read("ticks", TICK_COLUMNS)]
        records += [PayloadRecord(*row) for row in await read("payloads", PAYLOAD_COLUMNS)]
        records += [HistoryRecord(*row) for row in await read("histories", HISTORY_COLUMNS)]
        records += [InboxRecord(*row) for row in await read("inbox", INBOX_COLUMNS)]
        states = [StateRecord(*row) for row in await read("states", STATE_COLUMNS)]
        first = {state.run_id: state.first_change for state in states}
        changes = [StateChangeRecord(*row) for row in await read("state_changes", CHANGE_COLUMNS)]
        records += states
        records += [c for c in changes if c.run_id in first and c.number >= first[c.run_id]]
        records += [SnapshotRecord(*row) for row in await read("snapshots", SNAPSHOT_COLUMNS)]
        known = {run.run_id for run in runs}
        return [*(record for record in records if record.run_id in known), *runs]

    async def list_handlers(self, query: HandlerQuery) -> ListedRuns:
        places = listing(replace(query, limit=query.limit + 1), self._placeholder)
        return await self._list(places, query.limit, query.documents)

    async def list_runs(
        self,
        key: HandlerKey,
        *,
        after: RunPosition | None,
        limit: int,
        documents: Documents = ALL_DOCUMENTS,
    ) -> ListedRuns:
        places = listing_of_runs(key, after, limit + 1, self._placeholder, documents=documents)
        return await self._list(places, limit, documents)

    async def _list(self, places: Query, limit: int, documents: Documents) -> ListedRuns:
        """Return the runs of a page; the query of its places asks for one more."""
        sql, values = places
        while True:
            found = await self._read_rows(PLACED_COLUMNS, sql, *values)
            sizes = [row[0] for row in found[:limit]]
            fitting = count_fitting(sizes)
            run_ids = [row[1] for row in found[:fitting]]
            is_last = fitting == len(found)
            rows = await self._read_runs(select_runs(documents), run_ids, sum(sizes[:fitting]))
            runs = {run.run_id: run for run in await _to_runs(rows)}
            records = [runs[run_id] for run_id in run_ids if run_id in runs]
            if records or is_last:  # else all of them were purged meanwhile
                return ListedRuns(records, is_last)

    async def list_unfinished(
        self,
        phase: Phase,
        *,
        workflow_name: str | None = None,
        after: UnfinishedRun | None = None,
        limit: int,
    ) -> Sequence[UnfinishedRun]:
        sql, values = unfinished_page(phase, workflow_name, after, limit, self._placeholder)
        rows = await self._read_rows(UNFINISHED_COLUMNS, sql, *values)
        return [UnfinishedRun(*row) for row in rows]

    async def list_not_resumable(
        self, *, after: UnfinishedRun | None = None, limit: int
    ) -> Sequence[UnfinishedRun]:
        sql, values = not_resumable_page(after, limit, self._placeholder)
        rows = await self._read_rows(UNFINISHED_COLUMNS, sql, *values)
        return [UnfinishedRun(*row) for row in rows]

    async def list_suspects(self, *, after: Suspect | None = None, limit: int) -> Sequence[Suspect]:
        sql, values = suspects_page(after, limit, self._placeholder)
        return [row_to_suspect(row) for row in await self._read_rows(SUSPECT_COLUMNS, sql, *values)]

    async def list_due(self, *, after: DueRun | None = None, limit: int) -> Sequence[DueRun]:
        sql, values = due_page(after, limit, self._placeholder)
        return [DueRun(*row) for row in await self._read_rows(DUE_COLUMNS, sql, *values)]

    async def count_unfinished(self) -> Sequence[PhaseCount]:
        rows = await self._read(COUNT_UNFINISHED)
        return [PhaseCount(Phase(phase), *counted) for phase, *counted in rows]

    async def last_accepted(self) -> int:
        rows = await self._read(LAST_ACCEPTED)
        return int(rows[0][0] or 0)

    async def list_ended(self, *, before: datetime, limit: int) -> Sequence[EndedHandler]:
        rows = await self._read(
            "SELECT tenant, handler_id, run_id FROM runs"
            f" WHERE is_current AND completed_at < {self._placeholder(1)}"
            f" ORDER BY completed_at LIMIT {self._placeholder(2)}",
            to_micros(before),
            limit,
        )
        return [EndedHandler(HandlerKey(*key), run_id) for *key, run_id in rows]

    async def list_superseded(self, *, before: datetime, limit: int) -> Sequence[str]:
        sql, values = superseded_page(before, limit, self._placeholder)
        return [run_id for (run_id,) in await self._read(sql, *values)]

    async def list_purged(self) -> Sequence[str]:
        return [run_id for (run_id,) in await self._read(LIST_PURGED)]

    async def next_sequence(self, run_id: str) -> int:
        last = f"SELECT last FROM events WHERE {self._is_run} ORDER BY first DESC LIMIT 1"
        first = f"SELECT first_sequence FROM runs WHERE {self._is_run}"
        rows = await self._read(f"SELECT COALESCE(({last}) + 1, ({first}), 0)", run_id)
        return int(rows[0][0])

    async def read_events(self, run_id: str, *, after: int, limit: int) -> Sequence[EventRecord]:
        sql = events_page(self._placeholder)
        rows = await self._read_page(PACK_COLUMNS, sql, run_id, after, limit)
        return unpack_events(rows, after=after, limit=limit, max_bytes=PAGE_BYTES)

    async def read_ticks(self, run_id: str, *, after: int, limit: int) -> TickPage:
        sql = ticks_page(self._placeholder)
        found = await self._read_page(TICK_COLUMNS, sql, run_id, after, limit + 1)
        is_cut = (
            len(found) > limit or sum(len(row[-2]) + len(row[-1]) for row in found) >= JOURNAL_BYTES
        )
        return TickPage([TickRecord(*row) for row in found[:limit]], is_last=not is_cut)

    async def read_payloads(
        self, run_id: str, *, after: int, limit: int
    ) -> Sequence[PayloadRecord]:
        sql = payloads_page(self._placeholder)
        found = await self._read_page(PAYLOAD_COLUMNS, sql, run_id, after, limit)
        return [PayloadRecord(*row) for row in found]

    async def read_history(self, run_id: str, *, after: int, limit: int) -> Sequence[HistoryRecord]:
        sql = history_page(self._placeholder)
        found = await self._read_page(HISTORY_COLUMNS, sql, run_id, after, limit)
        return [HistoryRecord(*row) for row in found]

    async def get_history_extent(self, run_id: str) -> HistoryExtent:
        rows = await self._read(
            f"SELECT last + 1, bytes_until FROM histories WHERE {self._is_run}"
            " ORDER BY first DESC LIMIT 1",
            run_id,
        )
        return HistoryExtent(*rows[0]) if rows else HistoryExtent()

    async def read_inbox(self, run_id: str) -> Sequence[InboxRecord]:
        columns = ", ".join(INBOX_COLUMNS)
        rows = await self._read(
            f"SELECT {columns} FROM inbox WHERE {self._is_run} ORDER BY number", run_id
        )
        return [InboxRecord(*row) for row in rows]

    async def get_state(self, run_id: str) -> StoredState | None:
        rows = await self._read(state_with_changes(self._placeholder), run_id)
        if not rows:
            return None
        (_, state), *changes = rows
        return StoredState(state, tuple(change for _, change in changes), rows[-1][0] + 1)

    async def get_snapshot(self, run_id: str) -> SnapshotRecord | None:
        columns = ", ".join(SNAPSHOT_COLUMNS)
        rows = await self._read(f"SELECT {columns} FROM snapshots WHERE {self._is_run}", run_id)
        return SnapshotRecord(*rows[0]) if rows else None

    @property
    def _is_run(self) -> str:
        return f"run_id = {self._placeholder(1)}"


async def _to_runs(rows: Rows) -> list[RunRecord]:
    """Return the runs of rows of `RUN_COLUMNS`."""
    if sum([documents_size(row) for row in rows]) < LARGE_ROWS:
        return [row_to_run(row) for row in rows]
    return await asyncio.to_thread(lambda: [row_to_run(row) for row in rows])
