"""Purging: nothing of a handler is left, and whoever read it is sent away."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.calls import run, start, start_asker, wait_begun
from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.stores import list_leftovers
from tests.support.streams import iterate_frames, read_frames
from tests.support.waiting import until
from tests.support.workflows import add_all
from workflow_server.app.server import WorkflowServer
from workflow_server.stores.memory import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    """Return the store of the server."""
    return MemoryStore()


@pytest.fixture
async def client(store: MemoryStore) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server with this store."""
    server = WorkflowServer(workflow_store=store)
    add_all(server)
    async with open_client(server) as client:
        yield client


async def purge(client: httpx.AsyncClient, handler_id: str) -> httpx.Response:
    """Purge a handler."""
    return await client.post(f"/handlers/{handler_id}/cancel", params={"purge": "true"})


@pytest.mark.parametrize("workflow", ["sleeper", "asker", "waiter", "retrier"])
async def test_a_running_handler_is_purged_and_leaves_nothing(
    client: httpx.AsyncClient, store: MemoryStore, workflow: str
) -> None:
    handler_id = await start(client, workflow)
    await wait_begun(client, handler_id)
    response = await purge(client, handler_id)
    assert (response.status_code, response.json()) == (200, {"status": "deleted"})
    assert list_leftovers(store) == []


@pytest.mark.parametrize("workflow", ["echo", "counter", "failer", "impatient", "conversation"])
async def test_an_ended_handler_is_purged_and_leaves_nothing(
    client: httpx.AsyncClient, store: MemoryStore, workflow: str
) -> None:
    handler_id = (await run(client, workflow))["handler_id"]
    response = await purge(client, handler_id)
    assert (response.status_code, response.json()) == (200, {"status": "deleted"})
    assert list_leftovers(store) == []


async def test_all_runs_of_a_handler_are_purged(
    client: httpx.AsyncClient, store: MemoryStore
) -> None:
    for _ in range(3):
        await client.post("/workflows/conversation/run", json={"handler_id": "h"})
    await purge(client, "h")
    assert list_leftovers(store) == []


@pytest.mark.parametrize("path", ["/handlers/{}", "/results/{}", "/events/{}"])
async def test_a_purged_handler_is_unknown(client: httpx.AsyncClient, path: str) -> None:
    handler_id = (await run(client, "echo"))["handler_id"]
    await purge(client, handler_id)
    response = await client.get(path.format(handler_id))
    assert problem_of(response) == (404, "handler_not_found")


async def test_purging_a_handler_leaves_the_others(client: httpx.AsyncClient) -> None:
    kept = await run(client, "echo")
    await purge(client, (await run(client, "echo"))["handler_id"])
    assert (await client.get("/handlers")).json()["handlers"] == [kept]


async def test_the_id_of_a_purged_handler_starts_afresh(client: httpx.AsyncClient) -> None:
    await client.post("/workflows/conversation/run", json={"handler_id": "h"})
    await purge(client, "h")
    response = await client.post("/workflows/conversation/run", json={"handler_id": "h"})
    assert response.json()["result"]["value"] == {"result": 1}


async def test_the_shared_position_of_a_purged_handler_starts_afresh(
    client: httpx.AsyncClient,
) -> None:
    await client.post("/workflows/echo/run", json={"handler_id": "h"})
    await client.get("/events/h")
    await purge(client, "h")
    await client.post("/workflows/echo/run", json={"handler_id": "h"})
    stream = await client.get("/events/h")
    assert stream.text.count("data: ") == 1


async def test_a_handler_is_purged_once(client: httpx.AsyncClient) -> None:
    handler_id = (await run(client, "echo"))["handler_id"]
    await purge(client, handler_id)
    assert problem_of(await purge(client, handler_id)) == (404, "handler_not_found")


async def test_purging_many_times_at_once_leaves_nothing(
    client: httpx.AsyncClient, store: MemoryStore
) -> None:
    handler_id = await start_asker(client)
    responses = await asyncio.gather(*(purge(client, handler_id) for _ in range(8)))
    codes = {response.status_code for response in responses}
    assert 200 in codes
    assert codes <= {200, 404, 409}
    assert list_leftovers(store) == []


async def test_the_reader_of_a_purged_run_comes_to_an_end(client: httpx.AsyncClient) -> None:
    handler_id = await start(client, "sleeper")
    params = {"after_sequence": -1}
    async with client.stream("GET", f"/events/{handler_id}", params=params) as response:
        frames = iterate_frames(response)
        first = await anext(frames)
        await purge(client, handler_id)
        rest = [frame.type async for frame in frames]
    assert first.type == "Number"
    assert rest[-1] == "WorkflowCancelledEvent"


async def test_a_purged_run_that_others_wait_for_is_answered(client: httpx.AsyncClient) -> None:
    waiting = asyncio.create_task(client.post("/workflows/asker/run", json={"handler_id": "h"}))

    async def accepted() -> bool:
        return (await client.get("/handlers/h")).status_code == 202

    await until(accepted)
    await purge(client, "h")
    response = await waiting
    assert (response.status_code, response.json()["status"]) == (500, "cancelled")


async def test_without_purge_a_cancelled_run_keeps_its_events(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    await client.post(f"/handlers/{handler_id}/cancel", params={"purge": "false"})
    frames = await read_frames(client, handler_id)
    assert [frame.type for frame in frames] == ["Question", "WorkflowCancelledEvent"]
