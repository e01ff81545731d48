"""What a stream looks like: SSE and NDJSON, headers, heartbeats, and what can be left out."""

import json
from datetime import UTC, datetime

import httpx
import pytest

from tests.support.calls import answer, run, start, start_asker
from tests.support.live import open_client
from tests.support.streams import read_frames, read_until
from tests.support.workflows import add_all
from workflow_server.app.server import WorkflowServer


async def run_greeter(client: httpx.AsyncClient) -> str:
    """Run `greeter`, and return its handler's id."""
    handler_id: str = (await run(client, "greeter", name="Ada"))["handler_id"]
    return handler_id


ENVELOPE = (
    '{"value":{"text":"Hello, Ada!"},"type":"Greeting","types":["StopEvent"],'
    '"qualified_name":"tests.support.workflows.Greeting"}'
)


async def test_an_sse_event_is_its_id_and_its_envelope_on_one_line(
    client: httpx.AsyncClient,
) -> None:
    handler_id = await run_greeter(client)
    [frame] = await read_frames(client, handler_id)
    response = await client.get(f"/events/{handler_id}", params={"after_sequence": -1})
    assert response.text == f"id: {frame.sequence}\ndata: {ENVELOPE}\n\n"


async def test_an_ndjson_event_is_its_envelope_on_one_line(client: httpx.AsyncClient) -> None:
    handler_id = await run_greeter(client)
    response = await client.get(
        f"/events/{handler_id}", params={"after_sequence": -1, "sse": "false"}
    )
    assert response.text == f"{ENVELOPE}\n"


@pytest.mark.parametrize(
    ("sse", "media_type"), [("true", "text/event-stream"), ("false", "application/x-ndjson")]
)
async def test_the_headers_keep_caches_and_proxies_away(
    client: httpx.AsyncClient, sse: str, media_type: str
) -> None:
    handler_id = await run_greeter(client)
    params = {"after_sequence": "-1", "sse": sse}
    headers = (await client.get(f"/events/{handler_id}", params=params)).headers
    assert headers["content-type"].partition(";")[0] == media_type
    assert headers["cache-control"] == "no-store"
    assert headers["x-accel-buffering"] == "no"


SSE, NDJSON = "text/event-stream", "application/x-ndjson"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, SSE),
        ("", SSE),
        ("*/*", SSE),
        (NDJSON, NDJSON),
        ("APPLICATION/X-NDJSON", NDJSON),
        (f"{NDJSON}; charset=utf-8", NDJSON),
        (f"{NDJSON};version=2", SSE),
        ("application/*", NDJSON),
        ("text/*, application/*", SSE),
        (f"{NDJSON}, {SSE}", SSE),
        (f"{NDJSON}, {SSE};q=0.9", NDJSON),
        (f"{NDJSON};q=0.8, {SSE};q=0.9", SSE),
        (f"{NDJSON} ; Q=0.9 , {SSE} ; q=0.8", NDJSON),
        (f"{NDJSON}, */*", SSE),
        (f"{NDJSON}, */*;q=0.1", NDJSON),
        (f"{SSE};q=0, */*", NDJSON),
        (f"{SSE};q=0.1, */*;q=0.5", NDJSON),
        (f"{NDJSON};q=0, */*;q=0.1", SSE),
        (f"{NDJSON};q=2, */*;q=0.1", SSE),
        (f"{NDJSON};q=, */*;q=0.1", SSE),
        ("application/json", SSE),
        ("text/html, application/xhtml+xml, */*;q=0.8", SSE),
        (",;,q=1", SSE),
    ],
)
async def test_accept_chooses_the_format_where_sse_does_not(
    client: httpx.AsyncClient, accept: str | None, media_type: str
) -> None:
    handler_id = await run_greeter(client)
    request = client.build_request("GET", f"/events/{handler_id}?after_sequence=-1")
    del request.headers["accept"]
    if accept is not None:
        request.headers["accept"] = accept
    headers = (await client.send(request)).headers
    assert (headers["content-type"].partition(";")[0], headers["vary"]) == (media_type, "Accept")


async def test_several_lines_of_accept_are_one_list(client: httpx.AsyncClient) -> None:
    handler_id = await run_greeter(client)
    lines = [("Accept", f"{SSE};q=0.5"), ("Accept", NDJSON)]
    response = await client.get(f"/events/{handler_id}?after_sequence=-1", headers=lines)
    assert response.headers["content-type"] == NDJSON


@pytest.mark.parametrize(
    ("sse", "accept", "media_type"), [("true", NDJSON, SSE), ("false", SSE, NDJSON)]
)
async def test_an_explicit_sse_wins(
    client: httpx.AsyncClient, sse: str, accept: str, media_type: str
) -> None:
    handler_id = await run_greeter(client)
    params = {"after_sequence": "-1", "sse": sse}
    response = await client.get(f"/events/{handler_id}", params=params, headers={"Accept": accept})
    assert response.headers["content-type"].partition(";")[0] == media_type


@pytest.mark.parametrize("sse", ["true", "false"])
async def test_internal_events_are_shown_when_asked_for(
    client: httpx.AsyncClient, sse: str
) -> None:
    handler_id = await run_greeter(client)
    params = {"after_sequence": "-1", "sse": sse}
    shown = await client.get(f"/events/{handler_id}", params=params)
    everything = await client.get(
        f"/events/{handler_id}", params={**params, "include_internal": "true"}
    )
    assert "StepStateChanged" not in shown.text
    assert "StepStateChanged" in everything.text


@pytest.mark.parametrize("sse", ["true", "false"])
async def test_the_qualified_name_is_null_when_it_is_left_out(
    client: httpx.AsyncClient, sse: str
) -> None:
    handler_id = await run_greeter(client)
    params = {"after_sequence": "-1", "sse": sse, "include_qualified_name": "false"}
    response = await client.get(f"/events/{handler_id}", params=params)
    line = response.text[response.text.index("{") :]
    assert json.loads(line) == {**json.loads(ENVELOPE), "qualified_name": None}


@pytest.mark.parametrize("named", [True, False])
async def test_an_event_says_when_it_was_emitted_where_that_is_asked_for(
    client: httpx.AsyncClient, named: bool
) -> None:
    handler = await run(client, "greeter", name="Ada")
    query = {"include_emitted_at": True, "include_qualified_name": named}
    [frame] = await read_frames(client, handler["handler_id"], **query)
    assert frame.envelope.pop("emitted_at") == handler["completed_at"]
    [plain] = await read_frames(client, handler["handler_id"], include_qualified_name=named)
    assert frame == plain


async def test_the_times_of_events_are_those_of_their_emission(client: httpx.AsyncClient) -> None:
    handler_id = await start_asker(client)
    query: dict[str, bool] = {"include_emitted_at": True, "include_internal": True}
    asked = await read_until(client, handler_id, lambda frame: frame.type == "Question", **query)
    answered_at = datetime.now(UTC)
    await answer(client, handler_id, "yes")
    frames = await read_frames(client, handler_id, **query)
    times = [datetime.fromisoformat(frame.envelope["emitted_at"]) for frame in frames]
    assert frames[: len(asked)] == asked
    assert times == sorted(times)
    assert times[len(asked) - 1] < answered_at < times[-1]


async def test_a_value_that_looks_like_a_qualified_name_is_left_alone(
    client: httpx.AsyncClient,
) -> None:
    value = {"a": '","qualified_name":"b"}', "qualified_name": "c"}
    handler_id = (await run(client, "echo", **value))["handler_id"]
    [frame] = await read_frames(client, handler_id, include_qualified_name=False)
    assert frame.envelope == {
        "value": {"result": value},
        "type": "StopEvent",
        "types": None,
        "qualified_name": None,
    }


async def test_a_silent_sse_stream_has_heartbeats_and_the_events_between_them() -> None:
    server = WorkflowServer(sse_heartbeat_interval=0.02)
    add_all(server)
    async with open_client(server) as client:
        handler_id = await start_asker(client)
        params = {"after_sequence": -1}
        async with client.stream("GET", f"/events/{handler_id}", params=params) as response:
            lines = response.aiter_lines()
            head = [await anext(lines) for _ in range(9)]
            await answer(client, handler_id, "yes")
            tail = [line async for line in lines]
    assert head[3:] == [": heartbeat", ""] * 3
    assert [line[:5] for line in head[:3]] == ["id: 2", "data:", ""]
    assert json.loads(tail[-2].removeprefix("data: "))["type"] == "StopEvent"


@pytest.mark.parametrize("interval", [0, None])
async def test_heartbeats_can_be_turned_off(interval: float | None) -> None:
    server = WorkflowServer(sse_heartbeat_interval=interval)
    add_all(server)
    async with open_client(server) as client:
        handler_id = await start(client, "sleeper", seconds=0.1)
        response = await client.get(f"/events/{handler_id}", params={"after_sequence": -1})
    assert "heartbeat" not in response.text


async def test_ndjson_has_no_heartbeats() -> None:
    server = WorkflowServer(sse_heartbeat_interval=0.01)
    add_all(server)
    async with open_client(server) as client:
        handler_id = await start(client, "sleeper", seconds=0.1)
        params = {"after_sequence": "-1", "sse": "false"}
        response = await client.get(f"/events/{handler_id}", params=params)
    types = [json.loads(line)["type"] for line in response.text.splitlines()]
    assert types == ["Number", "StopEvent"]


async def test_hidden_events_do_not_keep_heartbeats_away() -> None:
    server = WorkflowServer(sse_heartbeat_interval=0.02)
    add_all(server)
    async with open_client(server) as client:
        handler_id = await start_asker(client)
        params = {"after_sequence": "now"}
        async with client.stream("GET", f"/events/{handler_id}", params=params) as response:
            first = await anext(response.aiter_lines())
    assert first == ": heartbeat"
