"""Databases that servers of earlier commits have left, each as a URL of a copy of its own."""

import gzip
import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.postgres import connect, schema_of, temporary_schema

DATABASES = Path(__file__).parents[1] / "fixtures" / "databases"
KINDS = DATABASES / "kinds.py"  # the workflows of the runs
TENANT = "acme"  # the owner of some of the handlers
SCHEMA = re.compile(r"\bolder\b")
COMMITS = ("f3970c6",)


@asynccontextmanager
async def _copy_sqlite(commit: str, folder: Path) -> AsyncIterator[str]:
    file = folder / "older.db"
    file.write_bytes(gzip.decompress((DATABASES / f"{commit}.sqlite3.gz").read_bytes()))
    yield f"sqlite:///{file}"


@asynccontextmanager
async def _copy_postgres(commit: str, _folder: Path) -> AsyncIterator[str]:
    dump = (DATABASES / f"{commit}.postgres.sql").read_text(encoding="utf-8")
    async with temporary_schema() as url:
        async with connect() as database:
            await database.execute(SCHEMA.sub(schema_of(url), dump))
        yield url


OLDER_URLS: dict[str, Callable[[Path], AbstractAsyncContextManager[str]]] = {
    f"{commit}-{kind}": partial(copy, commit)
    for commit in COMMITS
    for kind, copy in (("sqlite", _copy_sqlite), ("postgres", _copy_postgres))
}


async def carry_out(url: str, sql: str) -> list[tuple[Any, ...]]:
    """Carry out a statement past the store, and return its rows."""
    if url.startswith("sqlite:///"):
        file = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            return connection.execute(sql).fetchall()
    async with connect() as database:
        await database.execute(f"SET search_path TO {schema_of(url)}")
        return [tuple(row) for row in await database.fetch(sql)]
