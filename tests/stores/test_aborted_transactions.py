"""Transactions that Postgres rolls back in favor of others go through when they are tried again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace

import pytest

from tests.replicas.joining import beating, joined
from tests.stores.test_claims import is_waited_for
from tests.stores.test_conformance import batch_of, make_run
from tests.support.backends import opened_store
from tests.support.postgres import (
    Connection,
    application_name,
    connect,
    schema_of,
    temporary_schema,
)
from tests.support.waiting import until

SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = $1"
WRITERS = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
    f" AND pid IN ({SESSIONS}) ORDER BY pid"
)
LOCK = "SELECT FROM runs WHERE run_id = $1 FOR UPDATE"


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Yield the URL of a schema that is not there yet."""
    async with temporary_schema() as url:
        yield url


@pytest.fixture
async def other(url: str) -> AsyncIterator[Connection]:
    """Yield a session that is never the one which a deadlock ends."""
    async with connect() as connection:
        await connection.execute(f"SET search_path TO {schema_of(url)}")
        await connection.execute("SET deadlock_timeout = '1h'")
        yield connection


def strict(url: str) -> str:
    """Return the URL of a store whose sessions take no row that was changed meanwhile."""
    database, _, schema = url.partition("?")
    return f"{database}?default_transaction_isolation=repeatable%20read&{schema}"


async def writers_of(watching: Connection, url: str) -> list[int]:
    """Return the sessions of stores that have the lock of a schema."""
    return [row["pid"] for row in await watching.fetch(WRITERS, application_name(url))]


async def succeeds_in_a_deadlock(
    url: str, other: Connection, changing: Awaitable[object]
) -> list[int]:
    """Let what changes the runs a, b and c, in this order, end in a deadlock, and go through.

    Return the sessions that had the schema's lock before it and after it.
    """
    async with connect() as gate, connect() as watching:
        await gate.execute(f"SET search_path TO {schema_of(url)}")
        before = await writers_of(watching, url)
        async with other.transaction():
            await other.execute(LOCK, "c")
            async with gate.transaction():
                await gate.execute(LOCK, "b")
                change = asyncio.ensure_future(changing)
                await until(lambda: is_waited_for(watching, gate))
                # It has a and waits for b; the other one waits for a, and has c.
                locking = asyncio.create_task(other.execute(LOCK, "a"))
                await until(lambda: waits(watching, other))
            # Only the end of its transaction lets the other one have a.
            await locking
            assert not change.done()
        await change
        return [*before, *await writers_of(watching, url)]


async def waits(watching: Connection, waiting: Connection) -> bool:
    """Return whether a session waits for a lock."""
    sql = "SELECT cardinality(pg_blocking_pids($1)) > 0"
    return bool(await watching.fetchval(sql, waiting.get_server_pid()))


@pytest.mark.parametrize("is_shared", [False, True])
async def test_a_batch_that_ends_in_a_deadlock_is_written_on_the_same_connection(
    url: str, other: Connection, is_shared: bool
) -> None:
    async with joined(url) if is_shared else opened_store(url) as store:
        runs = [make_run(run_id) for run_id in "abc"]
        await store.commit(batch_of(*runs))
        changed = [replace(run, error="Changed.") for run in runs]
        sessions = await succeeds_in_a_deadlock(url, other, store.commit(batch_of(*changed)))
        assert len(set(sessions)) == 1
        assert [await store.get_run(run_id) for run_id in "abc"] == changed


async def test_a_claim_that_ends_in_a_deadlock_is_made_on_the_same_connection(
    url: str, other: Connection
) -> None:
    async with opened_store(url) as store:
        await store.commit(batch_of(*[make_run(run_id) for run_id in "abc"]))
        sessions = await succeeds_in_a_deadlock(url, other, store.claim(["a", "b", "c"]))
        assert len(set(sessions)) == 1
        runs = [await store.get_run(run_id) for run_id in "abc"]
        assert [run is not None and run.attempted for run in runs] == [True, True, True]


async def test_a_batch_that_cannot_be_serialized_is_written_on_the_same_connection(
    url: str, other: Connection
) -> None:
    async with opened_store(strict(url)) as store, connect() as watching:
        await store.commit(batch_of(make_run("a")))
        before = await writers_of(watching, url)
        async with other.transaction():
            await other.execute("UPDATE runs SET resumes = 7 WHERE run_id = 'a'")
            change = asyncio.create_task(store.commit(batch_of(make_run("a"))))
            await until(lambda: is_waited_for(watching, other))
        assert await change == []
        assert await store.get_run("a") == make_run("a")
        assert await writers_of(watching, url) == before


async def test_a_heartbeat_that_cannot_be_serialized_is_heard(url: str, other: Connection) -> None:
    async with joined(strict(url)) as store, connect() as watching, beating(store) as pulse:
        first = await pulse.beat()
        before = {row["pid"] for row in await watching.fetch(SESSIONS, application_name(url))}
        async with other.transaction():
            await other.execute("UPDATE clock SET wall = wall")
            beating_again = asyncio.create_task(pulse.beat())
            await until(lambda: is_waited_for(watching, other))
        second = await beating_again
        after = {row["pid"] for row in await watching.fetch(SESSIONS, application_name(url))}
    assert (second.members, second.time >= first.time) == (first.members, True)
    assert after == before
