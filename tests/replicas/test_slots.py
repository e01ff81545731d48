"""The limit of a workflow on its runs, counted over all servers that share a schema."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.replicas.joining import bury, joined, peers_of
from tests.replicas.serving import STEADY, Member, member
from tests.replicas.test_servers import belongs_to_nobody
from tests.replicas.working import Asking, Gated
from tests.stores.test_conformance import batch_of, make_run
from tests.support.backends import opened_store
from tests.support.calls import send, start, wait_ended, wait_phase
from tests.support.postgres import connect, schema_of
from tests.support.records import NOON
from tests.support.waiting import until
from tests.support.workflows import Greeter
from workflow_server.app.catalog import Catalog
from workflow_server.app.reads import Reads
from workflow_server.app.replicas.slots import SharedQueue, SlotKeeping
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import Limits
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.records import Phase, Status
from workflow_server.stores.base import StoreUnavailable
from workflow_server.stores.postgres import PostgresStore
from workflow_server.stores.postgres_connections import PooledConnection
from workflow_server.stores.postgres_slots import slot_lock
from workflow_server.stores.sql import Rows

SERVERS, RUNS, LIMIT, ROUNDS = 4, 6, 3, 10


async def write_runs(store: PostgresStore, *names: str) -> None:
    """Write queued runs that a server has."""
    await store.commit(
        batch_of(
            *(
                replace(make_run(name), accepted=n, phase=Phase.QUEUED)
                for n, name in enumerate(names)
            )
        )
    )


async def count_granted(url: str, workflow: str) -> int:
    """Return how many running runs of a workflow have a slot."""
    async with connect() as database:
        count: int = await database.fetchval(
            f"SELECT count(*) FROM {schema_of(url)}.runs"
            " WHERE workflow_name = $1 AND is_granted AND status = 'running'",
            workflow,
        )
    return count


async def test_servers_that_ask_at_once_get_as_many_slots_as_there_are(url: str) -> None:
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(joined(url, STEADY)) for _ in range(SERVERS)]
        for attempt in range(ROUNDS):
            workflow = f"w{attempt}"
            runs = {
                store: [
                    replace(make_run(f"{attempt}-{n}-{name}"), workflow_name=workflow)
                    for name in range(RUNS)
                ]
                for n, store in enumerate(stores)
            }
            for store, written in runs.items():
                await store.commit(batch_of(*written))
            given = await asyncio.gather(
                *(
                    peers_of(store).slots.take(workflow, [run.run_id], limit=LIMIT)
                    for store, written in runs.items()
                    for run in written
                )
            )
            assert sum(map(len, given)) == await count_granted(url, workflow) == LIMIT


async def test_who_waits_for_another_to_count_sees_what_that_has_taken(url: str) -> None:
    async with joined(url, STEADY) as a, joined(url, STEADY) as b, connect() as holding:
        await write_runs(a, "x")
        await write_runs(b, "y")
        transaction = holding.transaction()
        await transaction.start()
        lock = slot_lock(schema_of(url), "w")
        await holding.execute("SELECT pg_advisory_xact_lock($1, $2)", *lock)
        asked = [
            asyncio.create_task(peers_of(store).slots.take("w", [name], limit=1))
            for store, name in ((a, "x"), (b, "y"))
        ]
        await until(lambda: count_waiting(lock, 2))  # both have begun, and neither has counted
        await transaction.rollback()
        given = [await task for task in asked]
        assert sorted(map(len, given)) == [0, 1]


async def count_waiting(lock: tuple[int, int], count: int) -> bool:
    """Return whether so many sessions wait for a lock."""
    async with connect() as database:
        waiting: int = await database.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND classid::bigint = $1 AND objid::bigint = $2",
            *(half & 0xFFFFFFFF for half in lock),
        )
    return waiting == count


async def test_a_run_that_is_just_being_written_gets_its_slot_later(url: str) -> None:
    async with joined(url, STEADY) as a, connect() as writing:
        await write_runs(a, "x")
        transaction = writing.transaction()
        await transaction.start()
        await writing.execute(f"SELECT FROM {schema_of(url)}.runs WHERE run_id = 'x' FOR UPDATE")
        assert await peers_of(a).slots.take("w", ["x"], limit=1) == []
        await transaction.rollback()
        assert await peers_of(a).slots.take("w", ["x"], limit=1) == ["x"]


async def test_a_run_keeps_its_slot_until_it_ends_or_is_held(url: str) -> None:
    async with joined(url, STEADY) as a, joined(url, STEADY) as b:
        await write_runs(a, "x", "y")
        await write_runs(b, "z")
        take = peers_of(a).slots.take
        assert await take("w", ["x", "y"], limit=1) == ["x"]
        assert await take("w", ["x"], limit=1) == ["x"]
        assert await take("w", ["not there"], limit=9) == []
        assert await take("w", ["z"], limit=9) == []  # another server has it
        waiting = replace(make_run("x"), phase=Phase.WAITING)
        await a.commit(replace(batch_of(waiting), released={"x"}))
        assert await take("w", ["y"], limit=1) == []
        await a.claim(["x"])
        run = await a.get_run("x")
        assert run is not None
        await a.commit(batch_of(replace(run, phase=Phase.HELD)))
        assert await take("w", ["y"], limit=1) == ["y"]
        ended = replace(make_run("y"), phase=Phase.ENDED, status=Status.COMPLETED)
        await a.commit(batch_of(ended))
        assert await peers_of(b).slots.take("w", ["z"], limit=1) == ["z"]


async def test_the_slot_of_a_dead_server_s_run_goes_with_the_run(url: str) -> None:
    async with joined(url, STEADY) as a, joined(url, STEADY) as b:
        await write_runs(a, "x")
        await write_runs(b, "y")
        assert await peers_of(a).slots.take("w", ["x"], limit=1) == ["x"]
        await bury(url, 1)
        await peers_of(b).disown(1, limit=9, with_present=True)
        assert await peers_of(b).slots.take("w", ["y"], limit=1) == []
        assert await peers_of(b).claim_next(["w"], limit=9) == ["x"]
        assert await peers_of(b).slots.take("w", ["y", "x"], limit=1) == ["x"]


def serve(server: WorkflowServer, folder: Path, name: str) -> None:
    """Add workflows that limit their runs."""
    server.add_workflow("gated", Gated(name, folder, at_once=LIMIT))
    server.add_workflow("asking", Asking(name, folder, at_once=1))


async def member_of(stack: AsyncExitStack, url: str, folder: Path, name: str) -> Member:
    """Return a server whose workflows limit their runs."""
    return await stack.enter_async_context(
        member(url, add=lambda server: serve(server, folder, name), idle_timeout=0.2)
    )


async def count_working(member: Member) -> int:
    """Return how many runs are at work at all servers."""
    handlers = (await member.client.get("/handlers")).json()["handlers"]
    return sum(handler["phase"] == "working" for handler in handlers)


async def test_no_more_runs_are_at_work_at_all_servers_than_their_workflow_allows(
    url: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        servers = [await member_of(stack, url, tmp_path, name) for name in "abc"]
        names = [f"r{number}" for number in range(12)]
        await asyncio.gather(
            *(
                start(servers[number % 3].client, "gated", name, gate=name)
                for number, name in enumerate(names)
            )
        )
        left = set(names)
        while left:
            await until(lambda: is_working(servers[0], min(LIMIT, len(left))))
            handlers = (await servers[0].client.get("/handlers")).json()["handlers"]
            working = [h["handler_id"] for h in handlers if h["phase"] == "working"]
            assert len(working) <= LIMIT
            (tmp_path / working[0]).touch()
            await wait_ended(servers[1].client, working[0])
            left.discard(working[0])
        assert await count_granted(url, "gated") == 0


async def is_working(member: Member, count: int) -> bool:
    """Return whether so many runs are at work at all servers."""
    return await count_working(member) == count


async def test_a_waiting_run_keeps_its_slot_for_all_servers(url: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        a, b = [await member_of(stack, url, tmp_path, name) for name in "ab"]
        first = await start(a.client, "asking")
        await until(lambda: belongs_to_nobody(url, first))
        second = await start(b.client, "asking")
        await wait_phase(a.client, second, "queued")
        sent = await send(b.client, first, "HumanResponseEvent", {"response": "yes"})
        assert sent.status_code == 200, sent.text
        assert (await wait_ended(a.client, first))["result"]["value"] == {"result": "yes b"}
        await wait_phase(a.client, second, "waiting")


async def test_a_queued_run_of_a_server_that_stops_begins_elsewhere(
    url: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        a = await member_of(stack, url, tmp_path, "a")
        first = await start(a.client, "asking")
        await wait_phase(a.client, first, "waiting")
        async with AsyncExitStack() as ends:
            b = await member_of(ends, url, tmp_path, "b")
            second = await start(b.client, "asking")
            await wait_phase(a.client, second, "queued")
        await send(a.client, first, "HumanResponseEvent", {"response": "yes"})
        await wait_ended(a.client, first)
        await wait_phase(a.client, second, "waiting")
        await send(a.client, second, "HumanResponseEvent", {"response": "no"})
        assert (await wait_ended(a.client, second))["result"]["value"] == {"result": "no a"}


async def test_waiting_runs_of_a_single_server_have_slots_when_it_becomes_many(url: str) -> None:
    async with opened_store(url) as alone:
        waiting = replace(make_run("x"), phase=Phase.WAITING, slot=True)
        await alone.commit(replace(batch_of(waiting), released={"x"}))
    async with joined(url, STEADY) as a:
        await write_runs(a, "y")
        assert await peers_of(a).slots.take("w", ["y"], limit=1) == []


async def test_a_run_that_has_a_slot_and_no_server_goes_on_where_others_wait_for_slots(
    url: str, tmp_path: Path
) -> None:
    def add(server: WorkflowServer, name: str) -> None:
        server.add_workflow("gated", Gated(name, tmp_path, at_once=1))

    async with AsyncExitStack() as stack:
        # Those that wait are as many as may be at work.
        b = await stack.enter_async_context(
            member(url, add=lambda server: add(server, "b"), max_runs=1)
        )
        async with member(url, add=lambda server: add(server, "a"), shutdown_timeout=0.1) as a:
            first = await start(a.client, "gated", "first", gate="first")
            await wait_phase(b.client, first, "working")
            second = await start(b.client, "gated", "second", gate="second")
            await wait_phase(b.client, second, "queued")
        (tmp_path / "first").touch()
        (tmp_path / "second").touch()
        assert (await wait_ended(b.client, first))["result"]["value"] == {"result": "b"}
        await wait_ended(b.client, second)


async def test_a_run_that_comes_with_its_slot_begins_before_those_that_wait_for_it(
    url: str,
) -> None:
    catalog = Catalog()
    catalog.add("w", Greeter(num_concurrent_runs=1))
    workflow = catalog.find("w")
    async with joined(url, STEADY) as store:
        await write_runs(store, "early", "late")
        assert await peers_of(store).slots.take("w", ["late"], limit=1) == ["late"]
        queue = SharedQueue(Limits(max_runs_per_workflow=1), clock=lambda: NOON)
        queue.open()
        early = queue.take(workflow, 1, run_id="early")
        late = queue.take(workflow, 2, run_id="late", earlier=True)
        keeping = SlotKeeping(Reads(store, Metrics()), peers_of(store), queue)
        task = asyncio.create_task(keeping.run())
        try:
            await until(lambda: not late.is_pending)
            assert early.is_pending
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_server_that_is_frozen_while_it_counts_keeps_nobody_waiting(url: str) -> None:
    async with joined(url) as store, joined(url) as b:
        await write_runs(b, "y")
        lock = slot_lock(schema_of(url), "w")
        counts, thawed = asyncio.Event(), asyncio.Event()

        async def freeze(connection: PooledConnection) -> Rows | None:
            await connection.execute("SELECT pg_advisory_xact_lock($1, $2)", *lock)
            counts.set()
            await thawed.wait()
            await connection.execute("SELECT 1")
            return []

        frozen = asyncio.create_task(store._transact(freeze))
        await counts.wait()
        try:
            assert await peers_of(b).slots.take("w", ["y"], limit=1) == ["y"]
        finally:
            thawed.set()
        with pytest.raises(StoreUnavailable):
            await frozen
