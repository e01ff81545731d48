"""What the client of `llama-index-workflows` 2.10.3 sends, the last before 2.11.

That client cannot stand beside the engine, whose package it is part of. So these are its requests,
as they were recorded when it drove every example on this server. `test_released_clients` runs the
client itself.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from tests.support.waiting import DEADLINE

EXPENSE = {"purpose": "Train tickets", "amount": 240.5}
DECISION = {"value": {"approved": True, "comment": ""}, "type": "Decision", "qualified_name": None}
NO_START_EVENT: dict[str, Any] = {"value": {}, "type": "StartEvent", "qualified_name": None}
CALL_EVENTS = [
    ("AttemptFailed", {"attempt": 1, "error": "the service is down"}),
    ("AttemptFailed", {"attempt": 2, "error": "the service is down"}),
    ("Answered", {"attempts": 3, "last_error": "the service is down"}),
]

Event = tuple[str, dict[str, Any]]


@pytest.fixture
async def client(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=base_url, timeout=DEADLINE) as client:
        yield client


async def run(client: httpx.AsyncClient, workflow: str, **body: Any) -> dict[str, Any]:
    response = await client.post(f"/workflows/{workflow}/run", json={"context": {}, **body})
    assert response.status_code == 200, response.text
    handler: dict[str, Any] = response.json()
    return handler


async def start(client: httpx.AsyncClient, workflow: str, handler_id: str, **body: Any) -> None:
    response = await client.post(
        f"/workflows/{workflow}/run-nowait",
        json={"start_event": NO_START_EVENT, "context": {}, "handler_id": handler_id, **body},
    )
    assert response.status_code == 200, response.text


async def iterate(
    client: httpx.AsyncClient, handler_id: str, *, lock_timeout: float = 1, internal: bool = False
) -> AsyncGenerator[Event]:
    """Read events as that client does: NDJSON, and without a cursor."""
    params: dict[str, str | float] = {
        "sse": "false",
        "include_internal": str(internal).lower(),
        "acquire_timeout": lock_timeout,
    }
    async with client.stream("GET", f"/events/{handler_id}", params=params) as response:
        if response.status_code == 204:
            return
        response.raise_for_status()
        async for line in response.aiter_lines():
            envelope = json.loads(line)
            assert envelope.keys() == {"value", "type", "types", "qualified_name"}
            yield envelope["type"], envelope["value"]


async def read(client: httpx.AsyncClient, handler_id: str) -> list[Event]:
    return [event async for event in iterate(client, handler_id)]


@pytest.mark.parametrize("start_event", [{"name": "Ada"}, {"_data": {"name": "Ada"}}])
async def test_a_bare_start_event_is_taken(
    client: httpx.AsyncClient, start_event: dict[str, Any]
) -> None:
    handler = await run(client, "greeting", start_event=start_event)
    assert handler["result"] == {
        "value": {"result": "Hello, Ada!"},
        "type": "StopEvent",
        "types": None,
        "qualified_name": "workflows.events.StopEvent",
    }


async def test_an_empty_string_is_no_start_event(client: httpx.AsyncClient) -> None:
    handler = await run(client, "flaky", start_event="")
    assert handler["result"]["value"] == {"attempts": 3, "last_error": "the service is down"}


async def test_a_stream_without_a_cursor_is_read_to_its_end_once(client: httpx.AsyncClient) -> None:
    await start(client, "flaky", "h")
    assert [await read(client, "h"), await read(client, "h")] == [CALL_EVENTS, []]


async def test_a_stream_that_is_first_read_after_the_end_is_whole(
    client: httpx.AsyncClient,
) -> None:
    await run(client, "flaky", start_event="", handler_id="h")
    assert await read(client, "h") == CALL_EVENTS


async def test_the_next_reader_goes_on_where_the_last_one_left(client: httpx.AsyncClient) -> None:
    await start(client, "approval", "h", start_event=EXPENSE)
    async with aclosing(iterate(client, "h")) as events:
        question = await anext(events)
    sent = await client.post("/events/h", json={"event": DECISION})
    decided = {"outcome": "approved", "purpose": "Train tickets", "comment": ""}
    assert question == (
        "ApprovalRequired",
        {"question": "Approve 240.50 € for: Train tickets?"},
    )
    assert sent.json() == {"status": "sent"}
    assert await read(client, "h") == [("Decided", decided)]


async def test_a_second_reader_at_the_same_time_is_a_conflict(client: httpx.AsyncClient) -> None:
    await start(client, "approval", "h", start_event=EXPENSE)
    async with aclosing(iterate(client, "h")) as events:
        await anext(events)
        with pytest.raises(httpx.HTTPStatusError, match="409 Conflict"):
            await anext(iterate(client, "h", lock_timeout=0.01))


async def test_a_conversation_goes_on(client: httpx.AsyncClient) -> None:
    await run(client, "conversation", start_event={"message": "one"}, handler_id="h")
    handler = await run(client, "conversation", start_event={"message": "two"}, handler_id="h")
    assert handler["result"]["value"] == {"turn": 2, "message": "two", "said_before": ["one"]}


async def test_filters_that_are_not_set_are_sent_empty(client: httpx.AsyncClient) -> None:
    handler = await run(client, "greeting", start_event={"name": "Ada"})
    listed = await client.get("/handlers", params={"status": None, "workflow_name": None})
    assert listed.request.url.query == b"status=&workflow_name="
    assert listed.json() == {"handlers": [handler], "next_cursor": None}


async def test_a_handler_is_cancelled_and_one_that_ended_is_purged(
    client: httpx.AsyncClient,
) -> None:
    await start(client, "approval", "h", start_event=EXPENSE)
    cancelled = await client.post("/handlers/h/cancel", params={"purge": "false"})
    purged = await client.post("/handlers/h/cancel", params={"purge": "true"})
    gone = await client.get("/handlers/h")
    assert [cancelled.json(), purged.json()] == [{"status": "cancelled"}, {"status": "deleted"}]
    assert gone.status_code == 404
