"""Jobs of servers that share a schema: one of them has each, as long as it is alive."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.replicas.joining import bury, joined, peers_of
from tests.support.postgres import connect, schema_of, terminate_clients
from tests.support.waiting import until
from workflow_server.stores.base import StoreFenced, StoreUnavailable
from workflow_server.stores.postgres import PostgresStore
from workflow_server.stores.replicas import Jobs

LONG = 3600.0  # seconds


@asynccontextmanager
async def opened(*stores: PostgresStore) -> AsyncIterator[list[Jobs]]:
    """Yield the jobs, for each of some servers."""
    async with AsyncExitStack() as stack:
        all_jobs = [peers_of(store).open_jobs() for store in stores]
        for jobs in all_jobs:
            stack.push_async_callback(jobs.close)
        yield all_jobs


async def count_rows(url: str) -> dict[str, int]:
    """Return the number of rows that Procrastinate's tables have, but for that of the workers."""
    tables = ("procrastinate_jobs", "procrastinate_events", "procrastinate_periodic_defers")
    async with connect() as database:
        return {
            table: await database.fetchval(f"SELECT count(*) FROM {schema_of(url)}.{table}")
            for table in tables
        }


async def test_one_server_takes_a_job_and_the_others_do_not(url: str) -> None:
    async with joined(url) as one, joined(url) as other, opened(one, other) as (mine, theirs):
        assert [await mine.take("a"), await theirs.take("a")] == [True, False]
        assert [await theirs.take("b"), await mine.take("b")] == [True, False]


async def test_a_job_is_due_again_some_seconds_after_its_end(url: str) -> None:
    async with joined(url) as one, joined(url) as other, opened(one, other) as (mine, theirs):
        assert await mine.take("a")
        await mine.end("a", again_in=LONG)
        assert [await mine.take("a"), await theirs.take("a")] == [False, False]
        assert await theirs.take("b")
        await theirs.end("b", again_in=0.0)
        assert [await mine.take("b"), await theirs.take("b")] == [True, False]


async def test_a_job_of_a_dead_server_is_taken_and_what_that_one_ends_is_not_ended(
    url: str,
) -> None:
    async with joined(url) as dead, joined(url) as other, joined(url) as third:
        incarnation = peers_of(dead).incarnation
        async with opened(dead, other, third) as (its, theirs, more):
            assert await its.take("a")
            await bury(url, incarnation)
            assert [await theirs.take("a"), await more.take("a")] == [True, False]
            await its.end("a", again_in=0.0)
            await its.give_back()
            assert not await more.take("a")
            await theirs.end("a", again_in=0.0)
            with pytest.raises(StoreFenced):
                await its.take("a")
            assert await more.take("a")


async def test_a_job_that_is_given_back_is_taken_by_another_server(url: str) -> None:
    async with joined(url) as one, joined(url) as other, opened(one, other) as (mine, theirs):
        assert [await mine.take(name) for name in ("a", "b")] == [True, True]
        await mine.give_back()
        assert [await theirs.take(name) for name in ("a", "b")] == [True, True]
        assert [await mine.take(name) for name in ("a", "b")] == [False, False]


async def test_a_server_that_leaves_gives_back_its_jobs(url: str) -> None:
    async with joined(url) as other:
        async with joined(url) as one, opened(one) as (mine,):
            assert await mine.take("a")
        async with opened(other) as (theirs,):
            assert await theirs.take("a")


async def test_a_server_that_does_not_know_whether_it_has_a_job_asks_again(url: str) -> None:
    async with joined(url) as one, joined(url) as other, opened(one, other) as (mine, theirs):
        assert [await mine.take("a"), await mine.take("a")] == [True, True]
        assert not await theirs.take("a")


async def test_jobs_leave_no_rows_but_those_of_the_next_ones(url: str) -> None:
    async with joined(url) as one, opened(one) as (mine,):
        for _ in range(5):
            assert await mine.take("a")
            await mine.end("a", again_in=0.0)
        assert await count_rows(url) == {
            "procrastinate_jobs": 1,
            "procrastinate_events": 2,
            "procrastinate_periodic_defers": 0,
        }


async def test_a_connection_that_was_lost_is_made_anew(url: str) -> None:
    async with joined(url) as one, opened(one) as (mine,):
        assert await mine.take("a")
        async with connect() as database:
            await terminate_clients(database, url)
        await until(lambda: has_ended(mine))
        assert not await mine.take("a")


async def has_ended(jobs: Jobs) -> bool:
    """Return whether a job could be ended; a connection that was lost may not be noticed yet."""
    try:
        await jobs.end("a", again_in=LONG)
    except StoreUnavailable:
        return False
    return True
