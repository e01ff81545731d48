"""The notes of the database by which the harness finds writes of the dead, and takeovers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.replicas.crash.audit import Audit
from tests.replicas.joining import bury, joined, peers_of
from tests.stores.test_conformance import batch_of, make_run
from tests.support.postgres import connect, schema_of
from workflow_server.stores.base import StoreFenced
from workflow_server.stores.postgres import PostgresStore


@pytest.fixture
async def audit(url: str) -> Audit:
    """Return the notes of the schema, which are taken from now on."""
    audit = Audit(url)
    await audit.install()
    return audit


@asynccontextmanager
async def named(url: str, name: str) -> AsyncIterator[PostgresStore]:
    """Yield a store that goes by a name."""
    async with joined(url.replace("?", f"?application_name={name}&")) as store:
        yield store


async def test_writes_of_the_living_and_refused_ones_of_the_dead_are_no_zombies(
    url: str, audit: Audit
) -> None:
    async with named(url, "a") as a, named(url, "b") as b:
        await a.commit(batch_of(make_run("one")))
        await bury(url, peers_of(a).incarnation)
        with pytest.raises(StoreFenced):
            await a.commit(batch_of(make_run("two")))
        await b.commit(batch_of(make_run("three")))
        assert await audit.list_zombies() == []
        assert (await audit.count_writes())["runs"] == 2


async def test_a_write_of_a_dead_server_is_a_zombie(url: str, audit: Audit) -> None:
    async with named(url, "a") as a, connect() as database:
        await a.commit(batch_of(make_run("one")))
        await bury(url, peers_of(a).incarnation)
        await database.execute("SET application_name = 'a'")
        await database.execute(f"UPDATE {schema_of(url)}.runs SET status = 'failed'")
        (zombie,) = await audit.list_zombies()
    assert zombie.startswith("a wrote into runs ")


async def test_a_takeover_takes_from_the_loss_to_the_claim(url: str, audit: Audit) -> None:
    async with named(url, "a") as a, named(url, "b") as b:
        await a.commit(batch_of(make_run("one"), make_run("two")))
        await audit.note_loss("a move", "a")
        await bury(url, peers_of(a).incarnation)
        await b.claim(["one"])
        times = await audit.time_takeovers()
        assert times.keys() == {"a move"}
        (seconds,) = times["a move"]
        assert seconds > 0
        assert len(await audit.list_unended()) == 2
