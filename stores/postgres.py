"""The store for those who have a Postgres."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import asyncpg

from workflow_server.schemas.records import Batch, ServerRecord, Suspect
from workflow_server.stores.base import StoreError, StoreFenced, StoreUnavailable
from workflow_server.stores.postgres_batches import in_one_order, put_batch
from workflow_server.stores.postgres_connections import (
    Connection,
    Connections,
    Pool,
    PooledConnection,
    SocketConnection,
)
from workflow_server.stores.postgres_errors import (
    ABORTED,
    ERRORS,
    UNWRITABLE,
    ConnectionLost,
    one_line,
    retrying,
    unavailable,
)
from workflow_server.stores.postgres_joining import bound_transactions, hold_hint, join, leave
from workflow_server.stores.postgres_peers import PostgresPeers
from workflow_server.stores.postgres_refusals import refusal
from workflow_server.stores.postgres_schema import (
    OWNER_SPACE,
    begin_incarnation,
    lock_key,
    migrate,
)
from workflow_server.stores.postgres_sessions import (
    ALONE,
    CLOSE_TIMEOUT,
    IN_USE,
    NO_SESSIONS,
    TOGETHER,
    close_connection,
    close_pool,
    is_pooled,
    keeps_sessions,
)
from workflow_server.stores.postgres_statements import (
    CLAIM,
    DEAD_OWNERS,
    DESCRIBE,
    END_COPY,
    LET_GO,
    NOTE_COPY,
    WRITE_SUSPECTS,
    qualify,
)
from workflow_server.stores.postgres_url import read_url
from workflow_server.stores.replicas import Owner, Replicas
from workflow_server.stores.sql import Rows, SqlStore

T = TypeVar("T")

READERS = 4
SELECT_READ_ONLY = "SELECT current_setting('transaction_read_only')"  # as of a standby, too
SELECT_TABLE = "SELECT to_regclass($1) IS NOT NULL"
CLAIM_TRIES, CLAIM_PAUSE = 10, 0.3  # how often, and every how many seconds, a lock is tried


class PostgresStore(SqlStore):
    """Keeps runs in one schema of a Postgres database.

    One process owns the schema: it holds an advisory lock on the very connection that writes, so
    that no batch is written by a process that lost it. With `replicas` many share the schema, and
    hold that lock together. A batch is one transaction, with its rows in bulk.
    """

    def __init__(self, url: str, *, replicas: Replicas | None = None) -> None:
        self._connections = Connections(read_url(url))
        self._schema = self._connections.url.schema
        self._writer: SocketConnection | None = None
        self._pool: Pool | None = None
        self._writing = asyncio.Lock()
        self._incarnation = 0
        self._is_hinted = False
        self.peers: PostgresPeers | None = None
        if replicas is not None:
            self.peers = PostgresPeers(
                replicas,
                self._connections,
                read=self._read,
                write=self._write_rows,
                write_once=partial(self._write_rows, is_repeatable=False),
                transact=self._transact,
            )

    async def start(self) -> None:
        if self._pool is not None:
            return
        try:
            await self._open_pool()
            writer = self._writer = await self._claim_schema()
            await migrate(writer, self._schema)
            async with self._connections.keep_session(writer):
                await self._begin(writer)
        except ERRORS as error:
            await self.stop()
            raise refusal(error, self._connections.url) from error
        except StoreError:
            await self.stop()
            raise

    async def _open_pool(self) -> None:
        """Open the connections that read, and find out whether they have sessions of their own."""
        connections = self._connections
        pool = self._pool = await connections.open_pool(READERS)
        if connections.is_transactional or await keeps_sessions(pool):
            return
        if self.peers is None:
            raise StoreError(NO_SESSIONS)
        await close_pool(pool)
        connections.is_transactional = True
        self._pool = await connections.open_pool(READERS)

    async def _begin(self, writer: SocketConnection) -> None:
        """Begin an incarnation: the only one, or one of many."""
        if self.peers is None:
            self._incarnation = await begin_incarnation(writer, self._schema)
        else:
            peers, has_session = self.peers, not self._connections.is_transactional
            # A pooler keeps its sessions when ours are lost.
            self._is_hinted = has_session and not await is_pooled(writer)
            self._incarnation, worker = await join(
                writer,
                self._schema,
                workflows=peers.workflows,
                code=peers.versions.code,
                is_hinted=self._is_hinted,
                has_session=has_session,
            )
            peers.joined(self._incarnation, worker, writer.local_host)
            if has_session:
                await bound_transactions(writer, peers.replicas)

    async def stop(self) -> None:
        if self.peers is not None and self._writer is not None:
            await self._leave(self._writer, self.peers.worker)
            self.peers.joined(0, 0, None)
        writer, self._writer = self._writer, None
        pool, self._pool = self._pool, None
        self._incarnation = 0
        if pool is not None:
            await close_pool(pool)
        if writer is not None:
            await close_connection(writer)

    async def _leave(self, writer: SocketConnection, worker: int) -> None:
        """Leave the other servers, where that can be; they notice it all the same."""
        with suppress(*ERRORS):
            async with self._connections.keep_session(writer):
                await leave(writer, self._schema, worker, timeout=CLOSE_TIMEOUT)

    def descriptors(self) -> Iterable[int]:
        if self._writer is None or self._writer.is_closed():
            return ()
        return (self._writer.socket.fileno(),)

    async def check(self) -> None:
        if not self._writing.locked() and (self._writer is None or self._writer.is_closed()):
            await self.commit(Batch())  # which has the lock again, where it can be had
        rows = await self._read(f"{SELECT_READ_ONLY} WHERE {self._is_ours}", self._incarnation)
        if rows == []:
            raise self._fenced()
        if rows[0][0] == "on":
            raise StoreUnavailable("Postgres: the database is read-only")

    async def commit(self, batch: Batch) -> Collection[str]:
        if self.peers is not None:
            batch = in_one_order(batch)
        return await self._write(
            lambda writer: put_batch(writer, batch, self._incarnation, self._schema)
        )

    async def claim(self, run_ids: Sequence[str]) -> Sequence[str]:
        rows = await self._write(lambda writer: self._claim(writer, run_ids))
        claimed = {run_id for (run_id,) in rows}
        return [run_id for run_id in run_ids if run_id in claimed]

    async def write_suspects(self, suspects: Sequence[Suspect]) -> None:
        arrays: list[list[Any]] = [
            [suspect.run_id for suspect in suspects],
            [suspect.resumes for suspect in suspects],
            [suspect.strikes for suspect in suspects],
        ]
        await self._write(lambda writer: self._write_alone(writer, WRITE_SUSPECTS, *arrays))

    async def let_go(self) -> None:
        await self._write(lambda writer: self._write_alone(writer, LET_GO))

    async def find_owner(self, run_id: str) -> Owner | None:
        return await self.peers.find_owner(run_id) if self.peers is not None else None

    async def list_servers(self) -> Sequence[ServerRecord]:
        if self.peers is not None:
            return await self.peers.list_members()
        return await super().list_servers()

    async def describe(self, server: ServerRecord) -> None:
        values = server.address, server.version, [*server.workflows], server.state
        await self._write(lambda writer: self._write_alone(writer, DESCRIBE, *values))

    async def exists(self) -> bool:
        try:
            pool = await self._connections.open_pool(1)
            try:
                return bool(await pool.fetchval(SELECT_TABLE, f"{self._schema}.runs"))
            finally:
                await close_pool(pool)
        except ERRORS as error:
            raise refusal(error, self._connections.url) from error

    async def note_copy(self, source: str | None) -> None:
        statement = (END_COPY,) if source is None else (NOTE_COPY, source)
        await self._write(lambda writer: self._write_alone(writer, *statement))

    async def _write_alone(self, writer: Connection, sql: str, *arrays: Any) -> bool | None:
        """Write one statement; return None where the incarnation is dead."""
        statement = qualify(sql, self._schema)
        return await writer.fetchval(statement, self._incarnation, *arrays) or None

    async def _write(
        self, work: Callable[[Connection], Awaitable[T | None]], *, is_repeatable: bool = True
    ) -> T:
        """Return what work on the writing connection returns; None is for a dead incarnation."""
        if self._pool is None:
            raise StoreUnavailable("The store is not open.")
        async with self._writing:
            result = await retrying(lambda: self._write_once(work), is_repeatable=is_repeatable)
        if result is None:
            raise self._fenced()
        return result

    async def _write_once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            if self._writer is None or self._writer.is_closed():
                self._writer = await self._connect_writer()
            async with self._connections.keep_session(self._writer):
                return await work(self._writer)
        except UNWRITABLE as error:
            raise StoreError(f"Postgres: {one_line(error)}") from error
        except ABORTED as error:
            raise unavailable(error) from error
        except ERRORS as error:
            self._drop_writer()
            raise unavailable(error) from error
        except BaseException:
            self._drop_writer()
            raise

    async def _claim(self, writer: Connection, run_ids: Sequence[str]) -> Rows | None:
        """Claim runs; return the ids of those had then, or None where the incarnation is dead."""
        dead = await writer.fetch(qualify(DEAD_OWNERS, self._schema), run_ids)
        owners = [row[0] for row in dead]
        return await self._write_fenced(writer, CLAIM, run_ids, owners)

    async def _write_rows(self, sql: str, *values: Any, is_repeatable: bool = True) -> Rows:
        """Return the rows of a statement that writes; `StoreFenced` where it wrote nothing."""
        return await self._write(
            lambda writer: self._write_fenced(writer, sql, *values), is_repeatable=is_repeatable
        )

    async def _transact(self, work: Callable[[PooledConnection], Awaitable[Rows | None]]) -> Rows:
        """Return the rows of what writes beside the batches; `StoreFenced` where they are None."""
        if self._pool is None:
            raise StoreUnavailable("The store is not open.")
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                if self.peers is not None:
                    await bound_transactions(connection, self.peers.replicas, scope="LOCAL")
                rows = await work(connection)
        except ERRORS as error:
            raise unavailable(error) from error
        if rows is None:
            raise self._fenced()
        return rows

    async def _write_fenced(self, writer: Connection, sql: str, *values: Any) -> Rows | None:
        """Return the rows of a statement that writes, or None where the incarnation is dead.

        The first of its columns is the fence's answer, and the second is NULL where no row is.
        """
        statement = qualify(sql, self._schema)
        rows = [tuple(row) for row in await writer.fetch(statement, self._incarnation, *values)]
        if not rows[0][0]:
            return None
        return [row for _, *row in rows if row[0] is not None]

    def _fenced(self) -> StoreFenced:
        return StoreFenced(f"The schema '{self._schema}' belongs to another process now.")

    @staticmethod
    def _placeholder(index: int) -> str:
        return f"${index}"

    async def _read_rows(self, columns: Sequence[str], sql: str, *values: Any) -> Rows:
        return await self._read(sql, *values)

    async def _read_runs(self, select: str, run_ids: Sequence[str], size: int) -> Rows:
        return await self._read_of(f"{select} WHERE {{}}", run_ids)

    async def _read_of(self, sql: str, run_ids: Sequence[str]) -> Rows:
        return await self._read(sql.format("run_id = ANY($1::text[])"), run_ids)

    async def _read_page(self, columns: Sequence[str], sql: str, *values: Any) -> Rows:
        return await self._read(sql, *values)

    async def _read(self, sql: str, *values: Any) -> Rows:
        query = qualify(sql, self._schema)
        try:
            rows = await retrying(lambda: self._fetch(query, values))
        except asyncpg.CharacterNotInRepertoireError:
            # U+0000, which no text here holds: nothing equals it, as nothing equals NULL.
            return await self._read(sql, *map(_without_nul, values))
        return [tuple(row) for row in rows]

    async def _fetch(self, query: str, values: Sequence[Any]) -> list[asyncpg.Record]:
        if self._pool is None:
            raise StoreUnavailable("The store is not open.")
        try:
            if not self._connections.is_transactional:
                return await self._pool.fetch(query, *values)
            async with self._pool.acquire() as reader, reader.transaction():
                return await reader.fetch(query, *values)
        except asyncpg.CharacterNotInRepertoireError:
            raise
        except ERRORS as error:
            raise unavailable(error) from error

    @property
    def _is_ours(self) -> str:
        return f"EXISTS (SELECT FROM {self._schema}.incarnations WHERE id = $1)"

    async def _claim_schema(self) -> SocketConnection:
        """Wait a little for the lock of a process that has just ended."""
        for _ in range(CLAIM_TRIES):
            try:
                return await self._connect_writer()
            except StoreUnavailable:
                await asyncio.sleep(CLAIM_PAUSE)
        return await self._connect_writer()

    async def _connect_writer(self) -> SocketConnection:
        """Return a connection that has the schema's lock, where a session can have one.

        Where another process has it, that is `StoreFenced` if it has taken the schema, too. A lock
        that is had again proves nothing: each statement asks for the incarnation.
        """
        connection = await self._connections.connect()
        try:
            if not self._connections.is_transactional:
                await self._take_lock(connection)
        except BaseException:
            connection.terminate()  # it may have the lock, and nothing else would end it
            raise
        return connection

    async def _take_lock(self, connection: Connection) -> None:
        if await connection.fetchval(self._lock, OWNER_SPACE, lock_key(self._schema)):
            if self.peers is not None and self._incarnation:
                await bound_transactions(connection, self.peers.replicas)
                if self._is_hinted:
                    await hold_hint(connection, self._schema, self._incarnation)
            return
        sql = f"SELECT {self._is_ours}"
        if self._incarnation and not await connection.fetchval(sql, self._incarnation):
            raise self._fenced()
        # By us, perhaps, and the database has not noticed yet.
        raise ConnectionLost(IN_USE.format(self._schema, ALONE if self.peers else TOGETHER))

    @property
    def _lock(self) -> str:
        """The SQL that takes the schema's lock, alone or together with other servers."""
        return f"SELECT pg_try_advisory_lock{'_shared' if self.peers else ''}($1, $2)"

    def _drop_writer(self) -> None:
        """Close the connection: nobody knows what became of its transaction or its lock."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.terminate()


def _without_nul(value: Any) -> Any:
    return None if isinstance(value, str) and "\0" in value else value
