"""A connection to SQLite with a thread of its own."""

import asyncio
import errno
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from workflow_server.stores.base import StoreError, StoreFull, StoreUnavailable

T = TypeVar("T")

CLOSED = "The store is not open."


class ThreadedConnection:
    """A connection and the one thread that uses it."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._connection: sqlite3.Connection | None = None

    async def open(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Connect in the thread."""
        self._connection = await self._run(connect)

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work in the thread; `StoreUnavailable` where SQLite cannot."""
        connection = self._connection
        if connection is None:
            raise StoreUnavailable(CLOSED)
        try:
            return await self._run(lambda: work(connection))
        except (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.ProgrammingError) as error:
            raise StoreError(f"SQLite: {error}") from error
        except (sqlite3.Error, OSError) as error:
            raise _unavailable(error) from error

    async def close(self) -> None:
        """Close the connection after the work that was given before; the thread ends."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._run(connection.close)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _unavailable(error: sqlite3.Error | OSError) -> StoreUnavailable:
    codes = getattr(error, "sqlite_errorcode", None), getattr(error, "errno", None)
    is_full = codes[0] == sqlite3.SQLITE_FULL or codes[1] == errno.ENOSPC
    return (StoreFull if is_full else StoreUnavailable)(f"SQLite: {error}")
