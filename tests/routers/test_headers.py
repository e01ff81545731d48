"""Headers that every answer carries, and what no answer tells."""

from importlib.metadata import version

import httpx
import pytest

from tests.support.calls import start

PATHS = ("/health", "/workflows", "/handlers/absent", "/nothing", "/docs", "/openapi.json")


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


async def test_a_file_that_is_checked_by_its_tag_may_be_kept(client: httpx.AsyncClient) -> None:
    headers = (await client.get("/static-offline-docs/swagger-ui.css")).headers
    assert ("etag" in headers, "cache-control" in headers) == (True, False)


@pytest.mark.parametrize("path", PATHS)
async def test_no_answer_tells_the_servers_version(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert version("workflow-server") not in str(response.headers)
    assert f'"{version("workflow-server")}"' not in response.text
