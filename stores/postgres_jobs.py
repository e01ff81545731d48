"""Jobs of servers that share a schema of Postgres: Procrastinate's, through its functions.

Its own worker is not used: it would be a second member with a heartbeat of its own in the event
loop that steps may block, and an outage of the database ends it. A job belongs to the worker that
this server is, so it is free as soon as the others have removed that.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from workflow_server.stores.base import StoreFenced, StoreUnavailable
from workflow_server.stores.postgres_connections import Connections, SocketConnection
from workflow_server.stores.postgres_errors import ERRORS, unavailable
from workflow_server.stores.replicas import Jobs

ASK_TIMEOUT = 3.0  # seconds in which the database answers

# A server that is frozen in a transaction keeps nobody waiting for long.
BOUND = "SET LOCAL idle_in_transaction_session_timeout = {}"
# A name is the queue of its job, and the lock that lets one of them be done. A job that is done, or
# is left, is deleted, for its events are kept as long as the job.
DELETE = (
    "SELECT {{schema}}.procrastinate_finish_job_v1(id, 'succeeded', true)"
    " FROM (SELECT id FROM {{schema}}.procrastinate_jobs WHERE status = 'doing' AND {of}"
    " FOR UPDATE SKIP LOCKED) AS jobs"
)
END = DELETE.format(of="queue_name = $1 AND worker_id = $2")
FREE = DELETE.format(of="queue_name = $1 AND (worker_id IS NULL OR worker_id = $2)")
GIVE_BACK = DELETE.format(of="worker_id = $1")
DEFER = (
    "SELECT {schema}.procrastinate_defer_jobs_v1(ARRAY[ROW($1::text, $1::text, 0, $1::text,"
    " $1::text, '{{}}'::jsonb, now() + make_interval(secs => $2))"
    "]::{schema}.procrastinate_job_to_defer_v1[])"
    " WHERE NOT EXISTS (SELECT FROM {schema}.procrastinate_jobs WHERE queue_name = $1::text)"
)
FETCH = "SELECT id FROM {schema}.procrastinate_fetch_job_v2(ARRAY[$1::text]::varchar[], $2)"


class PostgresJobs(Jobs):
    """Jobs through a connection that is made anew where it is lost."""

    def __init__(self, connections: Connections, *, worker: int) -> None:
        self._connections = connections
        self._schema = connections.url.schema
        self._worker = worker
        self._connection: SocketConnection | None = None
        self._asking = asyncio.Lock()
        self._is_closed = False

    async def take(self, name: str) -> bool:
        try:
            return bool(await self._ask(lambda connection: self._take(connection, name)))
        except asyncpg.UniqueViolationError:
            return False  # another server has just deferred it

    async def end(self, name: str, *, again_in: float) -> None:
        await self._ask(lambda connection: self._end(connection, name, again_in))

    async def give_back(self) -> None:
        await self._ask(lambda connection: connection.execute(self._of(GIVE_BACK), self._worker))

    async def close(self) -> None:
        self._is_closed = True
        self._drop()

    async def _take(self, connection: SocketConnection, name: str) -> bool:
        await connection.execute(self._of(FREE), name, self._worker)
        await connection.execute(self._of(DEFER), name, 0.0)
        job = await connection.fetchval(self._of(FETCH), name, self._worker)
        return job is not None

    async def _end(self, connection: SocketConnection, name: str, again_in: float) -> None:
        if await connection.fetch(self._of(END), name, self._worker):
            await connection.execute(self._of(DEFER), name, again_in)

    def _of(self, sql: str) -> str:
        return sql.format(schema=self._schema)

    async def _ask(self, work: Callable[[SocketConnection], Awaitable[Any]]) -> Any:
        """Return what work on the connection returns, in one transaction; one asks at a time."""
        try:
            async with asyncio.timeout(ASK_TIMEOUT), self._asking:
                return await self._use(work)
        except asyncpg.ForeignKeyViolationError as error:
            raise StoreFenced("This server is dead to the others, and has no jobs.") from error
        except asyncpg.UniqueViolationError:
            raise
        except ERRORS as error:
            raise unavailable(error) from error

    async def _use(self, work: Callable[[SocketConnection], Awaitable[Any]]) -> Any:
        if self._is_closed:
            raise StoreUnavailable("The jobs are closed.")
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._connections.connect()
            async with self._connection.transaction():
                await self._connection.execute(BOUND.format(int(1000 * ASK_TIMEOUT)))
                return await work(self._connection)
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
