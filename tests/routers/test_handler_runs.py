"""`GET /handlers/{id}/runs`: all runs of a handler, in pages."""

import httpx
import pytest

from tests.support.calls import run, start, wait_ended
from tests.support.problems import problem_of

Page = tuple[list[str], str | None]


async def read_page(client: httpx.AsyncClient, **query: str | int) -> Page:
    """Return the ids of the runs of a page, and the cursor of the next one."""
    page = (await client.get("/handlers/talk/runs", params=query)).json()
    return [run["run_id"] for run in page["runs"]], page["next_cursor"]


@pytest.fixture
async def run_ids(client: httpx.AsyncClient) -> list[str]:
    """Let a handler run three times, and another once, and return the ids, newest first."""
    ids = []
    for _ in range(3):
        await start(client, "conversation", "talk")
        ids.append((await wait_ended(client, "talk"))["run_id"])
    await run(client, "greeter", name="Ada")
    return ids[::-1]


async def test_the_runs_are_listed_newest_first(
    client: httpx.AsyncClient, run_ids: list[str]
) -> None:
    assert await read_page(client) == (run_ids, None)


async def test_pages_go_on_after_their_cursor(
    client: httpx.AsyncClient, run_ids: list[str]
) -> None:
    first, cursor = await read_page(client, limit=2)
    assert first == run_ids[:2]
    assert await read_page(client, limit=2, cursor=str(cursor)) == (run_ids[2:], None)


async def test_a_run_that_comes_between_two_pages_moves_no_other_one(
    client: httpx.AsyncClient, run_ids: list[str]
) -> None:
    _, cursor = await read_page(client, limit=1)
    await start(client, "conversation", "talk")
    assert await read_page(client, cursor=str(cursor)) == (run_ids[1:], None)


async def test_a_run_is_listed_as_it_is_read(client: httpx.AsyncClient, run_ids: list[str]) -> None:
    runs = (await client.get("/handlers/talk/runs")).json()["runs"]
    for listed in runs:
        read = await client.get("/handlers/talk", params={"run_id": listed["run_id"]})
        assert read.json().items() > listed.items()
    assert [listed["result"]["value"]["result"] for listed in runs] == [3, 2, 1]


async def test_an_unknown_handler_has_no_runs(client: httpx.AsyncClient) -> None:
    assert problem_of(await client.get("/handlers/nobody/runs")) == (404, "handler_not_found")


@pytest.mark.parametrize("cursor", ["x", "!", "bm8gdGltZQ"])
async def test_a_cursor_of_no_listing_is_refused(client: httpx.AsyncClient, cursor: str) -> None:
    await run(client, "greeter", name="Ada")
    response = await client.get("/handlers/talk/runs", params={"cursor": cursor})
    assert problem_of(response) == (400, "invalid_cursor")
