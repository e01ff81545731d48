"""Joining: how a server becomes one of many that share a schema of Postgres.

Procrastinate keeps the members, in our schema: a worker of it is a server, with a heartbeat, and
when its row goes, so does the incarnation. It is imported here alone, when a server joins.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncpg

from workflow_server.schemas.journals import RUN_FORMAT
from workflow_server.stores.base import StoreError, StoreUnavailable
from workflow_server.stores.postgres_schema import OWNER_SPACE, hint_key, lock_key, lock_schema
from workflow_server.stores.postgres_sessions import ALONE, IN_USE
from workflow_server.stores.replicas import Replicas

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
    PooledConnection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:  # generic in their stubs only
    Connection = asyncpg.Connection
    PooledConnection = asyncpg.pool.PoolConnectionProxy

MISSING = (
    "--replicas takes a package that is not installed; install it with"
    " `pip install 'workflow-server[replicas]'`."
)
BUILD_TIMEOUT = 3600.0  # seconds; an index of many runs takes its time
CURRENT_RUN = "current_run"  # the index that lets a handler have one current run

# What many servers need beside the migrations. One server does without, for each index is paid for
# by every run. Its rows are those of servers that have ended.
SHARED = f"""
DELETE FROM incarnations;
ALTER TABLE incarnations ADD CONSTRAINT member
    FOREIGN KEY (worker_id) REFERENCES procrastinate_workers (id) ON DELETE CASCADE;
CREATE INDEX owned ON runs (owner, accepted, run_id)
    WHERE status = 'running' AND owner IS NOT NULL;
CREATE UNIQUE INDEX {CURRENT_RUN} ON runs (tenant, handler_id) WHERE is_current;
"""
# Its functions name no schema, and what `search_path` says, a pooler may change.
PIN_FUNCTIONS = r"""
SELECT format('ALTER FUNCTION %s SET search_path = %I', oid::regprocedure, $1::text)
FROM pg_proc WHERE pronamespace = to_regnamespace($1::text) AND proname LIKE 'procrastinate\_%'
"""
IS_SHARED = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace AS its ON its.oid = relnamespace
    WHERE relname = 'procrastinate_workers' AND its.nspname = $1::text
)
"""
DROP_SINGLE = "DELETE FROM {schema}.incarnations WHERE worker_id IS NULL RETURNING id"
# A single server counts the slots of its workflows itself; waiting runs have kept theirs.
COUNT_KEPT = (
    "UPDATE {schema}.runs SET is_granted = true"
    " WHERE status = 'running' AND phase = 'waiting' AND phase <> 'working' AND slot"
)
REGISTER = "SELECT worker_id FROM {schema}.procrastinate_register_worker_v1()"
UNREGISTER = "SELECT {schema}.procrastinate_unregister_worker_v1($1)"
JOIN = (
    "INSERT INTO {schema}.incarnations (worker_id, workflows, code, format, is_hinted, is_pooled)"
    " VALUES ($1, $2, $3, $4, $5, $6) RETURNING id"
)
IS_FREE = "SELECT pg_try_advisory_xact_lock_shared($1, $2)"
# The lock whose absence says that a connection was lost. It is shared with earlier connections, of
# which the database may notice late that they have ended.
HOLD_HINT = "SELECT pg_try_advisory_lock_shared($1, $2::bigint::integer)"


async def join(
    connection: Connection,
    schema: str,
    *,
    workflows: Sequence[str] | None,
    code: str,
    is_hinted: bool,
    has_session: bool,
) -> tuple[int, int]:
    """Return the numbers of a new incarnation and of its worker, beside those that are there.

    `workflows` are those that it serves, where that is known, and `code` is the version of their
    code. `is_hinted` lets a lock of the connection say that it is there. A connection that
    `has_session` has the schema's lock; without it, it is asked whether a single server has. The
    incarnation of a server that owned the schema alone is dead from then on.
    """
    engine = None
    if not await _is_shared(connection, schema):
        engine = _read_schema()  # which takes its time, and no transaction is open meanwhile
    async with connection.transaction():
        await lock_schema(connection, schema)
        if not (has_session or await connection.fetchval(IS_FREE, OWNER_SPACE, lock_key(schema))):
            raise StoreUnavailable(IN_USE.format(schema, ALONE))
        was_alone = await connection.fetch(DROP_SINGLE.format(schema=schema))
        if engine is not None and not await _is_shared(connection, schema):
            await _make_shared(connection, schema, engine)
        if was_alone:
            await connection.execute(COUNT_KEPT.format(schema=schema), timeout=BUILD_TIMEOUT)
        worker: int = await connection.fetchval(REGISTER.format(schema=schema))
        incarnation: int = await connection.fetchval(
            JOIN.format(schema=schema),
            worker,
            workflows,
            code,
            RUN_FORMAT,
            is_hinted,
            not has_session,
        )
        if is_hinted:  # which nobody sees before the lock is there
            await hold_hint(connection, schema, incarnation)
    return incarnation, worker


async def hold_hint(connection: Connection, schema: str, incarnation: int) -> None:
    """Let a lock of this connection say that it is there."""
    await connection.execute(HOLD_HINT, hint_key(schema), incarnation)


async def bound_transactions(
    connection: Connection | PooledConnection, replicas: Replicas, *, scope: str = "SESSION"
) -> None:
    """Let the database end a transaction of a server that is frozen in it.

    A removal waits for it, and so would the runs of that server. The `scope` LOCAL is that of the
    transaction that is open.
    """
    longest = max(int(replicas.stale_after * 1000), 1)
    await connection.execute(f"SET {scope} idle_in_transaction_session_timeout = {longest}")


async def leave(connection: Connection, schema: str, worker: int, *, timeout: float) -> None:
    """Remove a worker, and so its incarnation: its runs may be taken at once."""
    await connection.execute(UNREGISTER.format(schema=schema), worker, timeout=timeout)


async def _is_shared(connection: Connection, schema: str) -> bool:
    """Return whether a server has joined the schema before."""
    # `to_regclass` may answer from what the connection knew before it waited for the lock.
    return bool(await connection.fetchval(IS_SHARED, schema))


async def _make_shared(connection: Connection, schema: str, engine: str) -> None:
    await connection.execute(f"SET LOCAL search_path TO {schema}")
    await connection.execute(engine, timeout=BUILD_TIMEOUT)
    for (statement,) in await connection.fetch(PIN_FUNCTIONS, schema):
        await connection.execute(statement)
    await connection.execute(SHARED, timeout=BUILD_TIMEOUT)


def _read_schema() -> str:
    try:
        from procrastinate.schema import SchemaManager
    except ImportError as error:
        raise StoreError(MISSING) from error
    return SchemaManager.get_schema()
