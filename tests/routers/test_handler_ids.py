"""Handler ids: which may be, which are taken, and what a second run of one starts from."""

import asyncio
import string
from typing import Any

import httpx
import pytest

from tests.support.calls import get_status, start
from tests.support.problems import problem_of

EVERY_CHARACTER = string.ascii_letters + string.digits + "._~-"


@pytest.mark.parametrize(
    "handler_id", ["a", "0", "~", "a" * 255, EVERY_CHARACTER, "...", "." * 255, "..a", "a..", ".-."]
)
async def test_an_id_of_allowed_characters_is_taken(
    client: httpx.AsyncClient, handler_id: str
) -> None:
    assert await start(client, "echo", handler_id) == handler_id


@pytest.mark.parametrize(
    "handler_id",
    [".", "..", "a" * 256, "." * 256, "a b", "a/b", "é", "a\n", "a\x00", "..%2f", "𝔞", "a:b"],
)
async def test_an_id_of_other_characters_or_length_is_refused(
    client: httpx.AsyncClient, handler_id: str
) -> None:
    response = await client.post("/workflows/echo/run", json={"handler_id": handler_id})
    assert problem_of(response) == (400, "invalid_handler_id")


@pytest.mark.parametrize("handler_id", ["", None])
async def test_an_empty_id_counts_as_none(
    client: httpx.AsyncClient, handler_id: str | None
) -> None:
    ids = [await start(client, "echo", handler_id) for _ in range(2)]
    assert [len(made) for made in ids] == [10, 10]
    assert len({*ids}) == 2


@pytest.mark.parametrize("handler_id", [7, 1.5, True, ["a"], {"a": 1}])
async def test_an_id_that_is_no_string_is_refused(
    client: httpx.AsyncClient, handler_id: Any
) -> None:
    response = await client.post("/workflows/echo/run", json={"handler_id": handler_id})
    assert problem_of(response) == (400, "malformed_request")


@pytest.mark.parametrize("action", ["run", "run-nowait"])
async def test_the_id_of_a_running_handler_is_a_conflict(
    client: httpx.AsyncClient, action: str
) -> None:
    await start(client, "sleeper", "h")
    response = await client.post(f"/workflows/sleeper/{action}", json={"handler_id": "h"})
    assert problem_of(response) == (409, "handler_running")


async def test_of_many_simultaneous_requests_with_one_id_one_is_accepted(
    client: httpx.AsyncClient,
) -> None:
    responses = await asyncio.gather(
        *(client.post("/workflows/sleeper/run-nowait", json={"handler_id": "h"}) for _ in range(20))
    )
    assert sorted(response.status_code for response in responses) == [200, *[409] * 19]


async def test_of_many_simultaneous_requests_with_an_ended_id_one_is_accepted(
    client: httpx.AsyncClient,
) -> None:
    await client.post(
        "/workflows/sleeper/run", json={"start_event": {"seconds": 0}, "handler_id": "h"}
    )
    responses = await asyncio.gather(
        *(client.post("/workflows/sleeper/run-nowait", json={"handler_id": "h"}) for _ in range(20))
    )
    assert sorted(response.status_code for response in responses) == [200, *[409] * 19]


async def test_a_second_run_starts_with_the_state_that_the_first_left(
    client: httpx.AsyncClient,
) -> None:
    counts = []
    for _ in range(3):
        response = await client.post("/workflows/conversation/run", json={"handler_id": "h"})
        counts.append(response.json()["result"]["value"]["result"])
    assert counts == [1, 2, 3]


async def test_a_second_run_of_a_handler_is_a_new_run(client: httpx.AsyncClient) -> None:
    first = await client.post("/workflows/conversation/run", json={"handler_id": "h"})
    second = await client.post("/workflows/conversation/run", json={"handler_id": "h"})
    assert first.json()["run_id"] != second.json()["run_id"]
    assert (await client.get("/handlers/h")).json().items() >= second.json().items()


async def test_a_new_handler_starts_without_the_state_of_others(client: httpx.AsyncClient) -> None:
    await client.post("/workflows/conversation/run", json={"handler_id": "one"})
    response = await client.post("/workflows/conversation/run", json={"handler_id": "two"})
    assert response.json()["result"]["value"] == {"result": 1}


async def test_an_id_of_another_workflow_is_a_conflict(client: httpx.AsyncClient) -> None:
    await client.post("/workflows/echo/run", json={"handler_id": "h"})
    response = await client.post("/workflows/greeter/run", json={"handler_id": "h"})
    assert problem_of(response) == (409, "other_workflow")


async def test_a_cancelled_handler_can_run_again(client: httpx.AsyncClient) -> None:
    await start(client, "sleeper", "h")
    await client.post("/handlers/h/cancel")
    await start(client, "sleeper", "h")
    assert await get_status(client, "h") == "running"
