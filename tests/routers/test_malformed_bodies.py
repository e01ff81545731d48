"""Bodies that are no request: each is the client's doing, and none leaves a trace."""

from typing import Any

import httpx
import pytest

from tests.support.calls import start, start_asker
from tests.support.problems import faults_of, problem_of

NOT_JSON = [
    pytest.param(b"\xff\xfe{}", id="not-utf-8"),
    pytest.param('{"a": "ä"}'.encode("latin-1"), id="latin-1"),
    pytest.param("{}".encode("utf-16"), id="utf-16"),
    pytest.param(b"{", id="cut-off"),
    pytest.param(b"{'a': 1}", id="python"),
    pytest.param(b'{"start_event": {"a": NaN}}', id="nan"),
    pytest.param(b'{"start_event": {"a": -Infinity}}', id="infinity"),
    pytest.param(b'{"start_event": {"a": "\\ud800"}}', id="lone-surrogate"),
    pytest.param(b'{"handler_id": "\\udfff"}', id="lone-surrogate-in-id"),
    pytest.param(b'{"\\ud800": 1}', id="lone-surrogate-in-key"),
    pytest.param(b'{"start_event": ' + b"[" * 50_000, id="deep-lists"),
    pytest.param(b'{"a": ' * 50_000, id="deep-objects"),
    pytest.param(b'{"start_event": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", id="deep-and-closed"),
]
NO_OBJECT = [b"[1]", b'"x"', b"5"]


@pytest.mark.parametrize("body", NOT_JSON)
async def test_a_run_request_that_is_no_json_is_refused_and_stores_nothing(
    client: httpx.AsyncClient, body: bytes
) -> None:
    response = await client.post("/workflows/echo/run", content=body)
    assert problem_of(response) == (400, "malformed_request")
    assert (await client.get("/handlers")).json() == {"handlers": [], "next_cursor": None}


@pytest.mark.parametrize("body", NO_OBJECT)
async def test_a_run_request_that_is_no_object_is_refused(
    client: httpx.AsyncClient, body: bytes
) -> None:
    response = await client.post("/workflows/echo/run", content=body)
    assert problem_of(response) == (400, "malformed_request")
    assert faults_of(response) == [["body"]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("start_event", 5),
        ("start_event", []),
        ("kwargs", []),
        ("kwargs", "x"),
        ("context", "x"),
        ("context", [1]),
    ],
)
async def test_a_part_of_the_wrong_kind_is_refused_and_placed(
    client: httpx.AsyncClient, field: str, value: Any
) -> None:
    response = await client.post("/workflows/echo/run", json={field: value})
    assert problem_of(response) == (400, "malformed_request")
    assert {tuple(place[:2]) for place in faults_of(response)} == {("body", field)}


@pytest.mark.parametrize(
    "text", ["hello", "5", "[]", "null", '{"a": NaN}', '{"a": "\\ud800"}', '{"a": ' * 5_000]
)
async def test_a_start_event_string_that_is_no_json_object_is_refused(
    client: httpx.AsyncClient, text: str
) -> None:
    response = await client.post("/workflows/echo/run", json={"start_event": text})
    assert problem_of(response) == (400, "invalid_start_event")


@pytest.mark.parametrize("body", NOT_JSON)
async def test_an_event_that_is_no_json_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    handler_id = await start(client, "sleeper")
    response = await client.post(f"/events/{handler_id}", content=body)
    assert problem_of(response) == (400, "malformed_request")


@pytest.mark.parametrize("body", [b"", b"{}", b'{"event": null}', b"null", *NO_OBJECT])
async def test_a_body_without_an_event_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    handler_id = await start_asker(client)
    response = await client.post(f"/events/{handler_id}", content=body)
    assert problem_of(response) == (400, "malformed_request")


@pytest.mark.parametrize(
    "event", ["", "hello", "5", "[]", '{"type": "Answer", "value": {"text": "\\ud800"}}']
)
async def test_an_event_string_that_is_no_json_object_is_refused(
    client: httpx.AsyncClient, event: str
) -> None:
    handler_id = await start_asker(client)
    response = await client.post(f"/events/{handler_id}", json={"event": event})
    assert problem_of(response) == (400, "invalid_event")


async def test_a_body_of_null_is_no_object(client: httpx.AsyncClient) -> None:
    response = await client.post("/workflows/echo/run", content=b"null")
    assert problem_of(response) == (400, "malformed_request")
