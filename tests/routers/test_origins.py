"""Which pages may call: by default those of localhost, and nothing is done for others."""

import httpx
import pytest
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.workflows import add_all
from workflow_server.app.server import WorkflowServer

OURS = [
    "http://localhost",
    "http://localhost:3000",
    "https://localhost:8443",
    "http://127.0.0.1:5173",
    "http://[::1]:8000",
]
FOREIGN = [
    "https://example.com",
    "http://localhost.example.com",
    "http://notlocalhost",
    "http://localhost:3000.example.com",
    "http://127.0.0.10",
    "null",
    "",
    "file://",
]


async def ask(client: httpx.AsyncClient, origin: str) -> httpx.Response:
    """Start a run as a page of an origin would."""
    return await client.post(
        "/workflows/echo/run", json={"handler_id": "h"}, headers={"Origin": origin}
    )


@pytest.mark.parametrize("origin", OURS)
async def test_a_page_of_localhost_may_call_and_read_the_answer(
    client: httpx.AsyncClient, origin: str
) -> None:
    response = await ask(client, origin)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_foreign_page_is_refused_and_nothing_is_done(
    client: httpx.AsyncClient, origin: str
) -> None:
    response = await ask(client, origin)
    assert problem_of(response) == (403, "origin_not_allowed")
    assert "access-control-allow-origin" not in response.headers
    assert (await client.get("/handlers/h")).status_code == 404


@pytest.mark.parametrize("path", ["/handlers", "/events/h", "/health", "/nowhere"])
async def test_a_foreign_page_is_refused_on_every_path(
    client: httpx.AsyncClient, path: str
) -> None:
    response = await client.get(path, headers={"Origin": "https://example.com"})
    assert problem_of(response) == (403, "origin_not_allowed")


async def test_a_request_of_no_page_may_call(client: httpx.AsyncClient) -> None:
    assert (await client.get("/handlers")).status_code == 200


async def test_the_servers_own_pages_may_call(client: httpx.AsyncClient) -> None:
    headers = {"Origin": "https://flows.example.com", "Host": "flows.example.com"}
    assert (await client.get("/handlers", headers=headers)).status_code == 200


async def preflight(client: httpx.AsyncClient, origin: str) -> httpx.Response:
    """Ask as a browser does before it sends JSON."""
    return await client.options(
        "/workflows/echo/run",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    )


async def test_a_preflight_of_localhost_is_granted(client: httpx.AsyncClient) -> None:
    response = await preflight(client, "http://localhost:3000")
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "POST" in response.headers["access-control-allow-methods"]
    assert "content-type" in response.headers["access-control-allow-headers"]


async def test_a_preflight_of_a_foreign_page_is_refused(client: httpx.AsyncClient) -> None:
    response = await preflight(client, "https://example.com")
    assert problem_of(response) == (403, "origin_not_allowed")


async def statuses(server: WorkflowServer, *origins: str) -> list[int]:
    """Return the status codes that pages of these origins get."""
    add_all(server)
    async with open_client(server) as client:
        return [(await ask(client, origin)).status_code for origin in origins]


async def test_given_origins_take_the_place_of_localhost() -> None:
    server = WorkflowServer(cors_origins=["https://a.example", "https://b.example"])
    codes = await statuses(
        server, "https://a.example", "https://b.example", "https://c.example", "http://localhost"
    )
    assert codes == [200, 200, 403, 403]


async def test_a_given_pattern_must_fit_the_whole_origin() -> None:
    server = WorkflowServer(cors_origin_pattern=r"https://\w+\.example")
    codes = await statuses(
        server, "https://a.example", "https://a.example.com", "x-https://a.example"
    )
    assert codes == [200, 403, 403]


async def test_origins_and_a_pattern_go_together() -> None:
    server = WorkflowServer(
        cors_origins=["http://localhost:3000"], cors_origin_pattern=r"https://\w+\.example"
    )
    codes = await statuses(
        server, "http://localhost:3000", "https://a.example", "http://localhost:3001"
    )
    assert codes == [200, 200, 403]


async def test_a_star_lets_every_page_call() -> None:
    codes = await statuses(WorkflowServer(cors_origins=["*"]), "https://example.com", "null")
    assert codes == [200, 200]


class Refuse:
    """Middleware of somebody's own, which answers every request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app if scope["type"] == "lifespan" else Response(status_code=418)
        await app(scope, receive, send)


async def test_middleware_that_is_given_takes_the_place_of_the_rule() -> None:
    codes = await statuses(WorkflowServer(middleware=[]), "https://example.com", "null")
    assert codes == [200, 200]


async def test_middleware_that_is_given_sees_every_request() -> None:
    server = WorkflowServer(middleware=[Middleware(Refuse)])
    assert await statuses(server, "http://localhost") == [418]
