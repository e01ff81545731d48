"""Headers that every answer carries, and what no answer tells."""

from importlib.metadata import version

import httpx
import pytest

from tests.support.calls import start
from workflow_server.app.handlers.registry import HandlerRegistry

PATHS = (
    "/health",
    "/livez",
    "/readyz",
    "/metrics",
    "/workflows",
    "/workflows/greeter/schema",
    "/workflows/greeter/events",
    "/workflows/greeter/representation",
    "/handlers",
    "/handlers?limit=none",
    "/handlers/absent",
    "/handlers/absent/cancel",
    "/events/absent",
    "/results/absent",
    "/nothing",
    "/docs",
    "/docs/oauth2-redirect",
    "/redoc",
)
REVALIDATED = ("/openapi.json", "/")
MADE_OF = ("workflow-server", "uvicorn", "fastapi", "starlette", "llama-index-workflows")


@pytest.mark.parametrize("path", PATHS)
async def test_an_answer_is_not_guessed_at_framed_or_kept(
    client: httpx.AsyncClient, path: str
) -> None:
    headers = (await client.get(path)).headers
    names = ("x-content-type-options", "x-frame-options", "referrer-policy", "cache-control")
    assert [headers.get_list(name) for name in names] == [
        ["nosniff"],
        ["DENY"],
        ["same-origin"],
        ["no-store"],
    ]


async def test_a_stream_says_once_that_it_is_not_kept(client: httpx.AsyncClient) -> None:
    handler_id = await start(client, "greeter", name="Ada")
    response = await client.get(f"/events/{handler_id}?after_sequence=-1")
    assert response.headers.get_list("cache-control") == ["no-store"]


async def test_a_page_keeps_its_own_headers(client: httpx.AsyncClient) -> None:
    headers = (await client.get("/")).headers
    assert headers.get_list("referrer-policy") == ["no-referrer"]
    assert headers.get_list("x-content-type-options") == ["nosniff"]


@pytest.mark.parametrize("path", REVALIDATED)
async def test_what_is_the_same_for_everybody_is_asked_for_each_time(
    client: httpx.AsyncClient, path: str
) -> None:
    headers = (await client.get(path)).headers
    assert headers.get_list("cache-control") == ["no-cache"]


async def test_a_file_that_is_checked_by_its_tag_may_be_kept(client: httpx.AsyncClient) -> None:
    headers = (await client.get("/static-offline-docs/swagger-ui.css")).headers
    assert ("etag" in headers, "cache-control" in headers) == (True, False)


@pytest.mark.parametrize("path", [*REVALIDATED, *PATHS])
async def test_a_page_runs_no_script_of_others_and_is_in_no_frame(
    client: httpx.AsyncClient, path: str
) -> None:
    (policy,) = (await client.get(path)).headers.get_list("content-security-policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] in ("'self'", "'none'")
    assert rules["script-src"].split() in (["'self'"], ["'self'", "'unsafe-inline'"])
    assert (rules["base-uri"], rules["frame-ancestors"]) == ("'none'", "'none'")


@pytest.mark.parametrize("path", [*REVALIDATED, *PATHS])
async def test_no_answer_tells_a_version(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    versions = {version(package) for package in MADE_OF}
    del response.headers["content-type"]  # /metrics has the version of a format there
    assert [found for found in versions if found in str(response.headers)] == []
    assert [found for found in versions if f'"{found}"' in response.text] == []


async def test_the_document_has_the_version_of_the_interface_alone(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.get("/openapi.json")).json()["info"]["version"] == "1"


async def test_a_fault_of_the_server_tells_nothing_of_it(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr(HandlerRegistry, "list_handlers", fail)
    response = await client.get("/handlers", headers={"X-Request-Id": "mine"})
    assert response.status_code == 500
    assert "secret" not in response.text + str(response.headers)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-request-id"] == "mine"
