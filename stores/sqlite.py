"""The embedded default: one SQLite file, one process, one writer thread."""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache, partial
from itertools import chain
from operator import methodcaller
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic_core import to_json

from workflow_server.schemas.records import Batch, ServerRecord, Suspect
from workflow_server.stores.base import StoreFenced, StoreUnavailable
from workflow_server.stores.batches import batch_to_rows, leave_out
from workflow_server.stores.purging import LIST_PURGED, REMOVE_RUNS, list_parts
from workflow_server.stores.rows import RUN_COLUMNS
from workflow_server.stores.sql import Rows, SqlStore
from workflow_server.stores.sqlite_connection import CLOSED, ThreadedConnection
from workflow_server.stores.sqlite_file import SqliteFile, open_reader, open_writer
from workflow_server.stores.sqlite_pages import fetch_page, split_runs
from workflow_server.stores.sqlite_statements import (
    ADD_CHANGES,
    ADD_PAYLOADS,
    ADD_TICKS,
    ADD_TO_INBOX,
    CLAIM,
    CLEAR,
    DESCRIBE,
    DROP_PAYLOADS,
    END_COPY,
    FINISH,
    FOLD_CHANGES,
    FORGET_HISTORY,
    FORGET_RUNS,
    INCARNATION,
    LET_GO,
    NOTE_COPY,
    NOTE_CURRENT,
    NOTE_EARLIER,
    NOTE_SUPERSEDED,
    PUT_CLOCK,
    PUT_EVENTS,
    PUT_HISTORIES,
    PUT_RUNS,
    PUT_SNAPSHOTS,
    PUT_STATES,
    REFUSED,
    REMOVE_PARTS,
    SELECT_CLAIMED,
    SELECT_PRESENT,
    SELECT_SIZES,
    SUPERSEDE,
    TAKE_FROM_INBOX,
    TRIM_TICKS,
    WRITE_SUSPECT,
)

T = TypeVar("T")

SAVED = "All that was acknowledged was saved in the file that is open."
NOT_SAVED = "What was acknowledged last may be gone."
FENCED = "The file belongs to another process now."
COMPRESSION_WORTH = 0.4  # what a MiB costs: about 3 ms to compress it to this, 2 to write it
LARGE_RUN = 1 << 16  # bytes of a run, from which on a page of them is fetched row by row
CHUNKS = (256, 64)  # rows a statement; what is left, fewer rows than these, goes into one more
LISTED = "run_id IN (SELECT value FROM json_each(?1))"
BLOBS = frozenset({"start_event", "result"})
BLOBS_OF_PAGES = frozenset({"envelopes", "tick", "beside", "payload", "ticks"})


class _Loss(str):
    """The sentence that says what is up with the file."""


class SqliteStore(SqlStore):
    """Keeps runs in one file, in WAL mode with `synchronous=FULL`.

    The file belongs to one process, and a second one is refused. What is acknowledged is in the
    file that has its name: where that was moved, replaced or removed, or its journal was, the batch
    fails, and the store is fenced. Reads go through a connection and a thread of their own, so that
    they do not wait for commits.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = SqliteFile(self.path)
        self._lost: str | None = None
        self._writer: ThreadedConnection | None = None
        self._reader: ThreadedConnection | None = None
        self._incarnation = 0

    async def start(self) -> None:
        if self._writer is not None:
            return
        real = await asyncio.to_thread(self._file.acquire)
        writer, reader = ThreadedConnection("sqlite-writer"), ThreadedConnection("sqlite-reader")
        try:
            await writer.open(lambda: open_writer(real, shown=self.path))
            await reader.open(lambda: open_reader(real))
            self._incarnation = await writer.call(_begin_incarnation)
            await asyncio.to_thread(self._file.note)
        except BaseException:
            await writer.close()
            await reader.close()
            self._file.release()
            raise
        self._writer, self._reader, self._lost = writer, reader, None

    def descriptors(self) -> Iterable[int]:
        return () if self._file.descriptor is None else (self._file.descriptor,)

    async def stop(self) -> None:
        writer, self._writer = self._writer, None
        reader, self._reader = self._reader, None
        if writer is None or reader is None:
            return
        await reader.close()
        await writer.close()
        self._file.release()

    async def check(self) -> None:
        if self._reader is None:
            raise StoreUnavailable(CLOSED)
        loss = self._lost or await self._reader.call(self._find_loss)
        if loss is not None:
            await self._give_up(loss)

    def _find_loss(self, reader: sqlite3.Connection) -> str | None:
        """Return what is up where the file is not this incarnation's, or not in its place."""
        loss = self._file.find_loss()
        if loss is None and reader.execute(INCARNATION).fetchall() != [(self._incarnation,)]:
            return FENCED
        return loss

    async def commit(self, batch: Batch) -> Collection[str]:
        incarnation = self._incarnation
        return await self._write(lambda connection: _write_batch(connection, incarnation, batch))

    async def claim(self, run_ids: Sequence[str]) -> Sequence[str]:
        claimed: set[str] = set()
        for part in await self._split(run_ids):
            values = self._incarnation, _list_value(part)
            rows: Rows = await self._write(partial(_claim, values=values))
            claimed |= {run_id for (run_id,) in rows}
        return [run_id for run_id in run_ids if run_id in claimed]

    async def write_suspects(self, suspects: Sequence[Suspect]) -> None:
        given = {suspect.run_id: suspect for suspect in suspects}
        for part in await self._split(given):
            values = [(given[run_id].resumes, given[run_id].strikes, run_id) for run_id in part]
            await self._write(methodcaller("executemany", WRITE_SUSPECT, values))

    async def let_go(self) -> None:
        for select in SELECT_PRESENT:
            present = [run_id for (run_id,) in await self._read(select, self._incarnation)]
            for part in await self._split(present):
                values = [(self._incarnation, _list_value(part))]
                await self._write(methodcaller("executemany", LET_GO, values))

    async def _split(self, run_ids: Iterable[str]) -> list[list[str]]:
        """Return runs in the parts in which they are written."""
        return split_runs(await self._read(SELECT_SIZES, _list_value([*run_ids])))

    async def describe(self, server: ServerRecord) -> None:
        values = (server.address, server.version, _list_value(server.workflows), server.state)
        await self._write(lambda connection: connection.execute(DESCRIBE, values))

    async def exists(self) -> bool:
        return await asyncio.to_thread(self.path.exists)

    async def note_copy(self, source: str | None) -> None:
        statement = (END_COPY,) if source is None else (NOTE_COPY, (source,))
        await self._write(lambda connection: connection.execute(*statement))

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work in a transaction that is this incarnation's."""
        writer, incarnation = self._writer, self._incarnation
        if writer is None:
            raise StoreUnavailable(CLOSED)
        if self._lost is not None:
            raise StoreFenced(self._lost)

        def write(connection: sqlite3.Connection) -> T | _Loss:
            try:
                result = _write_fenced(connection, incarnation, work)
            except sqlite3.Error:
                if (loss := self._file.find_loss()) is None:
                    raise
                return _Loss(loss)
            return result if (loss := self._file.find_loss()) is None else _Loss(loss)

        result = await writer.call(write)
        if isinstance(result, _Loss):
            await self._give_up(result)
        return result

    async def _give_up(self, loss: str) -> NoReturn:
        """Write nothing any more; what was committed is put into the file that is open."""
        if self._lost is None:
            self._lost = loss
            if loss != FENCED and self._writer is not None:
                try:
                    is_saved = await self._writer.call(_save_journal)
                except StoreUnavailable:
                    is_saved = False
                self._lost = f"{loss} {SAVED if is_saved else NOT_SAVED}"
        raise StoreFenced(self._lost)

    @staticmethod
    def _placeholder(index: int) -> str:
        return f"?{index}"

    async def _read(self, sql: str, *values: Any) -> Rows:
        return await self._fetch(lambda connection: connection.execute(sql, values).fetchall())

    async def _read_rows(self, columns: Sequence[str], sql: str, *values: Any) -> Rows:
        return await self._fetch(
            lambda connection: fetch_page(connection, columns, BLOBS, sql, values)
        )

    async def _read_runs(self, select: str, run_ids: Sequence[str], size: int) -> Rows:
        if size >= LARGE_RUN * len(run_ids):
            return await self._read_of(f"{select} WHERE {{}}", run_ids)
        return await self._read_rows(RUN_COLUMNS, f"{select} WHERE {LISTED}", _list_value(run_ids))

    async def _read_of(self, sql: str, run_ids: Sequence[str]) -> Rows:
        return await self._read(sql.format(LISTED), _list_value(run_ids))

    async def _read_page(self, columns: Sequence[str], sql: str, *values: Any) -> Rows:
        return await self._fetch(
            lambda connection: fetch_page(connection, columns, BLOBS_OF_PAGES, sql, values)
        )

    async def _fetch(self, work: Callable[[sqlite3.Connection], Rows]) -> Rows:
        if self._reader is None:
            raise StoreUnavailable(CLOSED)
        return await self._reader.call(work)


def _save_journal(connection: sqlite3.Connection) -> bool:
    """Put all that was committed into the file; return whether it is there."""
    is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not is_busy


def _begin_incarnation(connection: sqlite3.Connection) -> int:
    """Take the file from the incarnation before; return the number of the new one."""
    return _transact(connection, _replace_incarnation)


def _replace_incarnation(connection: sqlite3.Connection) -> int:
    connection.execute("DELETE FROM incarnations")
    number = connection.execute("INSERT INTO incarnations DEFAULT VALUES").lastrowid
    assert number is not None  # an insert into a table with row ids has one
    return number


def _transact(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Do the work in a transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _write_fenced(
    connection: sqlite3.Connection, incarnation: int, work: Callable[[sqlite3.Connection], T]
) -> T:
    """Do the work in a transaction, unless another incarnation has the file."""

    def work_fenced(connection: sqlite3.Connection) -> T:
        if connection.execute(INCARNATION).fetchall() != [(incarnation,)]:
            raise StoreFenced(FENCED)
        return work(connection)

    return _transact(connection, work_fenced)


def _claim(connection: sqlite3.Connection, *, values: tuple[int, str]) -> Rows:
    """Take runs for an incarnation, and return the ids of those that it has then."""
    connection.execute(CLAIM, values)
    return connection.execute(SELECT_CLAIMED, values).fetchall()


def _write_batch(connection: sqlite3.Connection, incarnation: int, batch: Batch) -> list[str]:
    """Write a batch; return the runs that were refused."""
    rows = batch_to_rows(batch, incarnation, worth=COMPRESSION_WORTH)
    refused: list[str] = []
    if _write_rows(connection, PUT_RUNS, rows.runs) < len(rows.runs):
        given = to_json(
            [[run.run_id, run.epoch, run.status] for run in batch.runs.values()]
        ).decode()
        refused = [run_id for (run_id,) in connection.execute(REFUSED, (given,))]
        batch = leave_out(batch, refused)
        rows = batch_to_rows(batch, incarnation, worth=COMPRESSION_WORTH)
    _write_rows(connection, PUT_EVENTS, rows.events)
    _write_rows(connection, ADD_TICKS, rows.ticks)
    _write_rows(connection, PUT_STATES, rows.states)
    _write_rows(connection, ADD_CHANGES, rows.changes)
    connection.executemany(FOLD_CHANGES, rows.folded)
    _write_rows(connection, PUT_SNAPSHOTS, rows.snapshots)
    _write_rows(connection, ADD_TO_INBOX, rows.inbox)
    _write_rows(connection, ADD_PAYLOADS, rows.payloads)
    _write_rows(connection, PUT_HISTORIES, rows.histories)
    _write_rows(connection, PUT_CLOCK, rows.clock)
    for run_id, numbers in rows.dropped.items():
        connection.execute(DROP_PAYLOADS, (run_id, _list_value(numbers)))
    connection.executemany(FORGET_HISTORY, rows.forgotten)
    connection.executemany(TRIM_TICKS, rows.trimmed)
    connection.executemany(TAKE_FROM_INBOX, rows.taken)
    removals = (FINISH, rows.finished), (CLEAR, rows.cleared), (SUPERSEDE, rows.superseded)
    for statements, run_ids in removals:
        if run_ids:
            value = _list_value(run_ids)
            for statement in statements:
                connection.execute(statement, (value,))
    if batch.purged or batch.purged_runs:
        _purge(connection, batch)
    return refused


def _list_value(values: Sequence[str] | Sequence[int]) -> str:
    return to_json(values).decode()


def _purge(connection: sqlite3.Connection, batch: Batch) -> None:
    """Remove a part of what the batch purges, and of what was purged before."""
    current = _list_value([ended.run_id for ended in batch.purged])
    connection.execute(NOTE_EARLIER, (current,))
    connection.execute(NOTE_SUPERSEDED, (_list_value(batch.purged_runs),))
    connection.execute(REMOVE_RUNS)
    connection.execute(NOTE_CURRENT, (current,))
    connection.execute(REMOVE_RUNS)
    parts = list_parts(connection.execute(LIST_PURGED).fetchall())
    for statement in REMOVE_PARTS:
        connection.executemany(statement, parts)
    connection.execute(FORGET_RUNS)


def _write_rows(
    connection: sqlite3.Connection, sql: tuple[str, str], rows: list[tuple[Any, ...]]
) -> int:
    """Write rows, many in a statement; return how many were written.

    Each step of a statement lets go of the interpreter's lock, and while the event loop is busy
    it takes up to `sys.getswitchinterval()`, 5 ms, to get it back.
    """
    done = written = 0
    while left := len(rows) - done:
        size = next((size for size in CHUNKS if size <= left), left)
        chunk = rows[done : done + size]
        statement = _insert_statement(*sql, size, len(chunk[0]))
        written += connection.execute(statement, list(chain.from_iterable(chunk))).rowcount
        done += size
    return written


@cache
def _insert_statement(head: str, tail: str, rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"{head} {', '.join([row] * rows)} {tail}"
