"""`ETag` and `If-None-Match`, `Location` and `Deprecation`."""

import inspect
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from fastapi import FastAPI

import workflow_server.app.errors
from tests.support.calls import answer, run, start, start_asker, wait_ended
from tests.support.credentials import KeyBook, bearer
from tests.support.live import make_client, open_client, serving_app
from tests.support.problems import problem_of
from tests.support.workflows import Asker, Echo, add_all
from workflow_server.app.access import Scope
from workflow_server.app.errors import ServiceError
from workflow_server.app.server import WorkflowServer

VIEWS = ["handlers", "results"]


def errors() -> list[ServiceError]:
    """Return one of each error that the service answers with."""
    made: list[ServiceError] = []
    for _, kind in inspect.getmembers(workflow_server.app.errors, inspect.isclass):
        if issubclass(kind, ServiceError):
            wanted: dict[str, Any] = {"retry_after": 1, "handler_id": "ada"}
            taken = inspect.signature(kind).parameters
            made.append(kind("It is so.", **{k: v for k, v in wanted.items() if k in taken}))
    return made


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', 'W/"a,b",{}', "*"])
async def test_a_handler_that_the_client_has_is_304(
    client: httpx.AsyncClient, view: str, form: str
) -> None:
    handler_id = (await run(client, "greeter", name="Ada"))["handler_id"]
    url = f"/{view}/{handler_id}"
    etag = (await client.get(url)).headers["etag"]
    response = await client.get(url, headers={"If-None-Match": form.replace("{}", etag)})
    assert (response.status_code, response.content) == (304, b"")
    assert (response.headers["etag"], response.headers["cache-control"]) == (etag, "no-store")


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("form", ["", '"other"', "{}", 'W/"', "w/{}", '"*"', "x"])
async def test_a_handler_that_the_client_has_not_is_sent(
    client: httpx.AsyncClient, view: str, form: str
) -> None:
    handler_id = (await run(client, "greeter", name="Ada"))["handler_id"]
    url = f"/{view}/{handler_id}"
    bare = (await client.get(url)).headers["etag"].strip('"')
    response = await client.get(url, headers={"If-None-Match": form.replace("{}", bare)})
    assert (response.status_code, response.json()["status"]) == (200, "completed")


async def test_several_lines_of_if_none_match_are_one_list(client: httpx.AsyncClient) -> None:
    handler_id = (await run(client, "greeter", name="Ada"))["handler_id"]
    url = f"/handlers/{handler_id}"
    lines = [
        ("If-None-Match", '"other"'),
        ("If-None-Match", (await client.get(url)).headers["etag"]),
    ]
    assert (await client.get(url, headers=lines)).status_code == 304


async def test_a_tag_changes_with_what_is_seen_of_the_handler(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    waiting = await client.get(f"/handlers/{handler_id}")
    known = {"If-None-Match": waiting.headers["etag"]}
    assert (await client.get(f"/handlers/{handler_id}", headers=known)).status_code == 304
    await answer(client, handler_id, "yes")
    await wait_ended(client, handler_id)
    ended = await client.get(f"/handlers/{handler_id}", headers=known)
    assert (waiting.status_code, ended.status_code) == (202, 200)


async def test_each_run_of_a_handler_has_its_own_tag(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        await start(client, "echo", "ada")
        await wait_ended(client, "ada")
    runs = (await client.get("/handlers/ada/runs")).json()["runs"]
    urls = [f"/handlers/ada?run_id={one['run_id']}" for one in runs]
    tags = [(await client.get(url)).headers["etag"] for url in urls]
    assert len({*tags}) == 2
    assert (await client.get("/handlers/ada")).headers["etag"] == tags[0]


@pytest.mark.parametrize("view", VIEWS)
async def test_a_run_that_failed_is_always_sent(client: httpx.AsyncClient, view: str) -> None:
    handler_id = (await run(client, "failer"))["handler_id"]
    response = await client.get(f"/{view}/{handler_id}", headers={"If-None-Match": "*"})
    assert (response.status_code, response.json()["status"]) == (500, "failed")


async def test_a_refusal_is_not_304(client: httpx.AsyncClient) -> None:
    response = await client.get("/handlers/absent", headers={"If-None-Match": "*"})
    assert problem_of(response) == (404, "handler_not_found")


async def test_a_tag_is_the_same_from_memory_and_from_the_store(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/runs.db"
    tags: list[str] = []
    for _ in range(2):
        server = WorkflowServer(workflow_store=store)
        add_all(server)
        async with open_client(server) as client:
            if not tags:
                await start(client, "greeter", "ada", name="Ada")
                await wait_ended(client, "ada")
            tags.append((await client.get("/handlers/ada")).headers["etag"])
    assert tags[0] == tags[1]


async def test_the_document_is_304_until_a_workflow_is_added(
    client: httpx.AsyncClient, server: WorkflowServer
) -> None:
    known = {"If-None-Match": (await client.get("/openapi.json")).headers["etag"]}
    assert (await client.get("/openapi.json", headers=known)).status_code == 304
    server.add_workflow("late", Echo())
    changed = await client.get("/openapi.json", headers=known)
    assert (changed.status_code, "/workflows/late/run" in changed.json()["paths"]) == (200, True)


async def test_a_file_that_the_client_has_is_304(client: httpx.AsyncClient) -> None:
    path = "/static-offline-docs/swagger-ui.css"
    sent = await client.get(path)
    known = {"If-None-Match": sent.headers["etag"]}
    assert (await client.get(path, headers=known)).status_code == 304
    assert (await client.get(path, headers={"If-None-Match": '"other"'})).content == sent.content


@pytest.mark.parametrize("way", ["run", "run-nowait"])
@pytest.mark.parametrize("workflow", ["echo", "failer"])
async def test_a_run_says_where_its_handler_is(
    client: httpx.AsyncClient, workflow: str, way: str
) -> None:
    started = await client.post(f"/workflows/{workflow}/{way}")
    found = await client.get(urljoin(str(started.url), started.headers["location"]))
    assert found.json()["handler_id"] == started.json()["handler_id"]


async def test_a_mounted_server_says_where_its_handlers_are() -> None:
    site = FastAPI()
    server = WorkflowServer()
    server.add_workflow("asker", Asker())
    site.mount("/flows", server.app)
    async with serving_app(site) as url, make_client(url) as client:
        started = await client.post("/flows/workflows/asker/run-nowait")
        at = urljoin(str(started.url), started.headers["location"])
        document = (await client.get("/flows/openapi.json")).json()
        await server.stop()
    assert at == f"{url}/flows/handlers/{started.json()['handler_id']}"
    assert document["servers"] == [{"url": "/flows"}]


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("path", ["/results/ended", "/results/absent", "/results/a%20b"])
async def test_results_say_since_when_they_are_deprecated(
    tmp_path: Path, guarded: bool, path: str
) -> None:
    book = KeyBook(tmp_path / "keys.json")
    key = bearer(book.add("first", Scope.RUN))
    server = WorkflowServer(access=book.open_access() if guarded else None)
    server.add_workflow("echo", Echo())
    async with open_client(server) as client:
        await client.post("/workflows/echo/run", json={"handler_id": "ended"}, headers=key)
        dated = await client.get(path, headers=key)
        plain = await client.get(path.replace("results", "handlers"), headers=key)
    assert (dated.headers["deprecation"], dated.status_code) == ("@1795305600", plain.status_code)
    assert "deprecation" not in plain.headers


@pytest.mark.parametrize("error", errors(), ids=lambda error: type(error).__name__)
def test_an_error_declares_its_headers(error: ServiceError) -> None:
    assert {*error.headers} == {*error.header_names}


def test_there_are_many_errors() -> None:
    assert len(errors()) > 30


async def test_polls_for_a_large_result_that_is_known_get_nothing_of_it(
    client: httpx.AsyncClient,
) -> None:
    big = "x" * 4_000_000
    handler_id = (await run(client, "echo", message=big))["handler_id"]
    etag = (await client.get(f"/handlers/{handler_id}")).headers["etag"]
    known = {"If-None-Match": etag}
    polls = [await client.get(f"/handlers/{handler_id}", headers=known) for _ in range(3)]
    assert [(poll.status_code, poll.content) for poll in polls] == [(304, b"")] * 3
