"""Slots of workflows in a schema of Postgres, counted over all servers that share it."""

from collections.abc import Awaitable, Callable, Sequence

from workflow_server.stores.postgres_connections import PooledConnection
from workflow_server.stores.postgres_schema import lock_key
from workflow_server.stores.postgres_statements import FENCE, FENCED, qualify
from workflow_server.stores.queries import RUNNING
from workflow_server.stores.replicas import SharedSlots
from workflow_server.stores.sql import Rows

SLOT_SPACE = 0x57465358  # the first half of the locks of those who count a workflow's slots
# In a statement of its own: what it waits for is then seen by the one that counts.
LOCK_SLOTS = "SELECT pg_advisory_xact_lock($1, $2)"
# A run that a batch is just writing gets its slot the next time: neither waits for the other.
GRANTED = f"{RUNNING} AND is_granted"
OURS = f"run_id = ANY($3::text[]) AND owner = $1 AND {RUNNING} AND workflow_name = $2"
TAKE_SLOTS = (
    f"WITH {FENCE},"
    f" picked AS MATERIALIZED (SELECT run_id FROM runs WHERE {OURS} AND NOT is_granted"
    " ORDER BY array_position($3::text[], run_id) LIMIT greatest($4::bigint -"
    f" (SELECT count(*) FROM runs WHERE {GRANTED} AND workflow_name = $2), 0)"
    " FOR UPDATE SKIP LOCKED),"
    " written AS (UPDATE runs SET is_granted = true WHERE run_id IN (SELECT run_id FROM picked)"
    f" AND {FENCED} RETURNING run_id),"
    f" granted AS (SELECT run_id FROM runs WHERE {OURS} AND is_granted"
    " UNION SELECT run_id FROM written)"
    f" SELECT {FENCED}, granted.run_id FROM (SELECT) AS once LEFT JOIN granted ON true"
)

Write = Callable[[PooledConnection], Awaitable[Rows | None]]


def slot_lock(schema: str, workflow_name: str) -> tuple[int, int]:
    """Return the lock of those who count the slots of a workflow."""
    return SLOT_SPACE, lock_key(f"{schema} {workflow_name}")


class PostgresSlots(SharedSlots):
    """Slots in a schema; `transact` returns the rows of what writes in a transaction of its own.

    `write` of a connection returns None where the incarnation is dead.
    """

    def __init__(self, schema: str, *, transact: Callable[[Write], Awaitable[Rows]]) -> None:
        self.incarnation = 0
        self._schema = schema
        self._transact = transact

    async def take(
        self, workflow_name: str, run_ids: Sequence[str], *, limit: int
    ) -> Sequence[str]:
        lock = slot_lock(self._schema, workflow_name)

        async def write(connection: PooledConnection) -> Rows | None:
            await connection.execute(LOCK_SLOTS, *lock)
            statement = qualify(TAKE_SLOTS, self._schema)
            values = self.incarnation, workflow_name, list(run_ids), limit
            rows = await connection.fetch(statement, *values)
            return [tuple(row) for row in rows] if rows[0][0] else None

        return [run_id for _, run_id in await self._transact(write) if run_id is not None]
