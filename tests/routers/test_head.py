"""HEAD: what GET answers, without the body (RFC 9110, section 9.3.2)."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from tests.support.calls import run, start_asker
from tests.support.credentials import KeyBook, bearer
from tests.support.live import make_client, open_client, serving_app
from tests.support.problems import problem_of
from tests.support.sockets import connect
from tests.support.streams import iterate_frames, read_frames, shared_reader
from tests.support.workflows import Greeter
from workflow_server.app.access import Scope
from workflow_server.app.main import ROUTERS
from workflow_server.app.server import WorkflowServer
from workflow_server.app.settings import Limits

OF_EACH_ANSWER = {"date", "x-request-id", "transfer-encoding"}
GOT = [
    route.path
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute) and "GET" in (route.methods or ())
]
PAGES = ["/docs", "/redoc", "/openapi.json", "/static-offline-docs/swagger-ui.css"]
REFUSED = ["/nothing", "/handlers?limit=none", "/handlers/ended/cancel", "/events/absent"]
PROBES = ["/health", "/livez", "/readyz"]


def describe(response: httpx.Response) -> tuple[int, dict[str, str]]:
    """Return the status of an answer, and its headers but for those of each."""
    headers = {k: v for k, v in response.headers.items() if k not in OF_EACH_ANSWER}
    return response.status_code, headers


@pytest.mark.parametrize("path", [*GOT, *PAGES, *REFUSED])
async def test_head_is_get_without_its_body(client: httpx.AsyncClient, path: str) -> None:
    body = {"handler_id": "ended", "start_event": {"name": "Ada"}}
    await client.post("/workflows/greeter/run", json=body)
    page = await client.get("/")
    asset = page.text.partition('src="./assets/')[2].partition('"')[0]
    name = asset if path.startswith("/assets") else "greeter"
    url = path.replace("{name}", name).replace("{handler_id}", "ended").replace("{sequence}", "0")
    head, got = await client.head(url), await client.get(url)
    if path == "/metrics":  # they count the requests between
        head.headers["content-length"] = got.headers["content-length"]
    assert (describe(head), head.content) == (describe(got), b"")


async def test_head_sends_no_byte_of_a_body(client: httpx.AsyncClient) -> None:
    async with connect(client) as connection:
        await connection.send("HEAD /livez HTTP/1.1", "Host: test", "Connection: close")
        head = await connection.read_head()
        rest = await connection.reader.read()
    assert ("content-length: 20\r\n" in head, rest) == (True, b"")


async def test_head_of_a_running_handler_has_its_status(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    assert (await client.head(f"/handlers/{handler_id}")).status_code == 202


@pytest.mark.parametrize("query", ["", "?after_sequence=-1", "?sse=false", "?after_sequence=now"])
async def test_head_of_a_stream_that_goes_on_ends(client: httpx.AsyncClient, query: str) -> None:
    handler_id = await start_asker(client)
    url = f"/events/{handler_id}{query}"
    head = await client.head(url)
    async with client.stream("GET", url) as got:
        assert describe(head) == describe(got)


async def test_head_of_a_stream_takes_no_reading_position(client: httpx.AsyncClient) -> None:
    handler_id = (await run(client, "counter", count=3))["handler_id"]
    heads = [(await client.head(f"/events/{handler_id}")).status_code for _ in range(3)]
    async with client.stream("GET", f"/events/{handler_id}") as stream:
        read = [frame async for frame in iterate_frames(stream)]
    assert (heads, read) == ([200] * 3, await read_frames(client, handler_id))


async def test_head_of_a_stream_that_was_read_to_its_end_is_204(client: httpx.AsyncClient) -> None:
    handler_id = (await run(client, "counter", count=3))["handler_id"]
    await client.get(f"/events/{handler_id}")
    assert (await client.head(f"/events/{handler_id}")).status_code == 204


async def test_head_of_a_stream_whose_position_is_held_is_409_at_once(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await start_asker(client)
    async with shared_reader(client, handler_id):
        head = await client.head(f"/events/{handler_id}?acquire_timeout=3600")
        independent = await client.head(f"/events/{handler_id}?after_sequence=-1")
    assert (head.status_code, independent.status_code) == (409, 200)


async def test_heads_of_streams_count_as_none() -> None:
    server = WorkflowServer(limits=Limits(max_streams=1))
    server.add_workflow("greeter", Greeter())
    async with open_client(server) as client:
        handler_id = (await run(client, "greeter", name="Ada"))["handler_id"]
        url = f"/events/{handler_id}?after_sequence=-1"
        heads = [(await client.head(url)).status_code for _ in range(3)]
        assert (heads, (await client.get(url)).status_code) == ([200] * 3, 200)


async def test_a_path_without_get_says_what_it_takes_instead(client: httpx.AsyncClient) -> None:
    head = await client.head("/handlers/absent/cancel")
    put = await client.put("/handlers/absent")
    assert (head.status_code, head.headers["allow"]) == (405, "POST")
    assert (problem_of(put), put.headers["allow"]) == ((405, "method_not_allowed"), "GET, HEAD")


async def test_heads_are_counted_under_their_route(client: httpx.AsyncClient) -> None:
    await client.head("/handlers/absent")
    lines = (await client.get("/metrics")).text.splitlines()
    counted = [line for line in lines if 'method="HEAD"' in line and "_count{" in line]
    labels = '{method="HEAD",route="/handlers/{handler_id}",status="4xx"}'
    assert counted == [f"workflow_server_http_request_seconds_count{labels} 1.0"]


async def test_a_page_of_an_allowed_origin_may_ask_by_head_with_a_key(
    client: httpx.AsyncClient,
) -> None:
    preflight = {
        "Origin": "http://localhost:5173",
        "Access-Control-Request-Method": "HEAD",
        "Access-Control-Request-Headers": "X-API-Key",
    }
    assert (await client.options("/handlers", headers=preflight)).status_code == 200


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """Yield a client of a server that asks for credentials, and one that may read."""
    book = KeyBook(tmp_path / "keys.json")
    key = book.add("reader", Scope.READ)
    server = WorkflowServer(access=book.open_access())
    server.add_workflow("greeter", Greeter())
    async with open_client(server) as client:
        yield client, key


@pytest.mark.parametrize("path", [*PROBES, "/", *PAGES])
async def test_open_routes_are_open_to_head(
    guarded: tuple[httpx.AsyncClient, str], path: str
) -> None:
    head, got = await guarded[0].head(path), await guarded[0].get(path)
    assert (head.status_code, describe(head)) == (200, describe(got))


async def test_guarded_routes_ask_head_for_a_credential(
    guarded: tuple[httpx.AsyncClient, str],
) -> None:
    client, key = guarded
    refused = await client.head("/handlers")
    taken = await client.head("/handlers", headers=bearer(key))
    assert (refused.status_code, refused.headers["www-authenticate"], taken.status_code) == (
        401,
        'Bearer realm="workflow-server"',
        200,
    )


async def test_a_mounted_server_answers_head() -> None:
    site = FastAPI()
    server = WorkflowServer()
    site.mount("/flows", server.app)
    async with serving_app(site) as url, make_client(url) as client:
        head, got = await client.head("/flows/health"), await client.get("/flows/health")
        await server.stop()
    assert describe(head) == describe(got)
