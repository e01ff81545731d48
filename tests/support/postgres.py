"""A Postgres for the tests: schemas that are theirs alone."""

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:  # generic in its stubs only
    Connection = asyncpg.Connection

VARIABLE = "TEST_POSTGRES_URL"
DEFAULT = "postgresql://postgres@127.0.0.1:5432/test"


@asynccontextmanager
async def connect() -> AsyncIterator[Connection]:
    """Yield a connection to the database in which schemas are made and dropped.

    Where none was named and none is there, the test is skipped.
    """
    try:
        connection = await asyncpg.connect(os.environ.get(VARIABLE, DEFAULT), timeout=30)
    except (OSError, TimeoutError):
        if VARIABLE in os.environ:
            raise
        pytest.skip(f"There is no Postgres at {DEFAULT}; name one with {VARIABLE}.")
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def temporary_schema() -> AsyncIterator[str]:
    """Yield the URL of a schema that is not there yet, and is dropped at the end."""
    schema = f"test_{secrets.token_hex(6)}"
    async with connect() as connection:
        try:
            yield f"{os.environ.get(VARIABLE, DEFAULT)}?schema={schema}"
        finally:
            await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


def schema_of(url: str) -> str:
    """Return the schema that a store's URL names."""
    return url.rpartition("=")[2]


async def terminate_clients(connection: Connection, url: str) -> None:
    """Let the database close every connection of the store that uses a schema."""
    await connection.execute(
        """
        SELECT pg_terminate_backend(activity.pid) FROM pg_stat_activity AS activity
        WHERE activity.pid <> pg_backend_pid() AND activity.application_name = $1
        """,
        application_name(url),
    )


def application_name(url: str) -> str:
    """Return the name under which the store of a schema is known to the database."""
    return f"workflow-server {schema_of(url)}"
