"""What ended long ago is removed, by the server or by hand, and no row of it is left."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from random import Random

import httpx
import pytest

from tests.durability.bystanders import EXPIRED, expire, is_removed
from tests.durability.faulty import Fault, FaultyStore
from tests.durability.restarts import OffsetClock
from tests.support.backends import DURABLE, FRESH_URLS, opened_store
from tests.support.calls import Json, run, start
from tests.support.live import open_client
from tests.support.postgres import connect, schema_of
from tests.support.problems import problem_of
from tests.support.records import ended_of
from tests.support.streams import read_frames
from tests.support.waiting import until
from tests.support.workflows import add_all
from workflow_server.app.handlers.retention import prune_store
from workflow_server.app.server import WorkflowServer
from workflow_server.schemas.records import Batch, EventRecord
from workflow_server.stores.backends import open_store
from workflow_server.stores.base import Store
from workflow_server.stores.memory import MemoryStore

AT_ONCE = timedelta(microseconds=1)
TALK = {"handler_id": "h"}
LARGE = b'"%b"' % Random(1).randbytes(500_000).hex().encode()  # cannot be compressed much
ENDING = ("echo", "counter", "failer", "conversation", "impatient")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server look for what is old all the time, and remove it in very small batches."""
    monkeypatch.setattr("workflow_server.app.handlers.retention.PAUSE", 0.02)
    monkeypatch.setattr("workflow_server.app.handlers.retention.BATCH", 2)


@pytest.fixture(params=FRESH_URLS)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """Yield the URL of a store of each kind."""
    async with FRESH_URLS[request.param](tmp_path) as url:
        yield url


def make_server(store: Store, retention: timedelta | None = None) -> WorkflowServer:
    """Return a server of the workflows of the tests."""
    server = WorkflowServer(workflow_store=store, retention=retention)
    add_all(server)
    return server


async def run_all(client: httpx.AsyncClient) -> list[str]:
    """Run workflows of each kind, the last one twice, and return the handlers' ids."""
    handlers = [str((await run(client, workflow))["handler_id"]) for workflow in ENDING]
    again = await client.post("/workflows/counter/run", json={"handler_id": handlers[1]})
    assert again.status_code == 200
    return handlers


async def count_rows(store: Store, url: str) -> dict[str, int]:
    """Return how many rows each table of a store has, but for that of the clock."""
    if isinstance(store, MemoryStore):
        held = vars(store).items()
        return {name: len(rows) for name, rows in held if isinstance(rows, dict | list)}
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            tables = file.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'clock'"
            ).fetchall()
            counts = [
                file.execute(f'SELECT count(*) FROM "{name}"').fetchone() for (name,) in tables
            ]
            return {name: count for (name,), (count,) in zip(tables, counts, strict=True)}
    schema = schema_of(url)
    async with connect() as database:
        tables = await database.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = $1 AND tablename <> 'clock'", schema
        )
        return {
            name: await database.fetchval(f'SELECT count(*) FROM "{schema}"."{name}"')
            for (name,) in tables
        }


async def list_ids(client: httpx.AsyncClient) -> list[str]:
    """Return the ids of all handlers."""
    listed = (await client.get("/handlers")).json()["handlers"]
    return [handler["handler_id"] for handler in listed]


async def test_retention_leaves_no_row_of_what_has_ended(url: str) -> None:
    async with opened_store(url) as store:
        before = await count_rows(store, url)
        assert len(before) >= 4
        async with open_client(make_server(store)) as client:
            await run_all(client)
            assert sum((await count_rows(store, url)).values()) > sum(before.values())
        async with open_client(make_server(store, AT_ONCE)) as client:
            await until(lambda: is_empty(client))
        assert await count_rows(store, url) == before


async def test_purging_leaves_no_row_of_what_has_ended_or_waits(url: str) -> None:
    async with opened_store(url) as store:
        before = await count_rows(store, url)
        async with open_client(make_server(store)) as client:
            handlers = [*await run_all(client), await start(client, "asker")]
            for handler_id in handlers:
                purge = {"purge": True}
                purged = await client.post(f"/handlers/{handler_id}/cancel", params=purge)
                assert purged.json() == {"status": "deleted"}
            assert await count_rows(store, url) == before


async def is_empty(client: httpx.AsyncClient) -> bool:
    """Return whether there is no handler."""
    return await list_ids(client) == []


async def test_retention_removes_nothing_that_goes_on_or_is_young(url: str) -> None:
    async with opened_store(url) as store:
        async with open_client(make_server(store, timedelta(hours=1))) as client:
            young = await run_all(client)
            waiting = await start(client, "asker")
            assert sorted(await list_ids(client)) == sorted([*young, waiting])
        async with open_client(make_server(store, AT_ONCE)) as client:
            await until(lambda: has_only(client, waiting))


async def test_a_clock_that_is_set_lets_retention_remove_nothing_that_is_young(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = OffsetClock()
    clock.install(monkeypatch)
    async with (
        opened_store(url) as store,
        open_client(make_server(store, timedelta(hours=1))) as client,
    ):
        young = await run_all(client)
        clock.set_by(86_400)
        for _ in range(2):  # so one look at least was whole
            await expire(store)
            await until(lambda: is_removed(store))
        assert sorted(await list_ids(client)) == sorted(young)


async def has_only(client: httpx.AsyncClient, handler_id: str) -> bool:
    """Return whether there is one handler, this one."""
    return await list_ids(client) == [handler_id]


async def test_a_reader_of_what_was_removed_is_told_that_there_is_no_such_handler(
    url: str,
) -> None:
    async with opened_store(url) as store:
        async with open_client(make_server(store)) as client:
            [handler_id, *_] = await run_all(client)
            assert await read_frames(client, handler_id) != []
        async with open_client(make_server(store, AT_ONCE)) as client:
            await until(lambda: is_empty(client))
            events = await client.get(f"/events/{handler_id}?after_sequence=-1")
            assert (events.status_code, events.json()["code"]) == (404, "handler_not_found")


async def test_retention_removes_the_earlier_runs_of_a_handler_that_goes_on(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_store(url) as store:
        async with open_client(make_server(store)) as client:
            await talk(client)
            rows = await count_rows(store, url)
            await client.post("/handlers/h/cancel", params={"purge": True})
        old, young = await talk_twice(store, monkeypatch)
        async with open_client(make_server(store, timedelta(hours=1))) as client:
            await until(lambda: has_runs(client, [young]))
            assert await count_rows(store, url) == rows
            gone = await client.get("/handlers/h", params={"run_id": old})
            assert (gone.status_code, gone.json()["code"]) == (404, "run_not_found")
            assert (await talk(client))["result"]["value"] == {"result": 3}


async def test_retention_leaves_a_handler_that_ran_again_after_it_was_listed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_store(url) as real:
        with monkeypatch.context() as patched:
            OffsetClock(timedelta(hours=-2)).install(patched)
            async with open_client(make_server(FaultyStore(real))) as client:
                await talk(client)
        store = FaultyStore(real)
        listing = store.break_down("list_ended", Fault.HANG_AFTER, times=1)
        async with open_client(make_server(store, timedelta(hours=1))) as client:
            await until(lambda: listing.happened > 0)
            young = await talk(client)
            store.repair()
            await expire(real)
            await until(lambda: is_removed(real))
            assert (await client.get("/handlers/h")).json()["run_id"] == young["run_id"]


async def test_purging_leaves_a_handler_that_ran_again_after_it_was_looked_at(url: str) -> None:
    async with opened_store(url) as real:
        async with open_client(make_server(FaultyStore(real))) as client:
            await talk(client)
        store = FaultyStore(real)
        async with open_client(make_server(store)) as client:
            looking = store.break_down("get_handler", Fault.HANG_AFTER, times=1)
            purging = asyncio.create_task(client.post("/handlers/h/cancel", params={"purge": True}))
            await until(lambda: looking.happened > 0)
            young = await talk(client)
            store.repair()
            assert problem_of(await purging) == (409, "handler_running")
            assert (await client.get("/handlers/h")).json()["run_id"] == young["run_id"]


async def leave_purged(store: Store) -> None:
    """Let something be left of a run that was purged."""
    events = [EventRecord("expired", number, LARGE, False) for number in range(20)]
    await store.commit(Batch(runs={"expired": EXPIRED}, events=events))
    await store.commit(Batch(purged=[ended_of(EXPIRED)]))
    assert await store.list_purged() != []


@pytest.mark.parametrize("url", DURABLE, indirect=True)
async def test_what_a_process_left_of_purged_runs_is_removed_by_the_next_one(url: str) -> None:
    async with opened_store(url) as store:
        before = await count_rows(store, url)
        await leave_purged(store)
        async with open_client(make_server(store)):
            await until(lambda: is_swept(store))
        assert await count_rows(store, url) == before


@pytest.mark.parametrize("url", DURABLE, indirect=True)
async def test_what_is_left_of_purged_runs_is_removed_while_a_server_runs(url: str) -> None:
    async with opened_store(url) as store, open_client(make_server(store)) as client:
        await until(lambda: has_swept(client))
        await leave_purged(store)
        await until(lambda: is_swept(store))


async def has_swept(client: httpx.AsyncClient) -> bool:
    """Return whether a server has looked for what is left of purged runs."""
    metrics = (await client.get("/metrics")).text
    return bool(re.search(r'work_total{status="completed",work="sweep"} [1-9]', metrics))


async def is_swept(store: Store) -> bool:
    """Return whether nothing is left of purged runs."""
    return not await store.list_purged()


async def talk(client: httpx.AsyncClient) -> Json:
    """Run the handler `h`, and return it as it ended."""
    handler: Json = (await client.post("/workflows/conversation/run", json=TALK)).json()
    return handler


async def talk_twice(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the handler two hours ago and now, and return the ids of its runs."""
    clock = OffsetClock(timedelta(hours=-2))
    with monkeypatch.context() as patched:
        clock.install(patched)
        async with open_client(make_server(store)) as client:
            old = await talk(client)
            clock.advance(7200)
            return [old["run_id"], (await talk(client))["run_id"]]


async def has_runs(client: httpx.AsyncClient, run_ids: list[str]) -> bool:
    """Return whether the handler `h` has these runs and no others, newest first."""
    listed = (await client.get("/handlers/h/runs")).json()["runs"]
    return [handler["run_id"] for handler in listed] == run_ids


async def test_retention_leaves_the_earlier_runs_that_are_young(url: str) -> None:
    async with (
        opened_store(url) as store,
        open_client(make_server(store, timedelta(hours=1))) as client,
    ):
        runs = [(await talk(client))["run_id"] for _ in range(2)]
        await expire(store)
        await until(lambda: is_removed(store))
        assert await has_runs(client, runs[::-1])


@pytest.mark.parametrize("url", DURABLE, indirect=True)
async def test_pruning_by_hand_removes_earlier_runs_of_handlers_that_go_on(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_store(url) as store:
        old, young = await talk_twice(store, monkeypatch)
    assert await prune_store(open_store(url), older_than=timedelta(hours=1)) == (0, 1)
    async with opened_store(url) as store:
        assert await store.get_run(old) is None
        assert await store.get_run(young) is not None


@pytest.mark.parametrize("url", DURABLE, indirect=True)
async def test_pruning_by_hand_removes_what_is_old_and_leaves_no_row(url: str) -> None:
    async with opened_store(url) as store:
        before = await count_rows(store, url)
        async with open_client(make_server(store)) as client:
            handlers = await run_all(client)
    assert await prune_store(open_store(url), older_than=timedelta(hours=1)) == (0, 0)
    assert await prune_store(open_store(url), older_than=AT_ONCE) == (len(handlers), 0)
    assert await count_rows(open_store(url), url) == before
