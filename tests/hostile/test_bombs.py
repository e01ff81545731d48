"""Bodies that are small and cost much: refused before they are built, by the number of values."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.properties.values import SETTINGS, json_like, text
from tests.support.bombs import HEAVY, MAX_VALUES, TOO_MANY, number_of_values, repeat
from tests.support.calls import start_asker
from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.waiting import DEADLINE
from tests.support.workflows import add_all
from workflow_server.app import json_size
from workflow_server.app.access import AccessError
from workflow_server.app.access.keys import parse_keys
from workflow_server.app.json_size import count_values, has_more_values
from workflow_server.app.server import WorkflowServer

START, EVENT = "/workflows/echo/run-nowait", "/events/h"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server with the limits that it has by default."""
    server = WorkflowServer()
    add_all(server)
    async with open_client(server) as client:
        yield client


def quoted(text: str) -> str:
    """Return a text of JSON as a JSON string, in which no mark of a value is seen."""
    return (
        '"'
        + "".join(f"\\u{ord(letter):04x}" if letter in '[]{},:"' else letter for letter in text)
        + '"'
    )


@pytest.mark.parametrize("bomb", TOO_MANY.values(), ids=TOO_MANY)
@pytest.mark.parametrize("path", [START, "/workflows/echo/run", EVENT])
async def test_a_body_of_too_many_values_is_refused(
    client: httpx.AsyncClient, path: str, bomb: str
) -> None:
    response = await client.post(path, content=f'{{"start_event":{{"x":{bomb}}}}}')
    assert problem_of(response) == (413, "body_too_large")
    assert response.json()["detail"] == f"The body has more than {MAX_VALUES} JSON values."
    assert (await client.get("/handlers")).json()["handlers"] == []


@pytest.mark.parametrize("bomb", TOO_MANY.values(), ids=TOO_MANY)
async def test_a_bomb_that_is_cut_off_is_refused(client: httpx.AsyncClient, bomb: str) -> None:
    response = await client.post(START, content=bomb[:-1])
    assert response.status_code in (400, 413)


@pytest.mark.parametrize("key", ["start_event", "event"])
async def test_a_text_in_the_body_that_holds_too_many_values_is_refused(
    client: httpx.AsyncClient, key: str
) -> None:
    path = START if key == "start_event" else f"/events/{await start_asker(client)}"
    bomb = quoted(f'{{"type":"HumanResponseEvent","value":{{"x":{repeat("[]", 210_000)}}}}}')
    response = await client.post(path, content=f'{{"{key}":{bomb}}}')
    assert problem_of(response) == (413, "body_too_large")


class Numbers(StartEvent):
    numbers: list[int]


class Summing(Workflow):
    """Takes numbers alone."""

    @step
    async def add(self, ev: Numbers) -> StopEvent:
        return StopEvent(result=sum(ev.numbers))


async def test_a_hundred_faults_of_many_are_named() -> None:
    server = WorkflowServer()
    server.add_workflow("summing", Summing())
    async with open_client(server) as client:
        body = {"start_event": {"numbers": ["no"] * 10_000}}
        response = await client.post("/workflows/summing/run", json=body)
    assert problem_of(response) == (400, "invalid_start_event")
    assert len(response.json()["errors"]) == 100
    assert response.json()["detail"].endswith(", and 9995 more.")


def context_of(*texts: str) -> dict[str, object]:
    """Return a context whose state has these texts of JSON, as the engine would have written it."""
    return {
        "state": {
            "state_type": "DictState",
            "state_module": "workflows.context.state_store",
            "state_data": {"_data": {f"k{number}": text for number, text in enumerate(texts)}},
        },
        "is_running": False,
        "workers": {},
        "version": 1,
    }


@pytest.mark.parametrize("texts", [[repeat("[]", 210_000)], [repeat("[]", 30_000)] * 7])
async def test_texts_in_a_context_that_hold_too_many_values_are_refused(
    client: httpx.AsyncClient, texts: list[str]
) -> None:
    response = await client.post(START, json={"context": context_of(*texts)})
    assert problem_of(response) == (413, "body_too_large")


async def test_texts_in_a_context_of_fewer_values_are_taken(client: httpx.AsyncClient) -> None:
    texts = [repeat("[]", 30_000)] * 3
    response = await client.post(START, json={"context": context_of(*texts)})
    assert response.status_code == 200


async def test_as_many_values_as_are_allowed_are_taken(client: httpx.AsyncClient) -> None:
    # The body, its member and the name of that, the event, its member and the name of that.
    bomb = repeat("1", MAX_VALUES - 5)
    fits = await client.post(START, content=f'{{"start_event":{{"x":{bomb}}}}}')
    over = await client.post(START, content=f'{{"start_event":{{"x":{bomb[:-1]},1]}}}}')
    assert (fits.status_code, over.status_code) == (200, 413)


@pytest.mark.parametrize(
    "name",
    ["empty arrays", "members of arrays", "marks of the codec", "marks of the journal", "depth"],
)
async def test_what_is_within_the_limits_comes_back_as_it_was(
    client: httpx.AsyncClient, name: str
) -> None:
    response = await client.post(
        "/workflows/echo/run", content=f'{{"start_event":{{"x":{HEAVY[name]}}}}}', timeout=DEADLINE
    )
    assert response.status_code == 200
    assert response.json()["result"]["value"]["result"] == {"x": json.loads(HEAVY[name])}


async def test_others_have_the_event_loop_while_values_are_counted() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(count_turns())
    text = b'"' + b"," * (20 * json_size.SLICE) + b'"'
    assert not await has_more_values(text, 1_000)
    task.cancel()
    assert turns >= 20


async def test_a_long_text_full_of_marks_is_a_single_value(client: httpx.AsyncClient) -> None:
    text = '[{,:}] "quoted" \\ ' * 300_000
    response = await client.post(START, json={"start_event": {"x": text}})
    assert response.status_code == 200


async def test_the_limit_can_be_set() -> None:
    server = WorkflowServer(max_body_values=10)
    add_all(server)
    async with open_client(server) as client:
        fits = await client.post(START, json={"start_event": {"x": [1] * 5}})
        over = await client.post(START, json={"start_event": {"x": [1] * 6}})
    assert (fits.status_code, over.status_code) == (200, 413)


@pytest.mark.parametrize("size", [2, 3, 7, 64, json_size.SLICE])
@pytest.mark.parametrize("indent", [None, 1])
def test_values_are_counted_as_a_parser_builds_them(
    monkeypatch: pytest.MonkeyPatch, size: int, indent: int | None
) -> None:
    monkeypatch.setattr(json_size, "SLICE", size)

    @SETTINGS
    @given(json_like(text))
    def count(value: object) -> None:
        document = json.dumps(value, indent=indent).encode()
        assert count_values(document, 1 << 60) == number_of_values(value)

    count()


@pytest.mark.parametrize("text", [b'"' + b"\\" * 1_000_000, b'"' * 1_000_000, b"\\" * 1_000_000])
async def test_what_is_no_json_is_counted_too(text: bytes) -> None:
    assert await has_more_values(text, 1_000) is False


@pytest.mark.parametrize(
    "document",
    [
        '{"keys":' + repeat("[]", 201_000) + "}",
        "keys = " + repeat("[]", 201_000),
        '{"keys":' + "[" * 5_000 + "]" * 5_000 + "}",
        "keys = " + "[" * 5_000 + "]" * 5_000,
        '{"keys":[' + " " * (5 << 20) + "]}",
    ],
    ids=["json", "toml", "deep json", "deep toml", "long"],
)
def test_a_bomb_in_place_of_the_keys_is_refused_in_a_sentence(document: str) -> None:
    with pytest.raises(AccessError, match="the file"):
        parse_keys(document, where="the file")


def test_many_keys_are_read(tmp_path: Path) -> None:
    keys = [
        {"name": f"k{number}", "hash": f"sha256:{number:064x}", "scopes": ["read"]}
        for number in range(5_000)
    ]
    assert len(parse_keys(json.dumps({"keys": keys}), where="the file")) == 5_000
