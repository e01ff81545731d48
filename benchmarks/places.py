"""Where a server keeps its runs: a place of its own for each turn, removed afterwards."""

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from benchmarks.environments import BENCH, CHECKOUT

KINDS = ("memory", "sqlite", "postgres")


class NoDatabase(Exception):
    """The Postgres cannot be used."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place for runs; `python` is an interpreter that can reach a Postgres."""

    url: str
    python: Path
    folder: Path | None = None

    async def size(self) -> int:
        """Return the bytes on disk; 0 for memory."""
        if self.folder is not None:
            return sum(file.stat().st_size for file in self.folder.iterdir())
        return await act(self.python, "size", self.url) if "//" in self.url else 0


@asynccontextmanager
async def fresh_place(
    kind: str, python: Path, *, postgres: str, whole_database: bool
) -> AsyncIterator[Place]:
    """Make a place of a kind, and remove it at the end of the block.

    In Postgres it is a schema of the database that `postgres` names, or a database beside it.
    """
    match kind:
        case "memory":
            yield Place("memory:", python)
        case "sqlite":
            with tempfile.TemporaryDirectory(dir=BENCH) as folder:
                yield Place(f"sqlite:///{folder}/runs.db", python, Path(folder))
        case _:
            name = f"bench_{uuid.uuid4().hex[:12]}"
            url = _beside(postgres, name) if whole_database else f"{postgres}?schema={name}"
            await act(python, "create", url)
            try:
                yield Place(url, python)
            finally:
                await act(python, "drop", url)


async def act(python: Path, action: str, url: str) -> int:
    """Carry out an action of `benchmarks.databases` and return its number."""
    process = await asyncio.create_subprocess_exec(
        python,
        *("-m", "benchmarks.databases", action, url),
        cwd=CHECKOUT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise NoDatabase(errors.decode().strip().rpartition("\n")[2])
    return int(output)


def _beside(postgres: str, database: str) -> str:
    return urlunsplit(urlsplit(postgres)._replace(path=f"/{database}"))
