"""The writing of a batch into a schema of Postgres, through the connection that writes."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import asyncpg

from workflow_server.schemas.records import Batch
from workflow_server.stores.batches import BatchRows, batch_to_rows, leave_out
from workflow_server.stores.postgres_connections import Connection
from workflow_server.stores.postgres_joining import CURRENT_RUN
from workflow_server.stores.postgres_large import take_large
from workflow_server.stores.postgres_statements import (
    FORGET_RUNS,
    LOCK_RUNS,
    NOTE_CURRENT,
    NOTE_EARLIER,
    NOTE_SUPERSEDED,
    REFUSED,
    REMOVE_PARTS,
    TAKEN,
    put_statements,
    qualify,
)
from workflow_server.stores.purging import LIST_PURGED, REMOVE_RUNS, list_parts

COMPRESSION_WORTH = 0.85  # a MiB costs us and the server about 10 ms, and 2 to compress it to this
LARGE_BATCH = 1 << 18  # bytes of events that are made rows beside the event loop


async def put_batch(
    connection: Connection, batch: Batch, incarnation: int, schema: str
) -> list[str] | None:
    """Write a batch; return what was refused, or None where the incarnation is dead."""
    return await _Writer(connection, incarnation, schema).put(batch)


@dataclass(frozen=True, slots=True)
class _Writer:
    """A connection that writes for an incarnation into a schema."""

    connection: Connection
    incarnation: int
    schema: str

    async def put(self, batch: Batch) -> list[str] | None:
        """Write a batch; return what was refused, or None where the incarnation is dead."""
        refused: list[str] = []
        while True:
            try:
                is_alive = await self._put_all(batch)
            except (asyncpg.DivisionByZeroError, asyncpg.UniqueViolationError) as error:
                found = await self._find_refused(batch, error)
                if not found:
                    raise
                refused += found
                batch = leave_out(batch, found)
            else:
                return refused if is_alive else None

    async def _find_refused(self, batch: Batch, error: asyncpg.PostgresError) -> list[str]:
        """Return the runs of a batch for which nothing of it was written."""
        runs = batch.runs.values()
        if isinstance(error, asyncpg.DivisionByZeroError):
            given = [run.run_id for run in runs], [run.epoch for run in runs]
            statuses = [run.status for run in runs]
            sql = qualify(REFUSED, self.schema)
            rows = await self.connection.fetch(sql, self.incarnation, *given, statuses)
        elif error.constraint_name == CURRENT_RUN:
            begun = [run for run in runs if run.current]
            keys = [run.tenant for run in begun], [run.handler_id for run in begun]
            earlier = [run.run_id for run in runs if not run.current]
            sql = qualify(TAKEN, self.schema)
            rows = await self.connection.fetch(sql, [run.run_id for run in begun], *keys, earlier)
        else:
            rows = []
        return [row[0] for row in rows]

    async def _put_all(self, batch: Batch) -> bool:
        """Write a batch in one round trip, unless it is large or something is purged.

        Return whether the incarnation is alive. A division by zero says that a run was refused:
        nothing is written then.
        """
        rows, large = take_large(await _to_rows(batch, self.incarnation))
        statements = put_statements(rows)
        is_alone = len(statements) == 1 and not (large or batch.purged or batch.purged_runs)
        # In a transaction, that of a pooler's session, a refusal must leave the rest as it is.
        if is_alone and not self.connection.is_in_transaction():
            return bool(await self._execute(*statements[0]))
        async with self.connection.transaction():
            for sql, arrays in statements:
                if not await self._execute(sql, arrays):
                    return False
            for insert, large_rows in large:
                await self.connection.executemany(qualify(insert, self.schema), large_rows)
            if batch.purged or batch.purged_runs:
                await self._purge(batch)
        return True

    async def _execute(self, sql: str, arrays: list[Sequence[Any]]) -> bool:
        """Carry out a statement that writes; return whether the incarnation is alive."""
        return bool(
            await self.connection.fetchval(qualify(sql, self.schema), self.incarnation, *arrays)
        )

    async def _purge(self, batch: Batch) -> None:
        """Remove a part of what the batch purges, and of what was purged before."""
        current = [ended.run_id for ended in batch.purged]
        for sql, *values in (
            (LOCK_RUNS, current),
            (NOTE_EARLIER, current),
            (NOTE_SUPERSEDED, batch.purged_runs),
            (REMOVE_RUNS,),
            (NOTE_CURRENT, current),
            (REMOVE_RUNS,),
        ):
            await self.connection.execute(qualify(sql, self.schema), *values)
        parts = list_parts(await self.connection.fetch(qualify(LIST_PURGED, self.schema)))
        for sql in REMOVE_PARTS:
            await self.connection.executemany(qualify(sql, self.schema), parts)
        await self.connection.execute(qualify(FORGET_RUNS, self.schema))


async def _to_rows(batch: Batch, incarnation: int) -> BatchRows:
    to_rows = partial(batch_to_rows, batch, incarnation, worth=COMPRESSION_WORTH)
    is_large = sum([len(event.envelope) for event in batch.events]) > LARGE_BATCH
    return await asyncio.to_thread(to_rows) if is_large else to_rows()


def in_one_order(batch: Batch) -> Batch:
    """Return a batch whose runs are in an order that all servers have.

    Each waits for the runs of another that begins runs of the same handlers; in orders of their
    own, both would wait for each other.
    """
    runs = sorted(batch.runs.values(), key=lambda run: (run.tenant, run.handler_id, run.current))
    return replace(batch, runs={run.run_id: run for run in runs})
