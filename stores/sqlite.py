"""The embedded default: one SQLite file, one process, one writer thread."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic_core import from_json

from schemas.records import (
    Batch,
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
from stores.base import Store, StoreError, StoreUnavailable
from stores.migrations import pending_migrations
from stores.packs import PACK_COLUMNS, pack_events, unpack_events
from stores.queries import (
    SELECT_RUNS,
    TICK_COLUMNS,
    UNFINISHED_PAGE,
    events_page,
    listing,
    listing_of_runs,
    ticks_page,
)
from stores.rows import RUN_COLUMNS, row_to_run, run_to_row

T = TypeVar("T")

APPLICATION_ID = 0x57465356  # "WFSV", in the file's header: this file is ours
PAGE_SIZE = 16_384  # bytes of a page of a new file; a pack of events takes many of the usual 4,096
CACHE_KIB = 16_384  # of pages that the writer may keep, so that a batch seldom outgrows it

QUICK_CHECK_BYTES = (
    256 << 20
)  # a larger file is not read whole at the start: it would take too long

PUT_RUNS = (
    f"INSERT INTO runs ({', '.join(RUN_COLUMNS)}) VALUES",
    "ON CONFLICT (run_id) DO UPDATE SET "
    + ", ".join(f"{column} = excluded.{column}" for column in RUN_COLUMNS[1:]),
)
PUT_EVENTS = f"INSERT OR REPLACE INTO events ({', '.join(PACK_COLUMNS)}) VALUES", ""
ADD_TICKS = "INSERT OR IGNORE INTO ticks (run_id, sequence, tick) VALUES", ""
PUT_STATES = "INSERT OR REPLACE INTO states (run_id, state) VALUES", ""
PUT_SNAPSHOTS = "INSERT OR REPLACE INTO snapshots (run_id, tick_sequence, snapshot) VALUES", ""
CHUNKS = (256, 64)  # rows a statement; what is left, fewer rows than these, goes into one more
STATEMENTS = 512  # that stay prepared: one for each number of rows and table that comes up
BLOBS = frozenset({"start_event", "result"})
LAST_EVENT = "SELECT last FROM events WHERE run_id = ? ORDER BY first DESC LIMIT 1"
TRIM_TICKS = "DELETE FROM ticks WHERE run_id = ? AND sequence < ?"
TABLES_OF_RUN = ("events", "ticks", "states", "snapshots")


class SqliteStore(Store):
    """Keeps runs in one file, in WAL mode with `synchronous=FULL`.

    The file belongs to one process: a lock beside it (`FILE.lock`) refuses a second one. Reads go
    through a connection and a thread of their own, so that they do not wait for commits.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = FileLock(f"{self.path}.lock", thread_local=False)
        self._writer: _Connection | None = None
        self._reader: _Connection | None = None

    async def start(self) -> None:
        if self._writer is not None:
            return
        await asyncio.to_thread(self._acquire)
        writer, reader = _Connection("sqlite-writer"), _Connection("sqlite-reader")
        try:
            await writer.open(lambda: _open_writer(self.path))
            await reader.open(lambda: _open_reader(self.path))
        except BaseException:
            await writer.close()
            await reader.close()
            self._lock.release()
            raise
        self._writer, self._reader = writer, reader

    def _acquire(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(
                f"{self.path} is in use by another process; stop that one, or choose another file"
                " with --store."
            ) from None
        except OSError as error:
            raise StoreError(f"{self.path} cannot be opened: {error.strerror}.") from error

    async def stop(self) -> None:
        writer, self._writer = self._writer, None
        reader, self._reader = self._reader, None
        if writer is None or reader is None:
            return
        await reader.close()
        await writer.close()
        self._lock.release()

    async def check(self) -> None:
        await self._read("SELECT 1")

    async def commit(self, batch: Batch) -> None:
        if self._writer is None:
            raise StoreUnavailable("The store is not open.")
        await self._writer.call(lambda connection: _write(connection, batch))

    async def get_handler(self, key: str) -> RunRecord | None:
        rows = await self._read(
            f"{SELECT_RUNS} WHERE tenant = ? AND handler_id = ? AND is_current", *split_key(key)
        )
        return row_to_run(rows[0]) if rows else None

    async def get_run(self, run_id: str) -> RunRecord | None:
        rows = await self._read(f"{SELECT_RUNS} WHERE run_id = ?", run_id)
        return row_to_run(rows[0]) if rows else None

    async def list_handlers(self, query: HandlerQuery) -> Sequence[RunRecord]:
        sql, values = listing(query, _placeholder)
        return [row_to_run(row) for row in await self._read_many(RUN_COLUMNS, sql, *values)]

    async def list_runs(
        self, key: str, *, after: RunPosition | None, limit: int
    ) -> Sequence[RunRecord]:
        sql, values = listing_of_runs(key, after, limit, _placeholder)
        return [row_to_run(row) for row in await self._read_many(RUN_COLUMNS, sql, *values)]

    async def list_unfinished(self) -> AsyncIterator[RunRecord]:
        after = ""
        while True:
            rows = await self._read_many(
                RUN_COLUMNS,
                f"{SELECT_RUNS} WHERE status = 'running' AND run_id > ? ORDER BY run_id LIMIT ?",
                after,
                UNFINISHED_PAGE,
            )
            for row in rows:
                yield row_to_run(row)
            if not rows:
                return
            after = rows[-1][0]

    async def list_ended(self, *, before: datetime, limit: int) -> Sequence[str]:
        rows = await self._read(
            "SELECT tenant, handler_id FROM runs WHERE is_current AND completed_at < ?"
            " ORDER BY completed_at LIMIT ?",
            to_micros(before),
            limit,
        )
        return [handler_key(*row) for row in rows]

    async def count_events(self, run_id: str) -> int:
        rows = await self._read(LAST_EVENT, run_id)
        return int(rows[0][0]) + 1 if rows else 0

    async def read_events(self, run_id: str, *, after: int, limit: int) -> Sequence[EventRecord]:
        sql = events_page(_placeholder)
        rows = await self._read_page(PACK_COLUMNS, sql, run_id, after, limit)
        return unpack_events(rows, after=after, limit=limit)

    async def read_ticks(self, run_id: str, *, after: int, limit: int) -> Sequence[TickRecord]:
        sql = ticks_page(_placeholder)
        rows = await self._read_page(TICK_COLUMNS, sql, run_id, after, limit)
        return [TickRecord(*row) for row in rows]

    async def get_state(self, run_id: str) -> bytes | None:
        rows = await self._read("SELECT state FROM states WHERE run_id = ?", run_id)
        return rows[0][0] if rows else None

    async def get_snapshot(self, run_id: str) -> SnapshotRecord | None:
        rows = await self._read(
            "SELECT run_id, tick_sequence, snapshot FROM snapshots WHERE run_id = ?", run_id
        )
        return SnapshotRecord(*rows[0]) if rows else None

    async def _read(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        if self._reader is None:
            raise StoreUnavailable("The store is not open.")
        return await self._reader.call(
            lambda connection: connection.execute(sql, values).fetchall()
        )

    async def _read_many(
        self, columns: Sequence[str], source: str, *values: Any
    ) -> list[list[Any]]:
        if self._reader is None:
            raise StoreUnavailable("The store is not open.")
        return await self._reader.call(
            lambda connection: _fetch_rows(connection, columns, source, values)
        )

    async def _read_page(
        self, columns: Sequence[str], source: str, *values: Any
    ) -> list[list[Any]]:
        if self._reader is None:
            raise StoreUnavailable("The store is not open.")
        return await self._reader.call(
            lambda connection: _fetch_page(connection, columns, source, values)
        )


def _placeholder(index: int) -> str:
    return f"?{index}"


class _Connection:
    """A connection and the one thread that uses it."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._connection: sqlite3.Connection | None = None

    async def open(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connection = await self._run(connect)

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work in the thread; `StoreUnavailable` where SQLite cannot."""
        connection = self._connection
        if connection is None:
            raise StoreUnavailable("The store is not open.")
        try:
            return await self._run(lambda: work(connection))
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"SQLite: {error}") from error

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._run(connection.close)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _open_writer(path: Path) -> sqlite3.Connection:
    """Open the file for writing, its schema up to date; a file that is refused stays as it is."""
    try:
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS
        )
        try:
            _check_file(connection, path)
            _migrate(connection, path)
        except BaseException:
            connection.close()
            raise
    except sqlite3.OperationalError as error:
        raise StoreError(f"{path} cannot be opened: {error}.") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{path} is damaged or not a SQLite file ({error}); move it away, or restore a backup."
        ) from error
    return connection


def _check_file(connection: sqlite3.Connection, path: Path) -> None:
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if tables and application_id != APPLICATION_ID:
        raise StoreError(f"{path} is the file of another program; choose another with --store.")
    if path.stat().st_size > QUICK_CHECK_BYTES:
        return
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise StoreError(f"{path} is damaged ({damage}); move it away, or restore a backup.")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    pending = pending_migrations("sqlite", version, where=str(path))
    # Set after the checks above, which leave a refused file untouched.
    connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for new_version, sql in pending:
        connection.executescript(f"BEGIN; {sql}; PRAGMA user_version = {new_version}; COMMIT;")


def _open_reader(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _write(connection: sqlite3.Connection, batch: Batch) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        _write_batch(connection, batch)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _write_batch(connection: sqlite3.Connection, batch: Batch) -> None:
    _write_rows(connection, PUT_RUNS, [run_to_row(run) for run in batch.runs.values()])
    _write_rows(connection, PUT_EVENTS, pack_events(batch.events))
    _write_rows(connection, ADD_TICKS, [(t.run_id, t.sequence, t.tick) for t in batch.ticks])
    _write_rows(connection, PUT_STATES, [(s.run_id, s.state) for s in batch.states.values()])
    snapshots = batch.snapshots.values()
    _write_rows(
        connection, PUT_SNAPSHOTS, [(s.run_id, s.tick_sequence, s.snapshot) for s in snapshots]
    )
    connection.executemany(TRIM_TICKS, [(s.run_id, s.tick_sequence) for s in snapshots])
    for key in batch.purged:
        owner = split_key(key)
        for table in TABLES_OF_RUN:
            connection.execute(
                f"DELETE FROM {table} WHERE run_id IN"
                " (SELECT run_id FROM runs WHERE tenant = ? AND handler_id = ?)",
                owner,
            )
        connection.execute("DELETE FROM runs WHERE tenant = ? AND handler_id = ?", owner)


def _write_rows(
    connection: sqlite3.Connection, sql: tuple[str, str], rows: list[tuple[Any, ...]]
) -> None:
    """Write rows, many in a statement.

    Each step of a statement lets go of the interpreter's lock, and while the event loop is busy
    it takes up to `sys.getswitchinterval()`, 5 ms, to get it back.
    """
    done = 0
    while left := len(rows) - done:
        size = next((size for size in CHUNKS if size <= left), left)
        chunk = rows[done : done + size]
        statement = _insert_statement(*sql, size, len(chunk[0]))
        connection.execute(statement, list(chain.from_iterable(chunk)))
        done += size


@cache
def _insert_statement(head: str, tail: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"{head} {', '.join([row] * rows)} {tail}"


def _fetch_rows(
    connection: sqlite3.Connection, columns: Sequence[str], source: str, values: Sequence[Any]
) -> list[list[Any]]:
    """Return the rows of a query, in one step of a statement, for the reason above."""
    packed = [f"iif({c} IS NULL, NULL, hex({c}))" if c in BLOBS else c for c in columns]
    sql = f"SELECT json_group_array(json_array({', '.join(packed)})) FROM ({source})"
    rows: list[list[Any]] = from_json(connection.execute(sql, values).fetchone()[0])
    for index in [index for index, column in enumerate(columns) if column in BLOBS]:
        for row in rows:
            if row[index] is not None:
                row[index] = bytes.fromhex(row[index])
    return rows


def _fetch_page(
    connection: sqlite3.Connection, columns: Sequence[str], source: str, values: Sequence[Any]
) -> list[list[Any]]:
    """Return the rows of a query in one step too; their payloads, the last column, as one piece."""
    *others, payload = columns
    sql = (
        f"SELECT json_group_array(json_array({', '.join(others)}, length({payload}))),"
        f" CAST(group_concat(CAST({payload} AS TEXT), '') AS BLOB) FROM ({source})"
    )
    described, payloads = connection.execute(sql, values).fetchone()
    rows: list[list[Any]] = from_json(described)
    start = 0
    for row in rows:
        end = start + row[-1]
        row[-1] = payloads[start:end]
        start = end
    return rows
