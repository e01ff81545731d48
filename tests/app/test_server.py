"""`WorkflowServer`: the Python face, for people who embed the service."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.support.calls import answer, run, start, start_asker, wait_ended
from tests.support.live import open_client, serving_app
from tests.support.problems import problem_of
from tests.support.streams import iterate_frames, read_frames
from tests.support.waiting import until
from tests.support.workflows import (
    Asker,
    Conversation,
    Echo,
    Extra,
    ExtraWaiter,
    Greeter,
    Greeting,
    add_all,
)
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import Limits, ServiceSettings, SettingsError, load_settings
from workflow_server.stores.base import StoreError
from workflow_server.stores.memory import MemoryStore


def make_server(store: MemoryStore | None = None) -> WorkflowServer:
    """Return a server with the test workflows."""
    server = WorkflowServer(workflow_store=store)
    add_all(server)
    return server


@asynccontextmanager
async def call(server: WorkflowServer) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client that calls the application in this process, without any lifespan."""
    transport = httpx.ASGITransport(server.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        yield client


async def test_three_lines_serve_a_workflow() -> None:
    server = WorkflowServer()
    server.add_workflow("greet", Greeter())
    async with open_client(server) as client:
        assert (await run(client, "greet", name="Ada"))["result"]["value"] == {
            "text": "Hello, Ada!"
        }


def test_an_option_is_called_as_the_setting_that_it_sets() -> None:
    settings = WorkflowServer(max_resumes=3, retention=timedelta(days=1), max_runs=2).settings
    assert settings == ServiceSettings(max_resumes=3, retention=timedelta(days=1), max_runs=2)


def test_an_option_wins_over_the_limits_and_these_over_the_settings() -> None:
    server = WorkflowServer(
        settings=load_settings(idle_timeout=1.0, max_runs=1, rate_burst=1, root_path="/flows"),
        limits=Limits(max_runs=2, rate_burst=2),
        rate_burst=3,
    )
    assert server.settings == ServiceSettings(
        idle_timeout=1.0, root_path="/flows", max_runs=2, rate_burst=3
    )


def test_no_heartbeats_are_asked_for_with_none() -> None:
    assert WorkflowServer(sse_heartbeat_interval=None).settings.sse_heartbeat_interval == 0


@pytest.mark.parametrize("name", ["idle_timeot", "port", "store"])
def test_an_option_that_is_no_setting_is_a_type_error_that_names_it(name: str) -> None:
    options: dict[str, Any] = {name: 1}
    with pytest.raises(TypeError, match=rf"\AA WorkflowServer has no option called '{name}'\.\Z"):
        WorkflowServer(**options)


def test_a_bad_option_is_refused_in_a_sentence() -> None:
    sentence = (
        "idle_timeout cannot be -1: Input should be greater than or equal to 0. It is: Seconds "
        "after which a run that waits for an event is released from memory."
    )
    with pytest.raises(SettingsError, match=rf"\A{re.escape(sentence)}\Z"):
        WorkflowServer(idle_timeout=-1)


async def test_a_mounted_server_starts_itself_on_the_first_request() -> None:
    server = make_server()
    outer = Starlette(routes=[Mount("/flows", app=server.app)])
    async with (
        serving_app(outer) as base_url,
        httpx.AsyncClient(base_url=f"{base_url}/flows") as client,
    ):
        handler_id = await start_asker(client)
        await answer(client, handler_id, "yes")
        assert (await wait_ended(client, handler_id))["status"] == "completed"
        assert (await client.get("/health")).json() == {"status": "healthy"}
        await server.stop()


async def test_many_first_requests_of_a_mounted_server_start_it_once() -> None:
    store = CountingStore()
    server = make_server(store)
    async with call(server) as client:
        responses = await asyncio.gather(*(client.get("/handlers") for _ in range(10)))
    await server.stop()
    assert [response.status_code for response in responses] == [200] * 10
    assert store.starts == 1


class CountingStore(MemoryStore):
    """Counts how often it was opened and closed."""

    def __init__(self) -> None:
        super().__init__()
        self.starts = 0
        self.stops = 0

    async def start(self) -> None:
        await asyncio.sleep(0)
        self.starts += 1

    async def stop(self) -> None:
        self.stops += 1


async def test_the_context_manager_starts_and_stops() -> None:
    store = CountingStore()
    server = make_server(store)
    async with server.contextmanager() as entered:
        during = (store.starts, store.stops)
    assert entered is server
    assert (during, (store.starts, store.stops)) == ((1, 0), (1, 1))


async def test_a_connection_may_be_idle_for_longer_than_proxies_and_clients_keep_one() -> None:
    http = make_server().make_http_server("127.0.0.1", 0)
    assert http.config.timeout_keep_alive == 75
    shorter = make_server().make_http_server("127.0.0.1", 0, {"timeout_keep_alive": 5})
    assert shorter.config.timeout_keep_alive == 5


async def test_starting_and_stopping_twice_does_nothing_more() -> None:
    store = CountingStore()
    server = make_server(store)
    await asyncio.gather(server.start(), server.start())
    await server.start()
    await asyncio.gather(server.stop(), server.stop())
    await server.stop()
    assert (store.starts, store.stops) == (1, 1)


async def test_start_returns_the_server() -> None:
    server = make_server()
    assert await server.start() is server
    await server.stop()


async def test_stopping_a_server_that_was_never_started_does_nothing() -> None:
    store = CountingStore()
    await make_server(store).stop()
    assert (store.starts, store.stops) == (0, 0)


async def test_a_stopped_server_refuses_requests_until_it_is_started_again() -> None:
    server = make_server()
    async with call(server) as client:
        await server.start()
        await server.stop()
        refused = await client.get("/handlers")
        await server.start()
        handler = await run(client, "echo")
        await server.stop()
    assert problem_of(refused) == (503, "not_started")
    assert handler["status"] == "completed"


async def test_what_was_kept_is_there_after_a_restart() -> None:
    server = make_server()
    async with open_client(server) as client:
        handler = await run(client, "greeter", name="Ada")
    async with open_client(server) as client:
        again = (await client.get(f"/handlers/{handler['handler_id']}")).json()
        frames = await read_frames(client, handler["handler_id"])
    assert again.items() >= handler.items()
    assert frames[-1].envelope == handler["result"]


async def test_two_servers_over_one_store_see_the_same_handlers() -> None:
    store = MemoryStore()
    async with open_client(make_server(store)) as client:
        handler = await run(client, "echo")
    async with open_client(make_server(store)) as client:
        assert (await client.get("/handlers")).json()["handlers"] == [handler]


@pytest.mark.parametrize("store", ["memory:", "memory://", None])
async def test_a_store_is_given_by_its_url(store: str | None) -> None:
    server = WorkflowServer(workflow_store=store)
    async with server.contextmanager(), call(server) as client:
        assert (await client.get("/health")).json() == {"status": "healthy"}


@pytest.mark.parametrize("url", ["nosql://here", "", "memory"])
def test_an_unknown_store_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(StoreError, match="known are memory:, sqlite:, "):
        WorkflowServer(workflow_store=f"x{url}")


async def test_a_workflow_may_be_added_after_the_start(
    server: WorkflowServer, client: httpx.AsyncClient
) -> None:
    before = await client.get("/workflows/late/schema")
    server.add_workflow("late", Echo())
    handler = await run(client, "late", a=1)
    assert problem_of(before) == (404, "workflow_not_found")
    assert handler["result"]["value"] == {"result": {"a": 1}}
    assert "late" in (await client.get("/workflows")).json()["workflows"]


async def test_a_name_is_taken_once() -> None:
    server = WorkflowServer()
    server.add_workflow("it", Echo())
    with pytest.raises(ValueError, match="'it' already"):
        server.add_workflow("it", Greeter())
    assert [type(workflow) for workflow in server.get_workflows().values()] == [Echo]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\n", "a" * 256])
async def test_a_name_that_no_url_could_hold_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a workflow's name"):
        WorkflowServer().add_workflow(name, Echo())


@pytest.mark.parametrize("name", ["my flow", "größe", "a%2fb", "a?b#c", "..."])
async def test_an_unusual_name_is_served(name: str) -> None:
    server = WorkflowServer()
    server.add_workflow(name, Echo())
    async with open_client(server) as client:
        [listed] = (await client.get("/workflows")).json()["workflows"]
        url = httpx.URL(client.base_url).copy_with(raw_path=_path_of(listed))
        response = await client.post(url)
    assert (listed, response.status_code) == (name, 200)


def _path_of(name: str) -> bytes:
    escaped = "".join(f"%{byte:02x}" for byte in name.encode())
    return f"/workflows/{escaped}/run".encode()


async def test_the_served_workflows_are_known_by_name() -> None:
    server = WorkflowServer()
    echo, greeter = Echo(), Greeter()
    server.add_workflow("b", echo)
    server.add_workflow("a", greeter)
    assert list(server.get_workflows().items()) == [("b", echo), ("a", greeter)]


async def test_one_workflow_may_be_served_under_two_names() -> None:
    server = WorkflowServer()
    workflow = Conversation()
    server.add_workflow("a", workflow)
    server.add_workflow("b", workflow)
    async with open_client(server) as client:
        handlers = [await run(client, name) for name in ("a", "b")]
    assert [handler["result"]["value"] for handler in handlers] == [{"result": 1}] * 2


async def test_one_workflow_may_be_served_by_two_servers() -> None:
    workflow = Asker(timeout=None)
    servers = [WorkflowServer(), WorkflowServer()]
    for server in servers:
        server.add_workflow("asker", workflow)
    async with open_client(servers[0]) as one, open_client(servers[1]) as two:
        ids = [await start_asker(client) for client in (one, two)]
        await answer(one, ids[0], "one")
        await answer(two, ids[1], "two")
        results = [
            (await wait_ended(client, handler_id))["result"]["value"]["result"]
            for client, handler_id in zip((one, two), ids, strict=True)
        ]
        listed = [(await client.get("/handlers")).json()["handlers"] for client in (one, two)]
    assert results == [["one"], ["two"]]
    assert [[handler["handler_id"] for handler in page] for page in listed] == [
        [handler_id] for handler_id in ids
    ]


async def test_a_served_workflow_still_runs_without_its_server(
    client: httpx.AsyncClient, server: WorkflowServer
) -> None:
    workflow = server.get_workflows()["greeter"]
    result = await workflow.run(name="Ada")
    assert result == Greeting(text="Hello, Ada!")
    assert (await client.get("/handlers")).json()["handlers"] == []


async def test_a_workflow_that_has_run_before_can_be_served() -> None:
    workflow = Greeter()
    await workflow.run(name="Ada")
    server = WorkflowServer()
    server.add_workflow("it", workflow)
    async with open_client(server) as client:
        assert (await run(client, "it", name="Ada"))["status"] == "completed"


async def test_additional_events_are_sent_and_listed() -> None:
    server = WorkflowServer()
    server.add_workflow("it", ExtraWaiter(timeout=None), additional_events=[Extra])
    async with open_client(server) as client:
        listed = [(await client.get("/workflows/it/events")).json() for _ in range(2)]
    titles = [schema["title"] for schema in listed[0]["events"]]
    assert titles == ["StartEvent", "StopEvent", "Extra"]
    assert listed[0] == listed[1]


async def test_the_openapi_document_needs_no_start() -> None:
    server = WorkflowServer()
    document = server.openapi_schema()
    async with open_client(server) as client:
        assert (await client.get("/openapi.json")).json() == document


async def test_stopping_sends_readers_away_and_leaves_the_run_as_it_was() -> None:
    server = make_server()
    async with open_client(server) as client:
        handler_id = await start(client, "asker")
        params = {"after_sequence": -1}
        async with client.stream("GET", f"/events/{handler_id}", params=params) as response:
            frames = iterate_frames(response)
            first = await anext(frames)
            await server.stop()
            rest = [frame async for frame in frames]
    assert (first.type, rest) == ("Question", [])


async def test_stopping_answers_whoever_waits_for_a_run() -> None:
    server = make_server()
    async with open_client(server) as client:
        waiting = asyncio.create_task(client.post("/workflows/asker/run", json={"handler_id": "h"}))

        async def accepted() -> bool:
            return (await client.get("/handlers/h")).status_code == 202

        await until(accepted)
        await server.stop()
        response = await waiting
    assert problem_of(response) == (503, "run_unfinished")


async def test_stopping_leaves_no_task() -> None:
    server = make_server()
    before = asyncio.all_tasks()
    await server.start()
    async with call(server) as client:
        for workflow in ("sleeper", "asker", "waiter", "retrier", "one-at-a-time"):
            await start(client, workflow)
    await server.stop()
    await until(lambda: asyncio.all_tasks() == before)
