"""A process that ends while its store is away: what speaks against a run is not lost, nor new."""

import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.durability.supervised import SupervisedServer
from tests.durability.test_poison_runs import FOUND, GUILTY, SERVED, is_at_work
from tests.support.backends import DURABLE
from tests.support.calls import start
from tests.support.postgres_instance import postgres_instance
from tests.support.waiting import until

IN_VAIN = 120.0  # seconds within which a process has ended, and another one that finds no store

SetAway = Callable[[bool], Awaitable[None]]


@asynccontextmanager
async def removable(kind: str, folder: Path) -> AsyncIterator[tuple[str, SetAway]]:
    """Yield the URL of a store, and what takes it away and gives it back."""
    if kind == "postgres":
        async with postgres_instance() as database:

            async def set_stopped(value: bool) -> None:
                await (database.stop("immediate") if value else database.start())

            yield database.url, set_stopped
        return
    file = folder / "runs.db"
    other = sqlite3.connect(file, isolation_level=None)

    async def set_locked(value: bool) -> None:
        other.execute("BEGIN EXCLUSIVE" if value else "ROLLBACK")

    try:
        yield f"sqlite:///{file}", set_locked
    finally:
        other.close()


@asynccontextmanager
async def supervised(kind: str, folder: Path) -> AsyncIterator[tuple[SupervisedServer, SetAway]]:
    """Yield a server that is started again as often as it ends, and what takes its store away."""
    served = Path(shutil.copy(SERVED, folder))
    async with removable(kind, folder) as (url, set_away):
        server = SupervisedServer(served, url, "--max-resumes", "1", POISON_PROBATION="0.05")
        async with server.running():
            yield server, set_away


async def start_in_vain(server: SupervisedServer) -> None:
    """Return when processes have been started that found no store."""
    starts = server.starts
    await until(lambda: server.starts > starts + 1, within=IN_VAIN)


@pytest.mark.parametrize("kind", DURABLE)
async def test_a_run_that_ends_the_process_in_an_outage_is_found_when_the_store_is_back(
    kind: str, tmp_path: Path
) -> None:
    async with supervised(kind, tmp_path) as (server, set_away):
        await start(server.client, "poison", "guilty")
        await start(server.client, "held", "held")
        await until(lambda: is_at_work(server.client, "held"))
        await set_away(True)
        (tmp_path / "armed").touch()
        await start_in_vain(server)
        await set_away(False)
        handler = await server.wait_ended("guilty", within=FOUND)
        assert handler["error"] == GUILTY.format("2 times")
        (tmp_path / "released").touch()
        assert (await server.wait_ended("held", within=FOUND))["error"] is None


@pytest.mark.parametrize("kind", DURABLE)
async def test_starts_that_find_no_store_say_nothing_against_a_run_that_is_alone(
    kind: str, tmp_path: Path
) -> None:
    async with supervised(kind, tmp_path) as (server, set_away):
        await start(server.client, "held", "held")
        await until(lambda: is_at_work(server.client, "held"))
        await set_away(True)
        server.kill()
        await start_in_vain(server)
        await set_away(False)
        await server.wait_healthy()
        await until(lambda: is_at_work(server.client, "held"), within=FOUND)
        (tmp_path / "released").touch()
        assert (await server.wait_ended("held", within=FOUND))["error"] is None
