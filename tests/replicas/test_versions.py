"""Servers of two versions side by side: who may have which run, and what becomes of the others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from workflows import Context, step
from workflows.events import Event, StartEvent, StopEvent

from tests.replicas.joining import bury, joined, peers_of
from tests.replicas.serving import STEADY, member
from tests.replicas.test_servers import belongs_to_nobody
from tests.replicas.working import Asking, Gated, Named, Signing
from tests.stores.test_conformance import batch_of, make_run
from tests.support.calls import send, start, wait_ended, wait_phase
from tests.support.postgres import connect, schema_of
from tests.support.waiting import until
from workflow_server.app.catalog import Catalog
from workflow_server.app.replicas.code_version import find_code_version
from workflow_server.app.server import WorkflowServer
from workflow_server.schemas.journals import RUN_FORMAT
from workflow_server.schemas.records import Batch, Phase, ServerRecord
from workflow_server.stores import migrations
from workflow_server.stores.migrations import load_migrations
from workflow_server.stores.postgres import PostgresStore
from workflow_server.stores.replicas import Owner, Replicas

ADDED = (
    "ALTER TABLE runs ADD COLUMN added text NOT NULL DEFAULT ''",
    "ALTER TABLE incarnations ADD COLUMN added text NOT NULL DEFAULT ''",
)
SERVED = ["w"]
RESPONSE = {"response": "yes"}
BRISK = Replicas(heartbeat=0.3, stale_after=120.0)
FIRST: dict[str, Any] = {"code_version": "1", "replicas": BRISK}
SECOND: dict[str, Any] = {"code_version": "2", "replicas": BRISK}


class Between(Event):
    """Comes between two steps of the newer code."""


class Renamed(Signing):
    """Asks as `Asking` does, in a step of another name."""

    @step
    async def ask_again(self, ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=f"renamed {self.server}")


class Regated(Signing):
    """Waits as `Gated` does, in a step of another name."""

    @step
    async def wait_again(self, ctx: Context, ev: Named) -> StopEvent:
        return StopEvent(result=f"renamed {self.server}")


Add = Callable[[WorkflowServer], None]


def serve_old(folder: Path, server: str) -> Add:
    """Return what adds the workflows of the older code."""

    def add(served: WorkflowServer) -> None:
        served.add_workflow("asking", Asking(server, folder))
        served.add_workflow("gated", Gated(server, folder))

    return add


def serve_new(folder: Path, server: str) -> Add:
    """Return what adds the workflows of the newer code."""

    def add(served: WorkflowServer) -> None:
        served.add_workflow("asking", Renamed(server, folder))
        served.add_workflow("gated", Regated(server, folder))

    return add


async def store_of(url: str, code: str) -> PostgresStore:
    """Return a store that shares its schema, of a server of some code, started."""
    store = PostgresStore(url, replicas=STEADY)
    peers_of(store).introduce(SERVED, code=code)
    await store.start()
    await store.describe(ServerRecord(address=f"http://{code}", workflows=("w",), state="serving"))
    return store


async def leave_runs(store: PostgresStore, *names: str) -> None:
    """Write queued runs that nobody has."""
    runs = {name: replace(make_run(name), accepted=n) for n, name in enumerate(names)}
    await store.commit(batch_of(*runs.values()))
    await store.commit(Batch(runs=runs, released=set(names)))


async def column_of(url: str, run_id: str, column: str) -> object:
    """Return what a run has in a column."""
    async with connect() as database:
        value: object = await database.fetchval(
            f"SELECT {column} FROM {schema_of(url)}.runs WHERE run_id = $1", run_id
        )
    return value


async def change_run(url: str, run_id: str, changes: str) -> None:
    """Change the row of a run."""
    async with connect() as database:
        await database.execute(
            f"UPDATE {schema_of(url)}.runs SET {changes} WHERE run_id = $1", run_id
        )


async def test_a_server_goes_on_while_a_newer_release_adds_to_the_schema(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(url, STEADY) as old:
        await old.commit(batch_of(make_run("before")))
        known = load_migrations("postgres")
        with monkeypatch.context() as newer:
            newer.setattr(migrations, "load_migrations", lambda _: [*known, *ADDED])
            async with joined(url, STEADY):
                pass
        assert await old.commit(batch_of(make_run("before"), make_run("after"))) == []
        assert await old.claim(["after"]) == ["after"]
        async with joined(url, STEADY) as restarted:
            assert await restarted.commit(batch_of(make_run("last"))) == []


async def test_a_run_has_the_version_of_the_code_that_had_it_last(url: str) -> None:
    old, new = await store_of(url, "old"), await store_of(url, "new")
    await leave_runs(old, "a", "b")
    assert await column_of(url, "a", "code") == "old"
    assert await peers_of(new).claim_next(SERVED, limit=1) == ["a"]
    assert await column_of(url, "a", "code") == "new"
    await old.claim(["b"])
    assert await column_of(url, "b", "code") == "old"
    await old.stop()
    await new.stop()


async def test_runs_of_a_version_are_left_to_its_servers_where_they_are_spared(url: str) -> None:
    old, new = await store_of(url, "old"), await store_of(url, "new")
    await leave_runs(old, "a", "b")
    await leave_runs(new, "c")
    peers = peers_of(new)
    assert await peers.versions.list_codes() == ["old"]
    assert await peers.count_unclaimed(SERVED, limit=9, spared=["old"]) == 1
    assert await peers.claim_next(SERVED, limit=9, spared=["old"]) == ["c"]
    assert await peers.claim_next(SERVED, limit=9) == ["a", "b"]
    await old.stop()
    assert await peers.versions.list_codes() == []
    await new.stop()


async def test_a_run_is_passed_on_once_by_each_version(url: str) -> None:
    old, new = await store_of(url, "old"), await store_of(url, "new")
    await leave_runs(old, "a")
    await peers_of(new).claim_next(SERVED, limit=1)
    assert await peers_of(new).versions.pass_on("a") == Owner(1, "http://old")
    assert await column_of(url, "a", "owner") is None
    assert await peers_of(new).claim_next(SERVED, limit=1) == []
    assert await peers_of(new).count_unclaimed(SERVED, limit=1) == 0
    find = peers_of(new).versions.find_other
    assert await find("a", is_served=True) == Owner(1, "http://old")
    assert await peers_of(old).versions.find_other("a", is_served=True) is None
    assert await peers_of(old).claim_next(SERVED, limit=1) == ["a"]
    # The older one does not fit either: nobody may, so it keeps the run and holds it.
    assert await peers_of(old).versions.pass_on("a") is None
    assert await column_of(url, "a", "owner") == 1
    assert await column_of(url, "a", "unfit") == ["new", "old"]
    await old.stop()
    await new.stop()


async def test_a_run_in_a_format_of_a_later_release_is_left_to_that(url: str) -> None:
    store = await store_of(url, "old")
    await leave_runs(store, "a", "b")
    await change_run(url, "a", f"format = {RUN_FORMAT + 1}")
    versions = peers_of(store).versions
    assert await versions.list_newer(["a", "b"]) == ["a"]
    assert await peers_of(store).claim_next(SERVED, limit=9) == ["b"]
    assert await versions.list_stranded(limit=9) == ["a"]
    async with joined(url, STEADY), connect() as database:
        await database.execute(
            f"UPDATE {schema_of(url)}.incarnations SET format = $1 WHERE id = 2", RUN_FORMAT + 1
        )
        assert await versions.list_stranded(limit=9) == []
        assert await versions.find_other("a", is_served=True) == Owner(2, None)
    await store.stop()


async def test_a_held_run_is_claimed_by_a_version_that_has_not_tried_it(url: str) -> None:
    old, new = await store_of(url, "old"), await store_of(url, "new")
    await leave_runs(old, "a", "b")
    await change_run(url, "a", "phase = 'held', held_because = 'why', unfit = '{new}'")
    assert await peers_of(new).versions.claim_held(SERVED, limit=9) == []
    assert await peers_of(old).versions.claim_held(["another"], limit=9) == []
    assert await peers_of(old).versions.claim_held(SERVED, limit=9) == ["a"]
    await old.stop()
    await new.stop()


async def test_an_answer_goes_to_a_server_whose_code_fits_the_run(url: str, tmp_path: Path) -> None:
    async with (
        member(url, add=serve_old(tmp_path, "old"), code_version="1", idle_timeout=0.2) as old,
        member(url, add=serve_new(tmp_path, "new"), code_version="2") as new,
    ):
        handler_id = await start(old.client, "asking")
        await until(lambda: belongs_to_nobody(url, handler_id))
        sent = await send(new.client, handler_id, "HumanResponseEvent", RESPONSE)
        assert (sent.status_code, sent.json()) == (200, {"status": "sent"})
        ended = await wait_ended(new.client, handler_id)
        assert ended["result"]["value"] == {"result": "yes old"}


async def test_a_run_that_no_version_fits_is_held_until_one_comes(url: str, tmp_path: Path) -> None:
    async with member(url, add=serve_new(tmp_path, "new"), **SECOND) as new:
        async with member(url, add=serve_old(tmp_path, "old"), **FIRST) as old:
            handler_id = await start(old.client, "gated")
            await wait_phase(old.client, handler_id, "working")
        await wait_phase(new.client, handler_id, "held")
        shown = (await new.client.get(f"/handlers/{handler_id}")).json()
        assert "its step 'wait' is gone" in shown["held_because"]
        (tmp_path / "gate").touch()
        async with member(url, add=serve_old(tmp_path, "back"), **FIRST) as back:
            assert (await wait_ended(back.client, handler_id))["result"]["value"] == {
                "result": "back"
            }


async def test_a_run_waits_for_room_at_a_server_whose_code_fits_it(
    url: str, tmp_path: Path
) -> None:
    async with (
        member(
            url, add=serve_old(tmp_path, "full"), code_version="1", max_runs=1, replicas=BRISK
        ) as full,
        member(url, add=serve_new(tmp_path, "new"), **SECOND) as new,
    ):
        await start(full.client, "gated", "first", gate="first")
        await wait_phase(full.client, "first", "working")
        async with member(url, add=serve_old(tmp_path, "old"), **FIRST) as old:
            await start(old.client, "gated", "second", gate="second")
            await wait_phase(old.client, "second", "working")
        run_id = (await new.client.get("/handlers/second")).json()["run_id"]
        await until(lambda: was_passed_on(url, run_id))
        # As where the one that fits had not come yet when the stranded runs were listed.
        await new.server.lifecycle.restorer.hold_stranded([run_id])
        assert await was_passed_on(url, run_id)
        epoch = await column_of(url, run_id, "epoch")
        (tmp_path / "second").touch()
        (tmp_path / "first").touch()
        ended = await wait_ended(new.client, "second")
        assert ended["result"]["value"] == {"result": "full"}
        # Only the one that fits has taken it since.
        assert await column_of(url, run_id, "epoch") == epoch + 1  # type: ignore[operator]  # bigint


async def was_passed_on(url: str, run_id: str) -> bool:
    """Return whether code has not fitted a run, which belongs to nobody again."""
    unfit = await column_of(url, run_id, "unfit")
    return bool(unfit) and await column_of(url, run_id, "owner") is None


async def test_a_run_that_nobody_serves_is_held_and_goes_on_when_somebody_does(
    url: str, tmp_path: Path
) -> None:
    def serve_asking(server: WorkflowServer) -> None:
        server.add_workflow("asking", Asking("other", tmp_path))

    async with member(url, add=serve_asking, replicas=BRISK) as other:
        async with member(url, add=serve_old(tmp_path, "old"), replicas=BRISK) as old:
            handler_id = await start(old.client, "gated")
            await wait_phase(old.client, handler_id, "working")
        await wait_phase(other.client, handler_id, "held")
        shown = (await other.client.get(f"/handlers/{handler_id}")).json()
        assert "no server that is alive serves its workflow 'gated'" in shown["held_because"]
        (tmp_path / "gate").touch()
        async with member(url, add=serve_old(tmp_path, "new"), replicas=BRISK):
            ended = await wait_ended(other.client, handler_id)
        assert ended["result"]["value"] == {"result": "new"}


def test_the_version_of_code_follows_the_files_unless_it_is_named(tmp_path: Path) -> None:
    of_old, of_new = Catalog(), Catalog()
    of_old.add("it", Asking("a", tmp_path))
    of_new.add("it", Renamed("a", tmp_path))
    assert find_code_version(of_old, None) == find_code_version(of_old, None)
    assert find_code_version(of_old, None) != find_code_version(of_new, None)
    assert find_code_version(of_old, "v1").endswith("/v1")
    assert find_code_version(of_old, "v1") == find_code_version(of_new, "v1")


async def test_what_a_dead_server_had_is_preferred_by_servers_of_its_version(url: str) -> None:
    old, new = await store_of(url, "old"), await store_of(url, "new")
    again = await store_of(url, "old")
    await old.commit(batch_of(replace(make_run("a"), phase=Phase.QUEUED)))
    await bury(url, 1)
    await peers_of(new).disown(1, limit=9, with_present=True)
    codes = await peers_of(new).versions.list_codes()
    assert await peers_of(new).claim_next(SERVED, limit=9, spared=codes) == []
    codes = await peers_of(again).versions.list_codes()
    assert await peers_of(again).claim_next(SERVED, limit=9, spared=codes) == ["a"]
    for store in (old, new, again):
        await store.stop()
