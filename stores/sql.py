"""What the SQL stores share: every read, over the rows that each fetches in its way."""

from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from schemas.records import (
    EventRecord,
    HandlerQuery,
    RunPosition,
    RunRecord,
    SnapshotRecord,
    TickRecord,
    handler_key,
    split_key,
)
from schemas.times import to_micros
from stores.base import Store
from stores.packs import PACK_COLUMNS, unpack_events
from stores.queries import (
    SELECT_RUNS,
    TICK_COLUMNS,
    UNFINISHED_PAGE,
    events_page,
    listing,
    listing_of_runs,
    ticks_page,
)
from stores.rows import row_to_run

Rows = Sequence[Sequence[Any]]


class SqlStore(Store):
    """Reads runs from a database; it asks in the SQL that all of them know."""

    @staticmethod
    @abstractmethod
    def _placeholder(index: int) -> str:
        """Return what stands for a value, numbered from 1, in a statement."""

    @abstractmethod
    async def _read(self, sql: str, *values: Any) -> Rows:
        """Return the rows of a query that has few; `StoreUnavailable` where it cannot be asked."""

    @abstractmethod
    async def _read_runs(self, sql: str, *values: Any) -> Rows:
        """Return rows of `RUN_COLUMNS`, many perhaps."""

    @abstractmethod
    async def _read_page(self, columns: Sequence[str], sql: str, *values: Any) -> Rows:
        """Return rows of these columns, of which the last one may be large bytes."""

    async def check(self) -> None:
        await self._read("SELECT 1")

    async def get_handler(self, key: str) -> RunRecord | None:
        tenant, handler_id = self._placeholder(1), self._placeholder(2)
        rows = await self._read(
            f"{SELECT_RUNS} WHERE tenant = {tenant} AND handler_id = {handler_id} AND is_current",
            *split_key(key),
        )
        return row_to_run(rows[0]) if rows else None

    async def get_run(self, run_id: str) -> RunRecord | None:
        rows = await self._read(f"{SELECT_RUNS} WHERE {self._is_run}", run_id)
        return row_to_run(rows[0]) if rows else None

    async def list_handlers(self, query: HandlerQuery) -> Sequence[RunRecord]:
        sql, values = listing(query, self._placeholder)
        return [row_to_run(row) for row in await self._read_runs(sql, *values)]

    async def list_runs(
        self, key: str, *, after: RunPosition | None, limit: int
    ) -> Sequence[RunRecord]:
        sql, values = listing_of_runs(key, after, limit, self._placeholder)
        return [row_to_run(row) for row in await self._read_runs(sql, *values)]

    async def list_unfinished(self) -> AsyncIterator[RunRecord]:
        after, limit = self._placeholder(1), self._placeholder(2)
        sql = (
            f"{SELECT_RUNS} WHERE status = 'running' AND run_id > {after}"
            f" ORDER BY run_id LIMIT {limit}"
        )
        last = ""
        while rows := await self._read_runs(sql, last, UNFINISHED_PAGE):
            for row in rows:
                yield row_to_run(row)
            last = rows[-1][0]

    async def list_ended(self, *, before: datetime, limit: int) -> Sequence[str]:
        rows = await self._read(
            "SELECT tenant, handler_id FROM runs"
            f" WHERE is_current AND completed_at < {self._placeholder(1)}"
            f" ORDER BY completed_at LIMIT {self._placeholder(2)}",
            to_micros(before),
            limit,
        )
        return [handler_key(*row) for row in rows]

    async def count_events(self, run_id: str) -> int:
        sql = f"SELECT last FROM events WHERE {self._is_run} ORDER BY first DESC LIMIT 1"
        rows = await self._read(sql, run_id)
        return int(rows[0][0]) + 1 if rows else 0

    async def read_events(self, run_id: str, *, after: int, limit: int) -> Sequence[EventRecord]:
        sql = events_page(self._placeholder)
        rows = await self._read_page(PACK_COLUMNS, sql, run_id, after, limit)
        return unpack_events(rows, after=after, limit=limit)

    async def read_ticks(self, run_id: str, *, after: int, limit: int) -> Sequence[TickRecord]:
        sql = ticks_page(self._placeholder)
        rows = await self._read_page(TICK_COLUMNS, sql, run_id, after, limit)
        return [TickRecord(*row) for row in rows]

    async def get_state(self, run_id: str) -> bytes | None:
        rows = await self._read(f"SELECT state FROM states WHERE {self._is_run}", run_id)
        return rows[0][0] if rows else None

    async def get_snapshot(self, run_id: str) -> SnapshotRecord | None:
        columns = "run_id, tick_sequence, snapshot"
        rows = await self._read(f"SELECT {columns} FROM snapshots WHERE {self._is_run}", run_id)
        return SnapshotRecord(*rows[0]) if rows else None

    @property
    def _is_run(self) -> str:
        return f"run_id = {self._placeholder(1)}"
