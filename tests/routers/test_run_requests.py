"""The forms in which a run can be asked for."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.support.calls import answer, run, start, start_asker, wait_ended, wait_question
from tests.support.canary import CLASS, Canary
from tests.support.live import serve_workflow
from tests.support.problems import faults_of, problem_of
from tests.support.waiting import until

FIELDS = {"name": "Ada", "times": 2}
QUALIFIED = "tests.support.workflows.Greet"
UNTYPED = "workflows.events.StartEvent"


class Booking(StartEvent):
    day: datetime
    id: UUID


class Booker(Workflow):
    """Says of which classes its fields are."""

    @step
    async def book(self, ev: Booking) -> StopEvent:
        return StopEvent(result=[ev.day.astimezone(UTC).isoformat(), ev.id.hex])


@pytest.mark.parametrize(
    "start_event",
    [
        FIELDS,
        {"type": "Greet", "value": FIELDS},
        {"type": QUALIFIED, "value": FIELDS},
        {"type": "Greet", "data": FIELDS},
        {"qualified_name": QUALIFIED, "value": FIELDS},
        {"value": FIELDS, "type": "Greet", "types": ["StartEvent"], "qualified_name": QUALIFIED},
        {"value": FIELDS, "type": "Greet", "types": ["StartEvent"], "qualified_name": None},
        {"__is_pydantic": True, "value": FIELDS, "qualified_name": QUALIFIED},
        {"__is_pydantic": True, "value": {"_data": FIELDS}, "qualified_name": QUALIFIED},
        {"__is_pydantic": True, "value": FIELDS, "qualified_name": "__main__.Greet"},
        {"type": "Greet", "value": FIELDS, "sequence": 7},
        {"type": "Greet", "value": FIELDS, "qualified_name": "a.B", "mro": []},
        {"type": "Begin", "value": FIELDS, "qualified_name": QUALIFIED},
        {"type": "Greet", "value": None, "data": FIELDS},
        json.dumps(FIELDS),
        {"__is_pydantic": True, "value": {"_data": FIELDS}, "qualified_name": UNTYPED},
        {"__is_pydantic": True, "value": FIELDS, "qualified_name": UNTYPED},
        {"type": "StartEvent", "value": FIELDS, "qualified_name": UNTYPED},
        json.dumps({"__is_pydantic": True, "value": FIELDS, "qualified_name": QUALIFIED}),
        json.dumps({"type": "Greet", "value": FIELDS}),
        json.dumps({"qualified_name": QUALIFIED, "value": FIELDS}),
    ],
)
async def test_a_start_event_comes_as_fields_or_as_an_envelope_or_as_json(
    client: httpx.AsyncClient, start_event: dict[str, Any] | str
) -> None:
    response = await client.post("/workflows/greeter/run", json={"start_event": start_event})
    assert response.json()["result"]["value"] == {"text": "Hello, Ada! Hello, Ada!"}


@pytest.mark.parametrize(
    "body",
    [
        {"kwargs": FIELDS},
        {"kwargs": FIELDS, "start_event": None},
        {"kwargs": {"__is_pydantic": True, "value": FIELDS, "qualified_name": QUALIFIED}},
        {"kwargs": {"type": "Greet", "value": FIELDS}},
    ],
)
async def test_kwargs_are_the_fields_where_there_is_no_start_event(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    response = await client.post("/workflows/greeter/run", json=body)
    assert response.json()["result"]["value"] == {"text": "Hello, Ada! Hello, Ada!"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"start_event": null, "kwargs": null, "context": null, "handler_id": null}',
        b'{"start_event": {}, "kwargs": {}, "context": {}}',
    ],
)
async def test_every_part_of_the_body_may_be_left_out(
    client: httpx.AsyncClient, body: bytes
) -> None:
    response = await client.post("/workflows/echo/run", content=body)
    assert response.json()["result"]["value"] == {"result": {}}


@pytest.mark.parametrize("path", ["run", "run-nowait"])
async def test_a_body_of_unknown_keys_alone_is_refused_with_those_that_are_known(
    client: httpx.AsyncClient, path: str
) -> None:
    response = await client.post(f"/workflows/echo/{path}", json={"startEvent": {}, "input": 1})
    assert problem_of(response) == (400, "malformed_request")
    assert faults_of(response) == [["body"]]
    assert "start_event, kwargs, context, handler_id" in response.json()["detail"]
    assert (await client.get("/handlers")).json()["handlers"] == []


async def test_unknown_keys_beside_known_ones_are_passed_over(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/workflows/echo/run", json={"kwargs": {"text": "hi"}, "input": 1, "handlerId": "h"}
    )
    assert response.json()["result"]["value"] == {"result": {"text": "hi"}}


async def test_unknown_keys_of_the_body_are_ignored(client: httpx.AsyncClient) -> None:
    body = {"start_event": {"a": 1}, "colour": "blue", "timeout": 3}
    response = await client.post("/workflows/echo/run", json=body)
    assert response.json()["result"]["value"] == {"result": {"a": 1}}


async def test_the_content_type_of_a_json_body_does_not_matter(client: httpx.AsyncClient) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = b'{"start_event": {"a": 1}}'
    response = await client.post("/workflows/echo/run", content=body, headers=form)
    assert response.json()["result"]["value"] == {"result": {"a": 1}}


@pytest.mark.parametrize(
    ("start_event", "fields"),
    [
        ({"type": "a", "value": 1, "data": "b"}, ["a", 1, "b"]),
        ({"type": "Typed", "value": 1}, ["Typed", 1, ""]),
        ({"type": "Typed", "value": {"type": "a", "value": 2, "data": "c"}}, ["a", 2, "c"]),
        ('{"type": "a", "data": "b"}', ["a", 0, "b"]),
    ],
)
async def test_a_start_event_may_have_fields_that_envelopes_have_too(
    client: httpx.AsyncClient, start_event: dict[str, Any] | str, fields: list[Any]
) -> None:
    response = await client.post("/workflows/typed/run", json={"start_event": start_event})
    assert response.json()["result"]["value"] == {"result": fields}


async def test_fields_called_type_and_value_are_fields_where_no_class_could_be_meant(
    client: httpx.AsyncClient,
) -> None:
    fields = {"type": "invoice", "value": 12}
    assert (await run(client, "echo", **fields))["result"]["value"] == {"result": fields}


@pytest.mark.parametrize(
    "start_event",
    [
        {"__is_pydantic": True, "value": {"seconds": 1}, "qualified_name": "a.Nap"},
        {"__is_pydantic": True, "value": {"_data": {"seconds": 1}}, "qualified_name": "a.Nap"},
        {"type": "Nap", "value": {"seconds": 1}, "sequence": 1},
        {"type": "Nap", "value": 1},
        {"type": "Nap", "value": None, "at": 1},
        {"type": "Sleep", "value": 1},
    ],
)
async def test_an_envelope_never_leaves_the_fields_to_their_defaults(
    client: httpx.AsyncClient, start_event: dict[str, Any]
) -> None:
    response = await client.post("/workflows/sleeper/run", json={"start_event": start_event})
    assert problem_of(response) == (400, "invalid_start_event")


async def test_an_envelope_with_another_key_beside_fields_without_a_class_is_fields(
    client: httpx.AsyncClient,
) -> None:
    fields = {"type": "invoice", "value": {"amount": 12}, "currency": "EUR"}
    assert (await run(client, "echo", **fields))["result"]["value"] == {"result": fields}


async def test_the_mark_of_older_clients_opens_an_untyped_start_event(
    client: httpx.AsyncClient,
) -> None:
    marked = {"__is_pydantic": True, "value": {"_data": {"a": 1}}, "qualified_name": UNTYPED}
    assert (await run(client, "echo", **marked))["result"]["value"] == {"result": {"a": 1}}


async def test_dates_and_uuids_are_taken_as_pydantic_takes_them() -> None:
    async with serve_workflow(Booker()) as client:
        handler = await run(
            client,
            "it",
            day="2026-11-03T12:00:00+01:00",
            id="1b4e28ba-2fa1-11d2-883f-0016d3cca427",
        )
    assert handler["result"]["value"]["result"] == [
        "2026-11-03T11:00:00+00:00",
        "1b4e28ba2fa111d2883f0016d3cca427",
    ]


async def test_a_missing_required_field_is_named(client: httpx.AsyncClient) -> None:
    response = await client.post("/workflows/greeter/run", json={"start_event": {"times": 2}})
    assert problem_of(response) == (400, "invalid_start_event")
    assert faults_of(response) == [["body", "start_event", "name"]]
    assert "'name'" in response.json()["detail"]


@pytest.mark.parametrize("action", ["run", "run-nowait"])
async def test_a_refused_start_event_stores_nothing(client: httpx.AsyncClient, action: str) -> None:
    body = {"start_event": {"times": 2}, "handler_id": "h"}
    await client.post(f"/workflows/greeter/{action}", json=body)
    assert (await client.get("/handlers")).json() == {"handlers": [], "next_cursor": None}
    assert (await client.get("/handlers/h")).status_code == 404


async def test_the_id_of_a_refused_request_is_free(client: httpx.AsyncClient) -> None:
    await client.post("/workflows/greeter/run", json={"handler_id": "h"})
    assert await start(client, "greeter", "h", name="Ada") == "h"


@pytest.mark.parametrize(
    "start_event",
    [
        {"type": "Nobody", "value": {}},
        {"type": "Question", "value": {"prompt": "?"}},
        {"qualified_name": "os.system", "value": {}},
        {"type": "Greet", "value": {"name": ["Ada"]}},
        {"type": "Greet", "value": "Ada"},
        {"__is_pydantic": True, "value": FIELDS},
        {"__is_pydantic": True, "value": FIELDS, "qualified_name": "os.system"},
        {"__is_pydantic": True, "value": "Ada", "qualified_name": QUALIFIED},
        {"name": "Ada", "_data": {"_data": 1}, "__class__": "x", "times": "many"},
    ],
)
async def test_what_is_no_start_event_of_the_workflow_is_refused(
    client: httpx.AsyncClient, start_event: dict[str, Any]
) -> None:
    response = await client.post("/workflows/greeter/run", json={"start_event": start_event})
    assert problem_of(response) == (400, "invalid_start_event")


async def test_another_event_of_the_workflow_cannot_start_it(client: httpx.AsyncClient) -> None:
    start_event = {"type": "Question", "value": {"prompt": "?"}}
    response = await client.post("/workflows/asker/run", json={"start_event": start_event})
    assert problem_of(response) == (400, "invalid_start_event")


@pytest.mark.parametrize("key", ["type", "qualified_name"])
async def test_a_class_that_the_workflow_does_not_declare_is_never_imported(
    client: httpx.AsyncClient, canary: Canary, key: str
) -> None:
    body = {"start_event": {key: CLASS, "value": {}}}
    response = await client.post("/workflows/echo/run", json=body)
    assert problem_of(response) == (400, "invalid_start_event")
    assert not canary.sings


async def test_a_class_named_inside_a_value_stays_data(
    client: httpx.AsyncClient, canary: Canary
) -> None:
    nested = {"__is_pydantic": True, "qualified_name": CLASS, "value": {}}
    handler = await run(client, "echo", thing=nested)
    assert handler["result"]["value"] == {"result": {"thing": nested}}
    assert not canary.sings


async def test_the_private_side_of_an_event_cannot_be_set(client: httpx.AsyncClient) -> None:
    handler = await run(client, "echo", _data={"a": 1})
    assert handler["result"]["value"] == {"result": {"a": 1}}


async def test_a_client_that_hangs_up_on_a_run_changes_nothing(client: httpx.AsyncClient) -> None:
    body = {"handler_id": "h", "start_event": {"questions": 1}}
    waiting = asyncio.create_task(client.post("/workflows/asker/run", json=body))

    async def accepted() -> bool:
        return (await client.get("/handlers/h")).status_code == 202

    await until(accepted)
    await wait_question(client, "h", "1")
    waiting.cancel()
    await asyncio.wait({waiting})
    await answer(client, "h", "yes")
    assert (await wait_ended(client, "h"))["result"]["value"] == {"result": ["yes"]}


async def test_a_run_answers_when_its_question_is_answered(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    await answer(client, handler_id, "yes")
    assert (await wait_ended(client, handler_id))["status"] == "completed"
