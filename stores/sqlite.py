"""The embedded default: one SQLite file, one process, one writer thread."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic_core import from_json, to_json

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

T = TypeVar("T")

APPLICATION_ID = 0x57465356  # "WFSV", in the file's header: this file is ours
PAGE_SIZE = 16_384  # bytes of a page of a new file; a pack of events takes many of the usual 4,096
CACHE_KIB = 16_384  # of pages that the writer may keep, so that a batch seldom outgrows it

QUICK_CHECK_BYTES = (
    256 << 20
)  # a larger file is not read whole at the start: it would take too long

# SQLite writes the entry of an index anew where one of its columns is named, changed or not.
KEPT = frozenset({"run_id", "tenant", "handler_id", "started_at"})
PUT_RUNS = (
    f"INSERT INTO runs ({', '.join(RUN_COLUMNS)}) VALUES",
    "ON CONFLICT (run_id) DO UPDATE SET "
    + ", ".join(f"{column} = excluded.{column}" for column in RUN_COLUMNS if column not in KEPT),
)
PUT_EVENTS = f"INSERT OR REPLACE INTO events ({', '.join(PACK_COLUMNS)}) VALUES", ""
ADD_TICKS = f"INSERT OR IGNORE INTO ticks ({', '.join(TICK_COLUMNS)}) VALUES", ""
PUT_STATES = f"INSERT OR REPLACE INTO states ({', '.join(STATE_COLUMNS)}) VALUES", ""
ADD_CHANGES = f"INSERT OR IGNORE INTO state_changes ({', '.join(CHANGE_COLUMNS)}) VALUES", ""
PUT_SNAPSHOTS = f"INSERT OR REPLACE INTO snapshots ({', '.join(SNAPSHOT_COLUMNS)}) VALUES", ""
ADD_TO_INBOX = f"INSERT OR IGNORE INTO inbox ({', '.join(INBOX_COLUMNS)}) VALUES", ""
ADD_PAYLOADS = f"INSERT OR IGNORE INTO payloads ({', '.join(PAYLOAD_COLUMNS)}) VALUES", ""
CHUNKS = (256, 64)  # rows a statement; what is left, fewer rows than these, goes into one more
STATEMENTS = 512  # that stay prepared: one for each number of rows and table that comes up
BLOBS = frozenset({"start_event", "result"})
TRIM_TICKS = "DELETE FROM ticks WHERE run_id = ? AND sequence < ?"
FOLD_CHANGES = "DELETE FROM state_changes WHERE run_id = ? AND number < ?"
TAKE_FROM_INBOX = "DELETE FROM inbox WHERE run_id = ? AND number <= ?"
IN_LIST = "run_id IN (SELECT value FROM json_each(?))"
DROP_PAYLOADS = (
    "DELETE FROM payloads WHERE run_id = ? AND number IN (SELECT value FROM json_each(?))"
)
CLEAR = (f"DELETE FROM payloads WHERE {IN_LIST}",)
FINISH = tuple(f"DELETE FROM {table} WHERE {IN_LIST}" for table in TABLES_OF_UNFINISHED)
SUPERSEDE = tuple(f"DELETE FROM {table} WHERE {IN_LIST}" for table in TABLES_OF_CURRENT)
OF_HANDLER = "tenant = ? AND handler_id = ?"
OF_SUPERSEDED = f"{IN_LIST} AND NOT is_current"


class SqliteStore(SqlStore):
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

    async def commit(self, batch: Batch) -> None:
        if self._writer is None:
            raise StoreUnavailable("The store is not open.")
        await self._writer.call(lambda connection: _write(connection, batch))

    @staticmethod
    def _placeholder(index: int) -> str:
        return f"?{index}"

    async def _read(self, sql: str, *values: Any) -> Rows:
        return await self._fetch(lambda connection: connection.execute(sql, values).fetchall())

    async def _read_rows(self, columns: Sequence[str], sql: str, *values: Any) -> Rows:
        return await self._fetch(lambda connection: _fetch_rows(connection, columns, sql, values))

    async def _read_page(self, columns: Sequence[str], sql: str, *values: Any) -> Rows:
        return await self._fetch(lambda connection: _fetch_page(connection, columns, sql, values))

    async def _fetch(self, work: Callable[[sqlite3.Connection], Rows]) -> Rows:
        if self._reader is None:
            raise StoreUnavailable("The store is not open.")
        return await self._reader.call(work)


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
    if pending:
        # In one transaction, since each waits for the disk.
        steps = " ".join(f"{sql}; PRAGMA user_version = {version};" for version, sql in pending)
        connection.executescript(f"BEGIN; {steps} COMMIT;")


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
    rows = batch_to_rows(batch)
    _write_rows(connection, PUT_RUNS, rows.runs)
    _write_rows(connection, PUT_EVENTS, rows.events)
    _write_rows(connection, ADD_TICKS, rows.ticks)
    _write_rows(connection, PUT_STATES, rows.states)
    _write_rows(connection, ADD_CHANGES, rows.changes)
    connection.executemany(FOLD_CHANGES, rows.folded)
    _write_rows(connection, PUT_SNAPSHOTS, rows.snapshots)
    _write_rows(connection, ADD_TO_INBOX, rows.inbox)
    _write_rows(connection, ADD_PAYLOADS, rows.payloads)
    for run_id, numbers in rows.dropped.items():
        connection.execute(DROP_PAYLOADS, (run_id, _list_value(numbers)))
    connection.executemany(TRIM_TICKS, rows.trimmed)
    connection.executemany(TAKE_FROM_INBOX, rows.taken)
    removals = (FINISH, rows.finished), (CLEAR, rows.cleared), (SUPERSEDE, rows.superseded)
    for statements, run_ids in removals:
        if run_ids:
            value = _list_value(run_ids)
            for statement in statements:
                connection.execute(statement, (value,))
    for key in batch.purged:
        _purge(connection, OF_HANDLER, key)
    if batch.purged_runs:
        _purge(connection, OF_SUPERSEDED, (_list_value(batch.purged_runs),))


def _list_value(values: Sequence[str] | Sequence[int]) -> str:
    return to_json(values).decode()


def _purge(connection: sqlite3.Connection, condition: str, values: Sequence[Any]) -> None:
    """Remove the runs of a condition, with all that belongs to them."""
    for table in TABLES_OF_RUN:
        connection.execute(
            f"DELETE FROM {table} WHERE run_id IN (SELECT run_id FROM runs WHERE {condition})",
            values,
        )
    connection.execute(f"DELETE FROM runs WHERE {condition}", values)


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
) -> Rows:
    """Return the rows of a query in one step of a statement, for the reason above."""
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
) -> Rows:
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
