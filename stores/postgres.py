"""The store for those who have a Postgres."""

import asyncio
import re
import zlib
from collections.abc import Sequence
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from workflow_server.schemas.records import Batch
from workflow_server.stores.base import StoreError, StoreUnavailable
from workflow_server.stores.batches import (
    TABLES_OF_CURRENT,
    TABLES_OF_RUN,
    TABLES_OF_UNFINISHED,
    batch_to_rows,
)
from workflow_server.stores.migrations import pending_migrations
from workflow_server.stores.packs import PACK_COLUMNS
from workflow_server.stores.rows import (
    CHANGE_COLUMNS,
    INBOX_COLUMNS,
    PAYLOAD_COLUMNS,
    RUN_COLUMNS,
    SNAPSHOT_COLUMNS,
    STATE_COLUMNS,
    TICK_COLUMNS,
)
from workflow_server.stores.sql import Rows, SqlStore

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:  # generic in their stubs only
    Connection, Pool = asyncpg.Connection, asyncpg.Pool

DEFAULT_SCHEMA = "workflow_server"
SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
LOCK_SPACE = 0x57465356  # the first half of our advisory locks; the second is of the schema's name
READERS = 4
CLAIM_TRIES, CLAIM_PAUSE = 10, 0.3  # how often, and every how many seconds, a lock is tried
TIMEOUT = 30.0  # seconds until a statement counts as failed
CLOSE_TIMEOUT = 3.0  # seconds for reads that are under way when the store is closed
MIGRATION_TIMEOUT = 3600.0  # a migration may rewrite every row
ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg raises where the connection is lost at odd moments
    EOFError,
    OSError,
    TimeoutError,
)


def _insert(table: str, columns: Sequence[str], conflict: str) -> str:
    """Return the SQL that writes rows, given as one array of them.

    An array for each column takes Postgres and us a third longer.
    """
    names = ", ".join(columns)
    return (
        f"INSERT INTO {table} ({names}) SELECT {names} FROM unnest({{}}::{table}[])"
        f" ON CONFLICT {conflict}"
    )


def _replace(columns: Sequence[str], *key: str) -> str:
    changed = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in key)
    return f"({', '.join(key)}) DO UPDATE SET {changed}"


def _delete(table: str, condition: str) -> str:
    """Return the SQL that removes what belongs to runs up to a number, given as two arrays."""
    return (
        f"DELETE FROM {table} USING unnest({{}}::text[], {{}}::bigint[]) AS gone (run_id, number)"
        f" WHERE {table}.run_id = gone.run_id AND {condition}"
    )


def _empty(table: str) -> str:
    """Return the SQL that removes all that belongs to runs, given as an array."""
    return f"DELETE FROM {table} WHERE run_id = ANY({{}}::text[])"


class _Part(NamedTuple):
    """A part of a commit; each `{}` of its SQL stands for one of the arrays."""

    sql: str
    arrays: Sequence[Sequence[Any]]


# The columns are all that their tables have, in the tables' order.
PUT_RUNS = _insert("runs", RUN_COLUMNS, _replace(RUN_COLUMNS, "run_id"))
PUT_EVENTS = _insert("events", PACK_COLUMNS, _replace(PACK_COLUMNS, "run_id", "first"))
ADD_TICKS = _insert("ticks", TICK_COLUMNS, "DO NOTHING")
PUT_STATES = _insert("states", STATE_COLUMNS, _replace(STATE_COLUMNS, "run_id"))
ADD_CHANGES = _insert("state_changes", CHANGE_COLUMNS, "DO NOTHING")
PUT_SNAPSHOTS = _insert("snapshots", SNAPSHOT_COLUMNS, _replace(SNAPSHOT_COLUMNS, "run_id"))
ADD_TO_INBOX = _insert("inbox", INBOX_COLUMNS, "DO NOTHING")
ADD_PAYLOADS = _insert("payloads", PAYLOAD_COLUMNS, "DO NOTHING")
TRIM_TICKS = _delete("ticks", "ticks.sequence < gone.number")
FOLD_CHANGES = _delete("state_changes", "state_changes.number < gone.number")
TAKE_FROM_INBOX = _delete("inbox", "inbox.number <= gone.number")
DROP_PAYLOADS = _delete("payloads", "payloads.number = gone.number")
CLEAR = _empty("payloads")
FINISH = tuple(map(_empty, TABLES_OF_UNFINISHED))
SUPERSEDE = tuple(map(_empty, TABLES_OF_CURRENT))
OF_HANDLERS = "(tenant, handler_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
OF_SUPERSEDED = "run_id = ANY($1::text[]) AND NOT is_current"


class PostgresStore(SqlStore):
    """Keeps runs in one schema of a Postgres database.

    One process owns the schema: it holds an advisory lock on the very connection that writes, so
    that no batch is written by a process that lost it. A batch is one transaction, with its rows
    in bulk.
    """

    def __init__(self, url: str) -> None:
        self._dsn, self._schema = _split_url(url)
        self._writer: Connection | None = None
        self._pool: Pool | None = None
        self._writing = asyncio.Lock()

    async def start(self) -> None:
        if self._pool is not None:
            return
        try:
            self._writer = await self._claim_schema()
            await _migrate(self._writer, self._schema)
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=1,
                max_size=READERS,
                command_timeout=TIMEOUT,
                server_settings=self._settings,
            )
        except ERRORS as error:
            await self.stop()
            raise StoreError(f"Postgres cannot be used: {_one_line(error)}.") from error
        except StoreError:
            await self.stop()
            raise

    async def stop(self) -> None:
        writer, self._writer = self._writer, None
        pool, self._pool = self._pool, None
        if pool is not None:
            await _close_pool(pool)
        if writer is not None:
            await _close(writer)

    async def commit(self, batch: Batch) -> None:
        if self._pool is None:
            raise StoreUnavailable("The store is not open.")
        async with self._writing:
            try:
                if self._writer is None or self._writer.is_closed():
                    self._writer = await self._connect_writer()
                await _write(self._writer, batch)
            except ERRORS as error:
                self._drop_writer()
                raise StoreUnavailable(f"Postgres: {_one_line(error)}") from error
            except asyncio.CancelledError:
                self._drop_writer()
                raise

    @staticmethod
    def _placeholder(index: int) -> str:
        return f"${index}"

    async def _read_rows(self, columns: Sequence[str], sql: str, *values: Any) -> Rows:
        return await self._read(sql, *values)

    async def _read_page(self, columns: Sequence[str], sql: str, *values: Any) -> Rows:
        return await self._read(sql, *values)

    async def _read(self, sql: str, *values: Any) -> Rows:
        if self._pool is None:
            raise StoreUnavailable("The store is not open.")
        try:
            rows = await self._pool.fetch(sql, *values)
        except asyncpg.CharacterNotInRepertoireError:
            # U+0000, which no text here holds: nothing equals it, as nothing equals NULL.
            return await self._read(sql, *map(_without_nul, values))
        except ERRORS as error:
            raise StoreUnavailable(f"Postgres: {_one_line(error)}") from error
        return [tuple(row) for row in rows]

    @property
    def _settings(self) -> dict[str, str]:
        return {"search_path": self._schema, "application_name": f"workflow-server {self._schema}"}

    async def _claim_schema(self) -> Connection:
        """Wait a little for the lock of a process that has just ended."""
        for _ in range(CLAIM_TRIES):
            try:
                return await self._connect_writer()
            except StoreUnavailable:
                await asyncio.sleep(CLAIM_PAUSE)
        return await self._connect_writer()

    async def _connect_writer(self) -> Connection:
        """Return a connection that owns the schema; `StoreError` where another process does."""
        connection = await asyncpg.connect(
            self._dsn, command_timeout=TIMEOUT, timeout=TIMEOUT, server_settings=self._settings
        )
        key = zlib.crc32(self._schema.encode()) - (1 << 31)
        if await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCK_SPACE, key):
            return connection
        connection.terminate()
        raise StoreUnavailable(
            f"The schema '{self._schema}' is in use by another process; stop that one, or choose"
            " another schema with ?schema=NAME in the store's URL."
        )

    def _drop_writer(self) -> None:
        """Close the connection: nobody knows what became of its transaction or its lock."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.terminate()


def _without_nul(value: Any) -> Any:
    return None if isinstance(value, str) and "\0" in value else value


async def _close(connection: Connection) -> None:
    """Close a connection so that its lock is free when this returns, unless it hangs."""
    try:
        await connection.close(timeout=TIMEOUT)
    except ERRORS:
        connection.terminate()


async def _close_pool(pool: Pool) -> None:
    """Close the readers' connections; those that are busy for long are cut off.

    Time is given, because a read that was cancelled makes its connection ready for the next one.
    """
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await pool.close()
    except ERRORS:
        pool.terminate()


def _split_url(url: str) -> tuple[str, str]:
    """Return the DSN and the schema's name, which is the URL's `schema` parameter."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    schema = query.pop("schema", DEFAULT_SCHEMA)
    if not SCHEMA_NAME.fullmatch(schema):
        raise StoreError(
            f"'{schema}' cannot be a schema's name: it must be 1 to 63 of a-z 0-9 _ and not begin"
            " with a digit."
        )
    dsn = urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), parts.fragment))
    return dsn, schema


async def _migrate(connection: Connection, schema: str) -> None:
    async with connection.transaction():
        if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", schema):
            await connection.execute(f"CREATE SCHEMA {schema}")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL)"
        )
        version = await connection.fetchval("SELECT version FROM schema_version") or 0
        for new_version, sql in pending_migrations(
            "postgres", version, where=f"The schema '{schema}'"
        ):
            await connection.execute(sql, timeout=MIGRATION_TIMEOUT)
            await connection.execute("DELETE FROM schema_version")
            await connection.execute("INSERT INTO schema_version VALUES ($1)", new_version)


async def _write(connection: Connection, batch: Batch) -> None:
    if not (batch.purged or batch.purged_runs):
        await _put(connection, batch)
        return
    async with connection.transaction():
        await _put(connection, batch)
        if batch.purged:
            await _purge(connection, OF_HANDLERS, *zip(*batch.purged, strict=True))
        if batch.purged_runs:
            await _purge(connection, OF_SUPERSEDED, batch.purged_runs)


async def _put(connection: Connection, batch: Batch) -> None:
    """Write a batch in one statement, and so in one transaction and one round trip.

    The parts of a statement do not see what the others do, and the rows that they write or remove
    have nothing in common.
    """
    rows = batch_to_rows(batch)
    dropped = [(run_id, number) for run_id in rows.dropped for number in rows.dropped[run_id]]
    parts = [
        _Part(PUT_RUNS, [rows.runs]),
        _Part(PUT_EVENTS, [rows.events]),
        _Part(ADD_TICKS, [rows.ticks]),
        _Part(PUT_STATES, [rows.states]),
        _Part(ADD_CHANGES, [rows.changes]),
        _Part(FOLD_CHANGES, [*zip(*rows.folded, strict=True)]),
        _Part(PUT_SNAPSHOTS, [rows.snapshots]),
        _Part(ADD_TO_INBOX, [rows.inbox]),
        _Part(ADD_PAYLOADS, [rows.payloads]),
        _Part(TRIM_TICKS, [*zip(*rows.trimmed, strict=True)]),
        _Part(TAKE_FROM_INBOX, [*zip(*rows.taken, strict=True)]),
        _Part(DROP_PAYLOADS, [*zip(*dropped, strict=True)]),
        _Part(CLEAR, [rows.cleared]),
        *(_Part(sql, [rows.finished]) for sql in FINISH),
        *(_Part(sql, [rows.superseded]) for sql in SUPERSEDE),
    ]
    parts = [part for part in parts if any(part.arrays)]
    arrays = [array for part in parts for array in part.arrays]
    await connection.execute(_statement(*(part.sql for part in parts)), *arrays)


@cache
def _statement(*parts: str) -> str:
    """Return the SQL of all parts in one, with the arrays numbered."""
    numbers = count(1)
    numbered = [
        part.format(*(f"${next(numbers)}" for _ in range(part.count("{}")))) for part in parts
    ]
    named = ", ".join(f"part{n} AS ({part})" for n, part in enumerate(numbered))
    return f"WITH {named} SELECT 1" if named else "SELECT 1"


async def _purge(connection: Connection, condition: str, *arrays: Sequence[str]) -> None:
    """Remove the runs of a condition, with all that belongs to them."""
    for table in TABLES_OF_RUN:
        await connection.execute(
            f"DELETE FROM {table} WHERE run_id IN (SELECT run_id FROM runs WHERE {condition})",
            *arrays,
        )
    await connection.execute(f"DELETE FROM runs WHERE {condition}", *arrays)


def _one_line(error: BaseException) -> str:
    text = str(error).partition("\n")[0].rstrip(".")
    return text or type(error).__name__
