"""`POST /events/{id}`: which events can be sent, to which steps, and when."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.support.calls import (
    answer,
    get_status,
    run,
    send,
    start,
    start_asker,
    wait_begun,
    wait_ended,
)
from tests.support.canary import CLASS, Canary
from tests.support.live import open_client
from tests.support.problems import faults_of, problem_of
from tests.support.stores import ScriptedStore
from tests.support.streams import read_frames
from tests.support.waiting import until
from tests.support.workflows import add_all
from workflow_server.app.server import WorkflowServer

VALUE = {"text": "yes"}
QUALIFIED = "tests.support.workflows.Answer"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "Answer", "value": VALUE},
        {"type": "Answer", "data": VALUE},
        {"type": QUALIFIED, "value": VALUE},
        {"qualified_name": QUALIFIED, "value": VALUE},
        {"value": VALUE, "type": "Answer", "types": ["HumanResponseEvent"], "qualified_name": None},
        {"__is_pydantic": True, "value": VALUE, "qualified_name": QUALIFIED},
        {"__is_pydantic": True, "value": {"_data": VALUE}, "qualified_name": QUALIFIED},
        {"__is_pydantic": True, "value": VALUE, "qualified_name": "__main__.Answer"},
        {"type": "Answer", "value": VALUE, "sequence": 7},
        {"type": "Reply", "value": VALUE, "qualified_name": QUALIFIED},
        {"type": "Answer", "value": None, "data": VALUE},
        json.dumps({"__is_pydantic": True, "value": VALUE, "qualified_name": QUALIFIED}),
        json.dumps({"type": "Answer", "value": VALUE}),
        json.dumps({"type": "Answer", "data": VALUE}),
        json.dumps({"qualified_name": QUALIFIED, "value": VALUE}),
    ],
)
async def test_an_event_comes_as_an_envelope_or_as_json(
    client: httpx.AsyncClient, event: dict[str, Any] | str
) -> None:
    handler_id = await start_asker(client)
    response = await client.post(f"/events/{handler_id}", json={"event": event})
    assert (response.status_code, response.json()) == (200, {"status": "sent"})
    assert (await wait_ended(client, handler_id))["result"]["value"] == {"result": ["yes"]}


async def test_an_additional_event_can_be_sent(client: httpx.AsyncClient) -> None:
    handler_id = await start(client, "extra")
    await send(client, handler_id, "Extra", {"text": "yes"})
    assert (await wait_ended(client, handler_id))["result"]["value"] == {"result": "yes"}


async def test_an_event_that_a_step_waits_for_can_be_sent(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client, "waiter")
    response = await answer(client, handler_id, "yes")
    assert response.json() == {"status": "sent"}


@pytest.mark.parametrize(
    "event",
    [
        {"type": "Nobody", "value": {}},
        {"type": "Greet", "value": {"name": "Ada"}},
        {"qualified_name": "tests.support.workflows.Greet", "value": {"name": "Ada"}},
        {"type": "HumanResponseEvent", "value": {}},
        {"type": "os.system", "value": {}},
        {"type": "", "value": VALUE},
        {"type": 5, "value": VALUE},
        {"value": VALUE},
        {"type": "Answer", "text": "yes"},
        {"__is_pydantic": True, "value": VALUE},
        {"__is_pydantic": True, "value": VALUE, "qualified_name": "os.system"},
        {"type": "Answer", "value": "yes"},
        {"type": "Answer", "value": [1]},
        VALUE,
        {},
    ],
)
async def test_what_is_no_event_of_the_workflow_is_refused(
    client: httpx.AsyncClient, event: dict[str, Any]
) -> None:
    handler_id = await start_asker(client)
    response = await client.post(f"/events/{handler_id}", json={"event": event})
    assert problem_of(response) == (400, "invalid_event")


@pytest.mark.parametrize("key", ["type", "qualified_name"])
async def test_a_class_that_the_workflow_does_not_declare_is_never_imported(
    client: httpx.AsyncClient, canary: Canary, key: str
) -> None:
    handler_id = await start_asker(client)
    response = await client.post(f"/events/{handler_id}", json={"event": {key: CLASS, "value": {}}})
    assert problem_of(response) == (400, "invalid_event")
    assert not canary.sings


async def test_a_class_named_inside_a_value_stays_data(
    client: httpx.AsyncClient, canary: Canary
) -> None:
    handler_id = await start_asker(client)
    nested = {"__is_pydantic": True, "qualified_name": CLASS, "value": {}}
    await send(client, handler_id, "Answer", {"text": "yes", "thing": nested})
    assert (await wait_ended(client, handler_id))["status"] == "completed"
    assert not canary.sings


async def test_a_missing_field_is_named(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    response = await send(client, handler_id, "Answer", {})
    assert problem_of(response) == (400, "invalid_event")
    assert faults_of(response) == [["body", "event", "value", "text"]]


async def test_a_refused_event_leaves_the_run_unharmed(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    await send(client, handler_id, "Nobody", {})
    await answer(client, handler_id, "yes")
    assert (await wait_ended(client, handler_id))["result"]["value"] == {"result": ["yes"]}


async def test_an_event_can_be_sent_to_a_step(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    await answer(client, handler_id, "yes", step="take")
    assert (await wait_ended(client, handler_id))["result"]["value"] == {"result": ["yes"]}


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ("nobody", "unknown_step"),
        ("", "unknown_step"),
        ("begin", "unknown_step"),
        ("__init__", "unknown_step"),
        (5, "malformed_request"),
        (["take"], "malformed_request"),
    ],
)
async def test_a_step_that_cannot_take_the_event_is_refused_and_the_run_is_unharmed(
    client: httpx.AsyncClient, step: Any, code: str
) -> None:
    handler_id = await start_asker(client)
    response = await answer(client, handler_id, "no", step=step)
    assert problem_of(response) == (400, code)
    await answer(client, handler_id, "yes")
    assert (await wait_ended(client, handler_id))["result"]["value"] == {"result": ["yes"]}


async def test_unknown_keys_beside_an_event_are_ignored(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    response = await answer(client, handler_id, "yes", colour="blue")
    assert response.json() == {"status": "sent"}


async def test_an_event_to_an_unknown_handler_is_not_found(client: httpx.AsyncClient) -> None:
    assert problem_of(await answer(client, "nobody", "yes")) == (404, "handler_not_found")


@pytest.mark.parametrize("workflow", ["echo", "failer", "impatient"])
async def test_an_event_to_an_ended_handler_is_a_conflict(
    client: httpx.AsyncClient, workflow: str
) -> None:
    handler_id = (await run(client, workflow))["handler_id"]
    assert problem_of(await answer(client, handler_id, "yes")) == (409, "handler_ended")


async def test_an_event_to_a_cancelled_handler_is_a_conflict(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    await client.post(f"/handlers/{handler_id}/cancel")
    response = await answer(client, handler_id, "yes")
    assert problem_of(response) == (409, "handler_ended")
    assert "cancelled" in response.json()["detail"]


async def test_an_event_to_a_queued_run_is_sent(client: httpx.AsyncClient) -> None:
    await wait_begun(client, await start(client, "one-at-a-time", "first"))
    await start(client, "one-at-a-time", "second")
    response = await send(client, "second", "Sleep", {"seconds": 0})
    assert (response.status_code, response.json()) == (200, {"status": "sent"})


async def test_events_reach_the_run_in_the_order_in_which_they_were_sent(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await start_asker(client, questions=20)
    for number in range(20):
        await answer(client, handler_id, str(number))
    handler = await wait_ended(client, handler_id)
    assert handler["result"]["value"]["result"] == [str(number) for number in range(20)]


async def test_a_stop_event_that_is_sent_does_not_end_the_run(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    await send(client, handler_id, "StopEvent", {"result": "mine"})
    await answer(client, handler_id, "yes")
    assert (await wait_ended(client, handler_id))["result"]["value"] == {"result": ["yes"]}
    frames = await read_frames(client, handler_id)
    assert [frame.type for frame in frames][-1] == "StopEvent"


async def test_sent_means_written_down() -> None:
    store = ScriptedStore()
    server = WorkflowServer(workflow_store=store)
    add_all(server)
    async with open_client(server) as client:
        handler_id = await start_asker(client)
        tries = store.tries
        store.open.clear()
        sending = asyncio.create_task(answer(client, handler_id, "yes"))
        await until(lambda: store.tries > tries)
        before = (sending.done(), await get_status(client, handler_id))
        store.open.set()
        after = (await sending).json()
    assert before == (False, "running")
    assert after == {"status": "sent"}
