"""`GET /handlers`: its filters, order, fields and the size of its pages, on each store."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.backends import FRESH_URLS
from tests.support.calls import run, start, wait_phase
from tests.support.live import open_client
from tests.support.problems import faults_of, problem_of
from tests.support.workflows import add_all
from workflow_server.app.server import WorkflowServer

Json = dict[str, Any]
MEBI = 1 << 20


@pytest.fixture(params=FRESH_URLS)
async def client(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a live server, on each store."""
    async with FRESH_URLS[request.param](tmp_path) as url:
        server = WorkflowServer(workflow_store=url)
        add_all(server)
        async with open_client(server) as client:
            yield client


async def list_page(client: httpx.AsyncClient, path: str = "/handlers", **query: Any) -> Json:
    """Return a page of a listing."""
    response = await client.get(path, params=query)
    assert response.status_code == 200, response.text
    page: Json = response.json()
    return page


async def list_ids(client: httpx.AsyncClient, **query: Any) -> list[str]:
    """Return the ids of the handlers of a page."""
    return [handler["handler_id"] for handler in (await list_page(client, **query))["handlers"]]


async def list_all(client: httpx.AsyncClient, path: str, of: str, **query: Any) -> list[list[str]]:
    """Return the runs of all pages, as a client walks through them."""
    pages: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await list_page(client, path, cursor=cursor, **query)
        pages.append([handler["run_id"] for handler in page[of]])
        cursor = page["next_cursor"]
    return pages


async def add_three(client: httpx.AsyncClient) -> None:
    """Let three handlers be: an ended one, one that waits, and one that is at work."""
    await start(client, "echo", "order-1")
    await wait_phase(client, "order-1", "ended")
    await start(client, "asker", "order-2")
    await wait_phase(client, "order-2", "waiting")
    await start(client, "sleeper", "other")


async def test_phases_narrow_the_list(client: httpx.AsyncClient) -> None:
    await add_three(client)
    assert await list_ids(client, phase="ended") == ["order-1"]
    assert await list_ids(client, phase=["ended", "waiting"]) == ["order-2", "order-1"]
    assert await list_ids(client, phase="waiting", status="completed") == []


async def test_the_beginning_of_an_id_narrows_the_list(client: httpx.AsyncClient) -> None:
    await add_three(client)
    assert await list_ids(client, handler_id_prefix="order-") == ["order-2", "order-1"]
    assert await list_ids(client, handler_id_prefix="order-", phase="ended") == ["order-1"]
    assert await list_ids(client, handler_id_prefix="order_") == []


async def test_the_oldest_come_first_where_that_is_asked(client: httpx.AsyncClient) -> None:
    await add_three(client)
    assert await list_ids(client, order="oldest") == ["order-1", "order-2", "other"]
    first = await list_page(client, order="oldest", limit=2)
    following = await list_ids(client, order="oldest", limit=2, cursor=first["next_cursor"])
    assert following == ["other"]


async def test_times_narrow_the_list_to_what_began_between_them(client: httpx.AsyncClient) -> None:
    await add_three(client)
    newest, middle, oldest = (
        handler["started_at"] for handler in (await list_page(client))["handlers"]
    )
    assert await list_ids(client, started_after=middle) == ["other"]
    assert await list_ids(client, started_before=middle) == ["order-1"]
    assert await list_ids(client, started_after=oldest, started_before=newest) == ["order-2"]


async def test_the_time_of_a_second_run_counts(client: httpx.AsyncClient) -> None:
    await add_three(client)
    newest = (await list_page(client, limit=1))["handlers"][0]["started_at"]
    await start(client, "echo", "order-1")
    assert await list_ids(client, started_after=newest) == ["order-1"]


async def test_a_time_whose_plus_sign_is_not_escaped_is_taken(client: httpx.AsyncClient) -> None:
    await add_three(client)
    response = await client.get("/handlers?started_after=2020-01-01T00:00:00+02:00&limit=1")
    assert [handler["handler_id"] for handler in response.json()["handlers"]] == ["other"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("phase", "asleep"),
        ("order", "random"),
        ("started_after", "yesterday"),
        ("started_before", "2026-11-03T12:00:00"),
    ],
)
async def test_a_filter_that_cannot_be_is_refused_and_placed(
    client: httpx.AsyncClient, key: str, value: str
) -> None:
    response = await client.get("/handlers", params={key: value})
    assert problem_of(response) == (400, "malformed_request")
    assert faults_of(response)[0][:2] == ["query", key]


async def test_fields_are_all_that_is_listed(client: httpx.AsyncClient) -> None:
    handler = await run(client, "echo", text="Ada")
    (whole,) = (await list_page(client))["handlers"]
    (some,) = (await list_page(client, fields="status,result"))["handlers"]
    (input_,) = (await list_page(client, fields=["start_event", "error"]))["handlers"]
    assert whole == handler
    assert some == {name: handler[name] for name in ("handler_id", "status", "result")}
    full = (await client.get(f"/handlers/{handler['handler_id']}")).json()
    assert full["start_event"]["value"]["_data"] == {"text": "Ada"}
    assert input_ == {name: full[name] for name in ("handler_id", "start_event", "error")}


async def test_fields_go_for_the_runs_of_a_handler_too(client: httpx.AsyncClient) -> None:
    handler = await run(client, "echo")
    path = f"/handlers/{handler['handler_id']}/runs"
    (listed,) = (await list_page(client, path, fields="run_id"))["runs"]
    assert listed == {name: handler[name] for name in ("handler_id", "run_id")}


async def test_a_field_that_is_none_is_refused_with_those_that_are(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("/handlers", params={"fields": "status,colour"})
    assert response.status_code == 400
    assert "'colour'; its fields are awaits, completed_at" in response.json()["detail"]


async def test_a_page_ends_at_4_mebibytes_and_the_next_one_goes_on(
    client: httpx.AsyncClient,
) -> None:
    ids = [(await run(client, "echo", text="x" * 3 * MEBI))["run_id"] for _ in range(5)]
    assert await list_all(client, "/handlers", "handlers") == [
        [ids[4], ids[3]],
        [ids[2], ids[1]],
        [ids[0]],
    ]
    assert await list_all(client, "/handlers", "handlers", fields="run_id") == [ids[::-1]]


async def test_a_page_of_runs_ends_at_4_mebibytes_too(client: httpx.AsyncClient) -> None:
    ids = []
    for _ in range(3):
        await start(client, "echo", "h", text="x" * 3 * MEBI)
        await wait_phase(client, "h", "ended")
        ids.append((await client.get("/handlers/h")).json()["run_id"])
    assert await list_all(client, "/handlers/h/runs", "runs") == [[ids[2], ids[1]], [ids[0]]]
