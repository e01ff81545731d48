"""Sessions of the database: whether a connection has one of its own, and how it is ended."""

import asyncio

import asyncpg

from workflow_server.stores.postgres_connections import Connection, Pool, PooledConnection
from workflow_server.stores.postgres_errors import ERRORS
from workflow_server.stores.postgres_url import TIMEOUT

CLOSE_TIMEOUT = 3.0  # seconds for reads that are under way when the store is closed
SESSION = "SELECT pg_backend_pid()"
TRIES = 20  # in each of which a pooler of transactions is found, unless it is busy
IN_USE = (
    "The schema '{}' is in use by another process{}, or choose another schema with ?schema=NAME in"
    " the store's URL."
)
ALONE = " that runs without --replicas; stop that one, or start it with --replicas"
TOGETHER = "; stop that one, start all of them with --replicas"
NO_SESSIONS = (
    "Postgres is behind a pooler that may give each transaction another session (PgBouncer's"
    " pool_mode=transaction), and no lock holds there; let it pool sessions (pool_mode=session),"
    " connect to Postgres itself, or start with --replicas, which takes no such lock."
)


async def keeps_sessions(pool: Pool) -> bool:
    """Return whether a connection keeps its session over its transactions.

    Behind a pooler of transactions it does not: no lock of a session holds there, and no statement
    stays prepared.
    """
    async with pool.acquire() as one, pool.acquire() as other:
        try:
            if not await is_pooled(one):
                return True
            for _ in range(TRIES):  # others may take the session that was free, and give it back
                session = await one.fetchval(SESSION)
                async with other.transaction():
                    await other.fetchval(SESSION)  # which keeps the session that was free
                    if session != await one.fetchval(SESSION):
                        return False
            return True
        except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError):
            return False  # it is known in another session, or not known in this one


async def is_pooled(connection: Connection | PooledConnection) -> bool:
    """Return whether a pooler is between: it names a session of its own, not the database's."""
    return bool(await connection.fetchval(SESSION) != connection.get_server_pid())


async def close_connection(connection: Connection) -> None:
    """Close a connection so that its lock is free when this returns, unless it hangs."""
    try:
        await connection.close(timeout=TIMEOUT)
    except ERRORS:
        connection.terminate()


async def close_pool(pool: Pool) -> None:
    """Close the readers' connections; those that are busy for long are cut off.

    Time is given, because a read that was cancelled makes its connection ready for the next one.
    """
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await pool.close()
    except ERRORS:
        pool.terminate()
