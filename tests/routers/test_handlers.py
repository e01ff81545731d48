"""`/handlers/{id}` and `/results/{id}`: the status code says how the run is."""

from typing import Any

import httpx
import pytest

from tests.support.calls import run, start, wait_ended
from tests.support.problems import problem_of

CODES = [("echo", 200), ("failer", 500), ("impatient", 500), ("bad-result", 500)]


@pytest.mark.parametrize(("workflow", "code"), CODES)
async def test_the_status_code_of_an_ended_handler_says_how_it_ended(
    client: httpx.AsyncClient, workflow: str, code: int
) -> None:
    handler_id = (await run(client, workflow))["handler_id"]
    codes = [
        (await client.get(f"/{view}/{handler_id}")).status_code for view in ("handlers", "results")
    ]
    assert codes == [code, code]


@pytest.mark.parametrize("view", ["handlers", "results"])
async def test_a_running_handler_is_202(client: httpx.AsyncClient, view: str) -> None:
    handler_id = await start(client, "sleeper")
    response = await client.get(f"/{view}/{handler_id}")
    assert (response.status_code, response.json()["status"]) == (202, "running")


@pytest.mark.parametrize("view", ["handlers", "results"])
async def test_a_cancelled_handler_is_500(client: httpx.AsyncClient, view: str) -> None:
    handler_id = await start(client, "sleeper")
    await client.post(f"/handlers/{handler_id}/cancel")
    response = await client.get(f"/{view}/{handler_id}")
    assert (response.status_code, response.json()["status"]) == (500, "cancelled")


@pytest.mark.parametrize("path", ["/handlers/nobody", "/results/nobody", "/events/nobody"])
async def test_an_unknown_handler_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    assert problem_of(await client.get(path)) == (404, "handler_not_found")


@pytest.mark.parametrize("path", ["/handlers/nobody/cancel", "/handlers/nobody/cancel?purge=true"])
async def test_an_unknown_handler_cannot_be_cancelled(client: httpx.AsyncClient, path: str) -> None:
    assert problem_of(await client.post(path)) == (404, "handler_not_found")


async def test_a_handler_is_the_same_wherever_it_is_asked_for(client: httpx.AsyncClient) -> None:
    handler = await run(client, "greeter", name="Ada")
    listed = (await client.get("/handlers")).json()["handlers"]
    runs = (await client.get(f"/handlers/{handler['handler_id']}/runs")).json()["runs"]
    in_full = (await client.get(f"/handlers/{handler['handler_id']}")).json()
    assert [handler] == listed == runs
    assert handler == {key: value for key, value in in_full.items() if key != "start_event"}


@pytest.mark.parametrize(
    ("workflow", "value"),
    [("greeter", {"name": "Ada", "times": 1}), ("sleeper", {"seconds": 60.0})],
)
async def test_a_handler_says_what_its_run_started_from(
    client: httpx.AsyncClient, workflow: str, value: dict[str, Any]
) -> None:
    handler_id = await start(client, workflow, **value)
    event = (await client.get(f"/handlers/{handler_id}")).json()["start_event"]
    assert event["value"] == value
    body = {"start_event": event, "handler_id": "again"}
    again = await client.post(f"/workflows/{workflow}/run-nowait", json=body)
    assert again.status_code == 200
    assert (await client.get("/handlers/again")).json()["start_event"] == event


async def test_the_result_of_a_plain_stop_event_is_unwrapped(client: httpx.AsyncClient) -> None:
    handler = await run(client, "echo", a=[1, {"b": None}])
    response = await client.get(f"/results/{handler['handler_id']}")
    assert response.json() == {**handler, "result": {"a": [1, {"b": None}]}}


async def test_the_result_of_a_subclass_is_its_fields(client: httpx.AsyncClient) -> None:
    handler = await run(client, "greeter", name="Ada")
    response = await client.get(f"/results/{handler['handler_id']}")
    assert response.json() == {**handler, "result": {"text": "Hello, Ada!"}}


async def test_a_failed_run_has_no_result(client: httpx.AsyncClient) -> None:
    handler = await run(client, "failer")
    response = await client.get(f"/results/{handler['handler_id']}")
    assert response.json() == {**handler, "result": None}


async def test_the_results_endpoint_is_marked_as_deprecated(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["paths"]["/results/{handler_id}"]["get"]["deprecated"] is True


async def test_a_run_that_ended_before_it_was_answered_says_so(client: httpx.AsyncClient) -> None:
    handler_id = await start(client, "echo")
    assert (await wait_ended(client, handler_id))["status"] == "completed"
