"""`GET /handlers`: filters, pages, and an order that stays."""

from base64 import urlsafe_b64encode
from pathlib import Path

import httpx
import pytest

from tests.support.backends import DURABLE, FRESH_URLS
from tests.support.calls import run, start
from tests.support.live import open_client
from tests.support.problems import faults_of, problem_of
from tests.support.workflows import add_all
from workflow_server.app.server import WorkflowServer

Parameter = tuple[str, str | int | float | bool | None]
Query = list[Parameter]


async def list_ids(
    client: httpx.AsyncClient, *query: tuple[str, str | int | float | bool | None]
) -> list[str]:
    """Return the ids of the handlers of a listing."""
    response = await client.get("/handlers", params=list(query))
    return [handler["handler_id"] for handler in response.json()["handlers"]]


async def list_pages(client: httpx.AsyncClient, limit: int) -> list[list[str]]:
    """Return the ids of all pages, as a client walks through them."""
    pages: list[list[str]] = []
    query: Query = [("limit", limit)]
    cursor: str | None = ""
    while cursor is not None:
        listing = (await client.get("/handlers", params=query)).json()
        pages.append([handler["handler_id"] for handler in listing["handlers"]])
        cursor = listing["next_cursor"]
        query = [("limit", limit), ("cursor", cursor or "")]
    return pages


@pytest.fixture
async def mixed(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Return a client of a server with handlers of every status."""
    await start(client, "echo", "completed")
    await start(client, "failer", "failed")
    await start(client, "sleeper", "running")
    await start(client, "sleeper", "cancelled")
    await client.post("/handlers/cancelled/cancel")
    await client.post("/workflows/greeter/run", json={"kwargs": {"name": "A"}, "handler_id": "g"})
    return client


async def test_a_server_without_handlers_lists_none(client: httpx.AsyncClient) -> None:
    response = await client.get("/handlers")
    assert response.json() == {"handlers": [], "next_cursor": None}


async def test_handlers_are_listed_newest_first(mixed: httpx.AsyncClient) -> None:
    assert await list_ids(mixed) == ["g", "cancelled", "running", "failed", "completed"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ([("status", "completed")], ["g", "completed"]),
        ([("status", "failed")], ["failed"]),
        ([("status", "running"), ("status", "cancelled")], ["cancelled", "running"]),
        ([("workflow_name", "sleeper")], ["cancelled", "running"]),
        ([("workflow_name", "echo"), ("workflow_name", "greeter")], ["g", "completed"]),
        ([("workflow_name", "sleeper"), ("status", "running")], ["running"]),
        (
            [("status", " failed "), ("workflow_name", " failer "), ("workflow_name", " ")],
            ["failed"],
        ),
        ([("workflow_name", "nobody")], []),
        ([("workflow_name", "sleeper"), ("status", "completed")], []),
    ],
)
async def test_filters_narrow_the_list(
    mixed: httpx.AsyncClient, query: Query, ids: list[str]
) -> None:
    assert await list_ids(mixed, *query) == ids


@pytest.mark.parametrize(
    ("limit", "pages"),
    [
        (1, [["g"], ["cancelled"], ["running"], ["failed"], ["completed"]]),
        (2, [["g", "cancelled"], ["running", "failed"], ["completed"]]),
        (5, [["g", "cancelled", "running", "failed", "completed"]]),
        (1000, [["g", "cancelled", "running", "failed", "completed"]]),
    ],
)
async def test_pages_hold_every_handler_once(
    mixed: httpx.AsyncClient, limit: int, pages: list[list[str]]
) -> None:
    assert await list_pages(mixed, limit) == pages


async def test_filters_go_with_pages(mixed: httpx.AsyncClient) -> None:
    query: Query = [("workflow_name", "sleeper"), ("limit", 1)]
    first = (await mixed.get("/handlers", params=query)).json()
    ids = await list_ids(mixed, *query, ("cursor", first["next_cursor"]))
    assert ids == ["running"]


async def test_a_handler_that_is_added_between_two_pages_moves_no_other(
    mixed: httpx.AsyncClient,
) -> None:
    first = (await mixed.get("/handlers", params={"limit": 2})).json()
    await start(mixed, "sleeper", "newer")
    ids = await list_ids(mixed, ("limit", 2), ("cursor", first["next_cursor"]))
    assert ids == ["running", "failed"]


async def test_a_handler_that_is_purged_between_two_pages_moves_no_other(
    mixed: httpx.AsyncClient,
) -> None:
    first = (await mixed.get("/handlers", params={"limit": 2})).json()
    await mixed.post("/handlers/cancelled/cancel", params={"purge": True})
    ids = await list_ids(mixed, ("limit", 2), ("cursor", first["next_cursor"]))
    assert ids == ["running", "failed"]


async def test_a_second_run_of_a_handler_moves_it_nowhere(mixed: httpx.AsyncClient) -> None:
    await start(mixed, "echo", "completed")
    assert await list_ids(mixed) == ["g", "cancelled", "running", "failed", "completed"]


async def test_a_handler_is_listed_once_with_its_current_run(client: httpx.AsyncClient) -> None:
    await run(client, "echo")
    await client.post("/workflows/conversation/run", json={"handler_id": "h"})
    response = await client.post("/workflows/conversation/run", json={"handler_id": "h"})
    listed = (await client.get("/handlers", params={"workflow_name": "conversation"})).json()
    assert listed["handlers"] == [response.json()]


def _cursor(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "not a cursor",
        "ééé",
        "AAAA",
        _cursor("yesterday h"),
        _cursor("2026-11-03T12:00:00 h"),
        _cursor("5"),
    ],
)
async def test_a_cursor_that_no_listing_gave_is_refused(
    client: httpx.AsyncClient, cursor: str
) -> None:
    response = await client.get("/handlers", params={"cursor": cursor})
    assert problem_of(response) == (400, "invalid_cursor")


@pytest.mark.parametrize("cursor", ["0001-01-01T00:00:00+00:00 ", "9999-12-31T23:59:59-23:59 é"])
async def test_a_cursor_far_off_is_taken(client: httpx.AsyncClient, cursor: str) -> None:
    response = await client.get("/handlers", params={"cursor": _cursor(cursor)})
    assert response.status_code == 200


TIMES = ["started_after", "started_before"]
# Pydantic would take a number for seconds, or for milliseconds.
NO_TIMES = ["0", "0.5", "-1", "1e3", " 1700000000 ", "1700000000000", "2026-11-30", "now"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "-1"),
        ("limit", "x"),
        ("limit", "9" * 5000),
        ("status", "done"),
        *((key, time) for key in TIMES for time in NO_TIMES),
    ],
)
async def test_a_query_that_cannot_be_is_refused_and_placed(
    client: httpx.AsyncClient, key: str, value: str
) -> None:
    response = await client.get("/handlers", params={key: value})
    assert problem_of(response) == (400, "malformed_request")
    assert faults_of(response)[0][:2] == ["query", key]


@pytest.mark.parametrize("kind", DURABLE)
async def test_a_listing_takes_100_workflows_and_all_statuses(kind: str, tmp_path: Path) -> None:
    async with FRESH_URLS[kind](tmp_path) as url:
        server = WorkflowServer(workflow_store=url)
        add_all(server)
        async with open_client(server) as client:
            handler = await run(client, "echo")
            statuses = ["running", "completed", "failed", "cancelled"]
            names = ["echo", *(f"other-{number}" for number in range(99))]
            params = {"workflow_name": names, "status": statuses}
            listed = await client.get("/handlers", params=params)
            names.append("one-too-many")
            refused = await client.get("/handlers", params=params)
    ids = [found["handler_id"] for found in listed.json()["handlers"]]
    assert ids == [handler["handler_id"]]
    assert problem_of(refused) == (400, "malformed_request")
    assert faults_of(refused) == [["query", "workflow_name"]]
