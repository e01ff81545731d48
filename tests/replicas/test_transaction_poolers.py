"""Many servers behind a PgBouncer that gives each transaction another session."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.replicas.joining import age, beating, bury, joined, peers_of
from tests.replicas.servers import here, open_gate, process_of
from tests.replicas.serving import STEADY, member
from tests.replicas.test_jobs import opened
from tests.replicas.test_servers import begin
from tests.stores.test_conformance import batch_of, make_events, make_run
from tests.stores.test_removing import ENDED, make_full
from tests.support.backends import opened_store
from tests.support.calls import answer, start_asker, wait_ended, wait_question
from tests.support.pgbouncer import pooled
from tests.support.postgres import connect, schema_of
from tests.support.streams import read_frames
from workflow_server.schemas.records import Batch
from workflow_server.stores.base import StoreError, StoreFenced
from workflow_server.stores.postgres import PostgresStore
from workflow_server.stores.postgres_sessions import keeps_sessions

LARGE = 20 << 20  # bytes, more than one statement takes


@pytest.fixture
async def through(url: str) -> AsyncIterator[str]:
    """Yield the URL of the schema through a pooler of few sessions, which all servers share."""
    async with pooled(pool_mode="transaction", default_pool_size="3") as pooler:
        yield f"{pooler}?schema={schema_of(url)}"


async def test_stores_write_and_read_at_once_in_few_sessions(through: str) -> None:
    async with joined(through, STEADY) as a, joined(through, STEADY) as b:
        names = [f"r{number}" for number in range(40)]
        await asyncio.gather(
            *(
                store.commit(batch_of(make_run(f"{label}{name}")))
                for name in names
                for label, store in (("a", a), ("b", b))
            )
        )
        read = await asyncio.gather(
            *(
                store.get_run(f"{label}{name}")
                for name in names
                for label in "ab"
                for store in (a, b)
            )
        )
        assert [run.run_id for run in read if run is not None] == [
            f"{label}{name}" for name in names for label in "ab" for _ in "ab"
        ]


async def test_what_is_refused_of_a_batch_leaves_the_rest_as_it_is(through: str) -> None:
    async with joined(through, STEADY) as a, joined(through, STEADY) as b:
        await a.commit(batch_of(make_run("theirs"), make_run("first")))
        taken = replace(make_run("second"), handler_id=make_run("first").handler_id)
        batch = batch_of(make_run("theirs"), taken, make_run("ours"))
        assert sorted(await b.commit(batch)) == ["second", "theirs"]
        assert await a.get_run("ours") is not None
        assert await a.get_run("second") is None


async def test_a_batch_of_many_statements_is_written_whole(through: str) -> None:
    async with joined(through, STEADY) as store:
        await store.commit(make_full("r"))
        events = [
            replace(event, envelope=b"%d" % number * LARGE)
            for number, event in enumerate(make_events(2))
        ]
        await store.commit(replace(batch_of(make_run("large")), events=[*make_events(0), *events]))
        assert await store.get_run("large") is not None
        await store.commit(Batch(purged=[ENDED]))
        assert await store.get_run("r") is None


async def test_heartbeats_and_removals_go_through_it(url: str, through: str) -> None:
    async with joined(through) as a, joined(through) as b, beating(a) as pulse:
        await age(url, 2, 60)
        await pulse.beat()
        await pulse.prune()
        assert (await pulse.beat()).members == (1,)
        with pytest.raises(StoreFenced):
            await b.commit(batch_of(make_run()))
        with pytest.raises(StoreFenced):
            await b.check()


async def test_runs_of_the_dead_and_slots_are_taken_through_it(url: str, through: str) -> None:
    async with joined(through, STEADY) as a, joined(through, STEADY) as b:
        await a.commit(batch_of(make_run("x"), make_run("y")))
        await bury(url, 1)
        peers = peers_of(b)
        assert await peers.list_dead() == [1]
        assert await peers.disown(1, limit=9, with_present=True) == ["x", "y"]
        assert await peers.claim_next(["w"], limit=9) == ["x", "y"]
        assert await peers.slots.take("w", ["x", "y"], limit=1) == ["x"]
        assert await b.claim(["x"]) == ["x"]


async def test_it_is_found_out_while_others_use_its_sessions(through: str) -> None:
    place, _, _ = through.partition("?")
    options: dict[str, Any] = {"min_size": 2, "max_size": 2, "statement_cache_size": 0}
    async with (
        asyncpg.create_pool(place, **options) as pool,
        asyncpg.create_pool(place, **options) as busy,
    ):

        async def use() -> None:
            while True:
                await busy.fetchval("SELECT 1")

        users = [asyncio.create_task(use()) for _ in range(2)]
        try:
            assert [await keeps_sessions(pool) for _ in range(20)] == [False] * 20
        finally:
            for user in users:
                user.cancel()
            await asyncio.gather(*users, return_exceptions=True)


async def test_no_session_is_left_with_a_lock_or_a_setting(url: str, through: str) -> None:
    async with joined(through, STEADY) as store, connect() as database:
        await store.commit(batch_of(make_run()))
        key = schema_of(url)
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = ANY($1)"
        pids = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE '%' || $1"
        sessions = [row["pid"] for row in await database.fetch(pids, key)]
        assert sessions
        assert await database.fetchval(held, sessions) == 0
        pooler, _, _ = through.partition("?")
        other = await asyncpg.connect(pooler, statement_cache_size=0)  # in one of those sessions
        try:
            left = "SELECT current_setting('idle_in_transaction_session_timeout')"
            assert await other.fetchval(left) == "0"
        finally:
            await other.close()


async def test_a_single_server_and_many_behind_it_refuse_one_another(
    url: str, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow_server.stores.postgres.CLAIM_PAUSE", 0.0)
    async with joined(through, STEADY), joined(url, STEADY):
        pass  # directly and behind it, servers share the schema
    async with joined(through, STEADY):
        with pytest.raises(StoreError, match="by servers with --replicas behind a pooler"):
            await PostgresStore(url).start()
    async with opened_store(url):
        with pytest.raises(StoreError, match="runs without --replicas"):
            async with joined(through, STEADY):
                pass


async def test_servers_answer_for_one_another_behind_it(through: str) -> None:
    async with member(through) as owner, member(through) as other:
        handler_id = await start_asker(owner.client)
        await wait_question(other.client, handler_id, "1")
        assert (await answer(other.client, handler_id, "yes")).status_code == 200
        assert (await wait_ended(other.client, handler_id))["result"]["value"] == {
            "result": ["yes"]
        }
        frames = await read_frames(other.client, handler_id)
        assert frames == await read_frames(owner.client, handler_id)


async def test_the_runs_of_a_killed_server_go_on_behind_it(through: str, tmp_path: Path) -> None:
    async with process_of(through, tmp_path) as a, here(through, tmp_path, "b") as b:
        await begin(a, "r")
        await a.kill()
        open_gate(tmp_path)
        assert await b.result("r") == "b"


async def test_one_server_takes_each_job_behind_it(through: str) -> None:
    async with (
        joined(through, STEADY) as one,
        joined(through, STEADY) as other,
        opened(one, other) as (mine, theirs),
    ):
        for number in range(30):
            taken = await asyncio.gather(mine.take("a"), theirs.take("a"))
            assert sum(taken) == 1, (number, taken)
            await (mine, theirs)[taken.index(True)].end("a", again_in=0.0)
        assert await mine.take("b")
        await mine.give_back()
        assert await theirs.take("b")
