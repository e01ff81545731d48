"""Stores that share a schema of Postgres: who is in, who is alive, and whose a run is."""

import asyncio
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.replicas.joining import age, beating, bury, joined, peers_of
from tests.stores.test_claims import full_batch, is_waited_for
from tests.stores.test_conformance import batch_of, make_run
from tests.support.backends import opened_store
from tests.support.postgres import connect, schema_of
from tests.support.records import claim_runs
from tests.support.waiting import until
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import SettingsError
from workflow_server.schemas.records import Batch, Phase, ServerRecord, Suspect
from workflow_server.stores.base import StoreError, StoreFenced
from workflow_server.stores.postgres import PostgresStore
from workflow_server.stores.replicas import Owner, Replicas

NAMES = "abcdefgh"
STEADY = Replicas(stale_after=120.0)  # none is dead because the machine is busy


async def test_many_servers_share_a_schema_and_each_is_another_incarnation(url: str) -> None:
    async with joined(url) as a, joined(url) as b:
        assert (peers_of(a).incarnation, peers_of(b).incarnation) == (1, 2)
        await a.describe(ServerRecord(address="http://a", state="serving"))
        members = [replace(server, heartbeat_age=None) for server in await b.list_servers()]
        assert members == [
            ServerRecord(address="http://a", state="serving", incarnation=1),
            ServerRecord(incarnation=2),
        ]
    async with joined(url) as c:
        assert peers_of(c).incarnation == 3


async def test_a_server_alone_leaves_no_worker_of_those_before_it(url: str) -> None:
    async with connect() as database:
        async with joined(url), joined(url):
            workers = f"SELECT count(*) FROM {schema_of(url)}.procrastinate_workers"
            # As after they were killed: nobody has unregistered them.
            kept = await database.fetch(f"SELECT * FROM {schema_of(url)}.procrastinate_workers")
        await database.executemany(
            f"INSERT INTO {schema_of(url)}.procrastinate_workers (id, last_heartbeat)"
            " OVERRIDING SYSTEM VALUE VALUES ($1, $2)",
            [(row["id"], row["last_heartbeat"]) for row in kept],
        )
        await database.execute(
            f"INSERT INTO {schema_of(url)}.incarnations (worker_id)"
            f" SELECT id FROM {schema_of(url)}.procrastinate_workers"
        )
        assert await database.fetchval(workers) == 2
        async with opened_store(url) as alone:
            assert len(await alone.list_servers()) == 1
            assert await database.fetchval(workers) == 0


async def test_servers_that_start_at_once_make_the_schema_once(url: str) -> None:
    stores = [joined(url) for _ in range(4)]
    opened = await asyncio.gather(*(store.__aenter__() for store in stores))
    assert sorted(peers_of(store).incarnation for store in opened) == [1, 2, 3, 4]
    for store in stores:
        await store.__aexit__(None, None, None)


async def test_a_server_alone_and_servers_together_refuse_one_another(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow_server.stores.postgres.CLAIM_PAUSE", 0.0)
    async with joined(url):
        with pytest.raises(StoreError, match="start all of them with --replicas"):
            await PostgresStore(url).start()
    async with opened_store(url):
        with pytest.raises(StoreError, match="runs without --replicas"):
            async with joined(url):
                pass


async def test_a_server_that_joins_is_the_end_of_one_that_was_alone(url: str) -> None:
    async with opened_store(url) as alone:
        await alone.commit(batch_of(make_run()))
    async with joined(url) as store:
        assert await peers_of(store).list_dead() == [1]
        assert [run.epoch for run in await claim_runs(store, "r")] == [1]
    async with opened_store(url) as alone:
        assert [run.epoch for run in await claim_runs(alone, "r")] == [2]


def test_a_server_alone_imports_nothing_of_what_many_need() -> None:
    program = (
        "import sys, workflow_server.app.server, workflow_server.stores.postgres\n"
        "print(sorted({'procrastinate', 'psycopg', 'psycopg_pool'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == "[]\n", ran.stderr


async def test_an_owner_is_found_while_it_is_alive(url: str) -> None:
    async with joined(url) as a, joined(url) as b:
        await a.describe(ServerRecord(address="http://a"))
        await a.commit(batch_of(make_run()))
        assert await b.find_owner("r") == Owner(1, "http://a")
        assert await b.find_owner("nobody") is None
        await bury(url, 1)
        assert await b.find_owner("r") is None


async def test_the_run_of_a_server_that_is_alive_is_claimed_by_no_other(url: str) -> None:
    async with joined(url) as a, joined(url) as b:
        await a.commit(batch_of(make_run()))
        assert await b.claim(["r"]) == []
        assert await peers_of(b).list_dead() == []
        assert list(await b.commit(full_batch("r"))) == ["r"]


async def test_a_server_that_leaves_gives_up_its_runs_at_once(url: str) -> None:
    async with joined(url) as b:
        async with joined(url) as a:
            await a.commit(batch_of(make_run()))
            incarnation = peers_of(a).incarnation
        assert await peers_of(b).list_dead() == [incarnation]


async def test_one_run_of_a_handler_is_begun_and_the_batch_of_the_others_is_written(
    url: str,
) -> None:
    async with joined(url) as a, joined(url) as b:
        first = replace(make_run("first"), handler_id="same", current=True)
        await a.commit(batch_of(first))
        second = replace(make_run("second"), handler_id="same", current=True)
        assert list(await b.commit(batch_of(second, make_run("other")))) == ["second"]
        assert await b.get_run("second") is None
        assert await b.get_run("other") is not None
        assert await b.commit(batch_of(make_run("other"))) == []


async def test_a_handler_runs_again_where_its_earlier_run_ends_in_the_same_batch(
    url: str,
) -> None:
    async with joined(url) as store:
        earlier = replace(make_run("earlier"), handler_id="same", current=True)
        await store.commit(batch_of(earlier))
        batch = batch_of(replace(earlier, current=False), replace(earlier, run_id="later"))
        assert await store.commit(batch) == []
        current = await store.get_handler(earlier.key)
        assert current is not None
        assert current.run_id == "later"


# Heartbeats.


async def test_a_heartbeat_tells_who_is_alive_and_what_time_it_is(url: str) -> None:
    async with joined(url) as a, joined(url) as b, beating(a) as pulse, beating(b) as other:
        first = await pulse.beat()
        assert first.members == (1, 2)
        second = await other.beat()
        assert second.time >= first.time
        assert second.uptime >= first.uptime
        (own, _) = await a.list_servers()
        assert own.heartbeat_age is not None


async def test_the_clock_of_many_servers_stands_still_where_the_databases_is_set_back(
    url: str,
) -> None:
    async with joined(url) as store, beating(store) as pulse, connect() as database:
        before = await pulse.beat()
        hour = 3_600_000_000
        await database.execute(f"UPDATE {schema_of(url)}.clock SET wall = wall + {hour}")
        after = await pulse.beat()
        assert after.time == before.time
        assert (await pulse.beat()).time >= after.time
        # And where it was set forth, only what a server may have been alive is counted.
        await database.execute(f"UPDATE {schema_of(url)}.clock SET wall = wall - {hour}")
        later = await pulse.beat()
        assert later.time - after.time >= hour
        assert later.uptime - after.uptime <= 2_000_000


async def test_a_server_that_has_not_beaten_for_long_is_removed_by_another(url: str) -> None:
    async with joined(url) as a, joined(url) as b, beating(a) as pulse, beating(b) as revived:
        await age(url, 2, 60)
        await pulse.beat()
        await pulse.prune()
        assert (await pulse.beat()).members == (1,)
        with pytest.raises(StoreFenced):
            await revived.beat()
        with pytest.raises(StoreFenced):
            await b.commit(batch_of(make_run()))
        assert await a.get_run("r") is None


async def test_a_server_that_has_not_beaten_just_before_removes_nobody(url: str) -> None:
    # A prune that a frozen database carries out when it goes on, for which all others are stale.
    async with joined(url) as a, joined(url), beating(a) as pulse:
        await age(url, 2, 60)
        await pulse.beat()
        await age(url, 1, 30)
        await pulse.prune()
        assert (await pulse.beat()).members == (1, 2)


async def test_workers_of_the_engine_itself_are_not_removed(url: str) -> None:
    async with joined(url) as store, beating(store) as pulse, connect() as database:
        workers = f"{schema_of(url)}.procrastinate_workers"
        await database.execute(
            f"INSERT INTO {workers} (last_heartbeat) VALUES (now() - interval '1 hour')"
        )
        await age(url, 1, 60)
        await pulse.beat()
        await pulse.prune()
        assert await database.fetchval(f"SELECT count(*) FROM {workers}") == 2


async def test_a_batch_under_way_is_waited_for_and_does_not_stop_the_heart(url: str) -> None:
    async with joined(url) as a, joined(url), beating(a) as pulse, connect() as frozen:
        transaction = frozen.transaction()
        await transaction.start()
        await frozen.execute(
            f"SELECT FROM {schema_of(url)}.incarnations WHERE id = 2 FOR KEY SHARE"
        )
        await age(url, 2, 60)
        await pulse.beat()
        await pulse.prune()
        assert (await pulse.beat()).members == (1, 2)
        await transaction.rollback()
        await pulse.prune()
        assert (await pulse.beat()).members == (1,)


async def test_a_server_that_is_frozen_in_a_transaction_keeps_nobody_waiting(url: str) -> None:
    async with joined(url) as store:
        assert store._writer is not None
        shown = await store._writer.fetchval("SHOW idle_in_transaction_session_timeout")
        assert shown == "1s"


# Runs of the dead.


async def test_what_a_dead_server_had_at_work_is_present(url: str) -> None:
    async with joined(url) as a, joined(url) as b:
        runs = [replace(make_run(name), accepted=n) for n, name in enumerate("abc")]
        runs[1] = replace(runs[1], phase=Phase.WAITING)
        runs[2] = replace(runs[2], phase=Phase.QUEUED, attempted=True, resumes=2, strikes=1)
        await a.commit(batch_of(*runs))
        await bury(url, 1)
        peers = peers_of(b)
        assert await peers.list_dead() == [1]
        assert await peers.list_present(1) == [
            Suspect(run_id="a", accepted=0, phase=Phase.WORKING, was_present=True),
            Suspect(
                run_id="c",
                accepted=2,
                phase=Phase.QUEUED,
                was_present=True,
                attempted=True,
                resumes=2,
                strikes=1,
            ),
        ]
        assert await peers.disown(1, limit=10, with_present=False) == ["b"]
        assert await peers.disown(1, limit=10, with_present=False) == []
        assert [run.epoch for run in await claim_runs(b, "b")] == [1]


async def test_a_verdict_is_written_once(url: str) -> None:
    async with joined(url) as a, joined(url) as b, joined(url) as c:
        await a.commit(batch_of(*map(make_run, "xy")))
        await bury(url, 1)
        found = await peers_of(b).list_present(1)
        judged = [replace(suspect, resumes=1) for suspect in found]
        assert await peers_of(b).write_verdict(1, judged, kept=["y"])
        assert not await peers_of(c).write_verdict(1, judged, kept=["x"])
        assert await peers_of(c).list_dead() == []
        assert await peers_of(c).claim_next(["w"], limit=10) == ["x"]
        await peers_of(b).release(["x", "y"])
        assert await peers_of(c).claim_next(["w"], limit=10) == ["y"]
        run = await c.get_run("y")
        assert run is not None
        assert (run.phase, run.epoch, run.resumes) == (Phase.QUEUED, 2, 1)


async def test_what_a_server_that_was_fenced_had_is_let_go_of_without_a_verdict(url: str) -> None:
    async with joined(url) as a, joined(url) as b:
        await a.commit(batch_of(*map(make_run, "xy")))
        await bury(url, 1)
        assert await peers_of(b).disown(1, limit=1, with_present=True) == ["x"]
        assert await peers_of(b).disown(1, limit=9, with_present=True) == ["y"]
        assert await peers_of(b).claim_next(["w"], limit=10) == ["x", "y"]


async def test_runs_are_claimed_in_the_order_of_acceptance_by_one_server_each(url: str) -> None:
    async with joined(url) as a, joined(url) as b:
        runs = [replace(make_run(name), accepted=n) for n, name in enumerate(NAMES)]
        runs[3] = replace(runs[3], workflow_name="another")
        await a.commit(batch_of(*runs))
        await a.commit(Batch(runs={run.run_id: run for run in runs}, released=set(NAMES)))
        assert await peers_of(b).count_unclaimed(["w"], limit=100) == 7
        assert await peers_of(b).count_unclaimed(["w"], limit=5) == 5
        assert await peers_of(b).claim_next(["w"], limit=2) == ["a", "b"]
        assert await peers_of(a).claim_next(["w"], limit=2) == ["c", "e"]
        shares = await asyncio.gather(
            peers_of(a).claim_next(["w"], limit=9), peers_of(b).claim_next(["w"], limit=9)
        )
        assert sorted([*shares[0], *shares[1]]) == ["f", "g", "h"]
        assert await peers_of(b).claim_next(["w", "another"], limit=9) == ["d"]


@pytest.mark.parametrize("statement", ["verdict", "disown", "claim"])
async def test_a_server_that_joins_while_runs_are_taken_keeps_its_runs(
    url: str, statement: str
) -> None:
    # The statement has begun, and its snapshot has no such server, when that takes the very run
    # that the statement then waits for: the run is looked at again, the servers are not.
    async with joined(url) as a, joined(url) as b, connect() as joining, connect() as watching:
        await a.commit(batch_of(make_run("theirs"), make_run("dead")))
        await bury(url, 1)
        peers, schema = peers_of(b), schema_of(url)
        assert await peers.list_dead() == [1]
        found = await peers.list_present(1)
        transaction = joining.transaction()
        await transaction.start()
        await joining.execute(
            f"INSERT INTO {schema}.incarnations (worker_id)"
            f" SELECT worker_id FROM {schema}.procrastinate_register_worker_v1()"
        )
        newest = f"SELECT max(id) FROM {schema}.incarnations"
        await joining.execute(
            f"UPDATE {schema}.runs SET owner = ({newest}) WHERE run_id = 'theirs'"
        )
        match statement:
            case "verdict":
                taking: asyncio.Future[object] = asyncio.ensure_future(
                    peers.write_verdict(1, found, kept=["theirs", "dead"])
                )
                await until(lambda: is_waited_for(watching, joining))
            case "claim":
                taking = asyncio.ensure_future(b.claim(["theirs", "dead"]))
                await until(lambda: is_waited_for(watching, joining))
            case _:
                taking = asyncio.ensure_future(peers.disown(1, limit=9, with_present=True))
                await asyncio.wait({taking})  # it passes over what is locked
        await transaction.commit()
        await taking
        has = await watching.fetchval(f"SELECT owner FROM {schema}.runs WHERE run_id = 'theirs'")
        assert has == await watching.fetchval(newest)


@pytest.mark.parametrize("store", ["sqlite:///runs.db", "memory:"])
def test_a_store_of_one_server_is_refused_with_replicas(store: str) -> None:
    with pytest.raises(StoreError, match="--replicas takes a Postgres that the servers share"):
        WorkflowServer(workflow_store=store, replicas=True)


def test_the_time_to_be_stale_is_at_least_three_heartbeats() -> None:
    with pytest.raises(SettingsError, match="less than three heartbeats of 2 s"):
        WorkflowServer(heartbeat=2.0, stale_after=5.0)


async def test_a_missing_package_is_told_with_what_installs_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "procrastinate.schema", None)
    with pytest.raises(StoreError, match=r"pip install 'workflow-server\[replicas\]'"):
        async with joined(url):
            pass


async def test_of_many_servers_that_come_at_once_one_makes_the_schema(url: str) -> None:
    stores = [PostgresStore(url, replicas=Replicas()) for _ in range(6)]
    try:
        await asyncio.gather(*(store.start() for store in stores))
        assert len(await stores[0].list_servers()) == len(stores)
    finally:
        await asyncio.gather(*(store.stop() for store in stores))


async def test_servers_that_begin_runs_of_the_same_handlers_do_not_wait_for_each_other(
    url: str,
) -> None:
    async with joined(url, STEADY) as a, joined(url, STEADY) as b:
        for attempt in range(5):  # each of which would fail every other time
            handlers = [f"{attempt}-{number}" for number in range(400)]
            in_a = [replace(make_run(f"a-{name}"), handler_id=name) for name in handlers]
            in_b = [replace(make_run(f"b-{name}"), handler_id=name) for name in reversed(handlers)]
            refused = await asyncio.gather(a.commit(batch_of(*in_a)), b.commit(batch_of(*in_b)))
            assert sum(map(len, refused)) == len(handlers)
