"""The store for those who have a Postgres."""

import asyncio
import re
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from schemas.records import Batch, split_key
from stores.base import StoreError, StoreUnavailable
from stores.migrations import pending_migrations
from stores.packs import pack_events
from stores.rows import RUN_COLUMNS, run_to_row
from stores.sql import Rows, SqlStore

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
ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg raises where the connection is lost at odd moments
    EOFError,
    OSError,
    TimeoutError,
)

RUN_TYPES = {
    "run_id": "text",
    "handler_id": "text",
    "is_current": "boolean",
    "workflow_name": "text",
    "status": "text",
    "start_event": "bytea",
    "result": "bytea",
    "error": "text",
    "questions": "text",
    "unresumable": "text",
    "timeout_left": "float8",
    "resumes": "integer",
    "tenant": "text",
    "trace": "text",
}  # every other column is a bigint
RUNS = {column: RUN_TYPES.get(column, "bigint") for column in RUN_COLUMNS}
PACKS = {
    "run_id": "text",
    "first": "bigint",
    "last": "bigint",
    "internal": "text",
    "emitted_at": "text",
    "envelopes": "bytea",
}
TICKS = {"run_id": "text", "sequence": "bigint", "tick": "bytea"}
STATES = {"run_id": "text", "state": "bytea"}


def _insert(table: str, columns: dict[str, str], conflict: str, *, first: int) -> str:
    """Return the SQL that writes rows given as one array a column, numbered from `first`."""
    arrays = ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(columns.values(), first))
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT * FROM unnest({arrays})"
        f" ON CONFLICT {conflict}"
    )


def _replace(columns: dict[str, str], *key: str) -> str:
    changed = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in key)
    return f"({', '.join(key)}) DO UPDATE SET {changed}"


# One statement, and so one transaction and one round trip, for all of a usual batch.
PUT_BATCH = f"""
    WITH put_runs AS ({_insert("runs", RUNS, _replace(RUNS, "run_id"), first=1)}),
    put_events AS ({
    _insert("events", PACKS, _replace(PACKS, "run_id", "first"), first=len(RUNS) + 1)
}),
    put_ticks AS ({_insert("ticks", TICKS, "DO NOTHING", first=len(RUNS) + len(PACKS) + 1)})
    {
    _insert(
        "states",
        STATES,
        _replace(STATES, "run_id"),
        first=len(RUNS) + len(PACKS) + len(TICKS) + 1,
    )
}
"""
PUT_SNAPSHOTS = """
    INSERT INTO snapshots (run_id, tick_sequence, snapshot)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[])
    ON CONFLICT (run_id) DO UPDATE
    SET tick_sequence = excluded.tick_sequence, snapshot = excluded.snapshot
"""
TRIM_TICKS = """
    DELETE FROM ticks USING unnest($1::text[], $2::bigint[]) AS kept (run_id, sequence)
    WHERE ticks.run_id = kept.run_id AND ticks.sequence < kept.sequence
"""
PURGED = "(tenant, handler_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
TABLES_OF_RUN = ("events", "ticks", "states", "snapshots")


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
            pool.terminate()
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

    async def _read_runs(self, sql: str, *values: Any) -> Rows:
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
            await connection.execute(sql)
            await connection.execute("DELETE FROM schema_version")
            await connection.execute("INSERT INTO schema_version VALUES ($1)", new_version)


async def _write(connection: Connection, batch: Batch) -> None:
    if not batch.snapshots and not batch.purged:
        await _put(connection, batch)
        return
    async with connection.transaction():
        await _put(connection, batch)
        await _trim(connection, batch)


async def _put(connection: Connection, batch: Batch) -> None:
    runs = [run_to_row(run) for run in batch.runs.values()]
    ticks = [(t.run_id, t.sequence, t.tick) for t in batch.ticks]
    states = [(s.run_id, s.state) for s in batch.states.values()]
    await connection.execute(
        PUT_BATCH,
        *_columns(runs, len(RUNS)),
        *_columns(pack_events(batch.events), len(PACKS)),
        *_columns(ticks, len(TICKS)),
        *_columns(states, len(STATES)),
    )


def _columns(rows: list[tuple[Any, ...]], count: int) -> Sequence[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [()] * count


async def _trim(connection: Connection, batch: Batch) -> None:
    """Write the snapshots and drop the ticks before them; remove what is purged."""
    snapshots = [(s.run_id, s.tick_sequence, s.snapshot) for s in batch.snapshots.values()]
    if snapshots:
        columns = _columns(snapshots, 3)
        await connection.execute(PUT_SNAPSHOTS, *columns)
        await connection.execute(TRIM_TICKS, *columns[:2])
    if batch.purged:
        owners = list(zip(*map(split_key, batch.purged), strict=True))
        for table in TABLES_OF_RUN:
            await connection.execute(
                f"DELETE FROM {table} WHERE run_id IN (SELECT run_id FROM runs WHERE {PURGED})",
                *owners,
            )
        await connection.execute(f"DELETE FROM runs WHERE {PURGED}", *owners)


def _one_line(error: BaseException) -> str:
    text = str(error).partition("\n")[0].rstrip(".")
    return text or type(error).__name__
