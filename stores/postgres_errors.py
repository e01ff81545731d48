"""Errors of Postgres: what each says of the database, the connection or the values."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from workflow_server.stores.base import StoreFull, StoreUnavailable

T = TypeVar("T")

ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg raises where the connection is lost at odd moments
    EOFError,
    OSError,
    TimeoutError,
)
# What is said of a connection that another one may take the place of.
LOST = (
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    EOFError,
    ConnectionResetError,
    BrokenPipeError,
)
# What is said of values, and not of the database.
UNWRITABLE = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
# What is said of a transaction that stood in the way of others: it is rolled back, and the same
# statements may go through at once, on the same connection.
ABORTED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
RETRY_TIME = 10.0  # seconds in which a lost connection or an aborted transaction is no failure
RETRY_PAUSE = 0.3  # seconds, the longest between two tries


class ConnectionLost(StoreUnavailable):
    """The connection was lost while the database is there, or has just come back."""


class TransactionAborted(StoreUnavailable):
    """The database has rolled a transaction back in favor of another one."""


def unavailable(error: Exception) -> StoreUnavailable:
    """Return what the contract has for one of `ERRORS`."""
    kind = StoreUnavailable
    if isinstance(error, asyncpg.InsufficientResourcesError):  # a full disk, among others
        kind = StoreFull
    elif isinstance(error, LOST):
        kind = ConnectionLost
    elif isinstance(error, ABORTED):
        kind = TransactionAborted
    return kind(f"Postgres: {one_line(error)}")


async def retrying(work: Callable[[], Awaitable[T]], *, is_repeatable: bool = True) -> T:
    """Do work at once again where a connection is lost, or it is aborted.

    What is not repeatable fails with its connection: it may have been done.
    """
    loop = asyncio.get_running_loop()
    ends_at, pause = loop.time() + RETRY_TIME, 0.0
    while True:
        try:
            return await work()
        except (ConnectionLost, TransactionAborted) as error:
            is_over = loop.time() > ends_at
            if is_over or not (is_repeatable or isinstance(error, TransactionAborted)):
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause + 0.02, RETRY_PAUSE)


def one_line(error: BaseException) -> str:
    """Return what an error says, without what follows in further lines."""
    text = str(error).partition("\n")[0].rstrip(".")
    return text or type(error).__name__
