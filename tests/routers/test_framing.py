"""No text in an event can break the framing of a stream."""

import json
import math
from typing import Any

import httpx
import pytest
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from tests.support.calls import run
from tests.support.live import serve_workflow
from tests.support.streams import read_frames

BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
AWKWARD: dict[str, tuple[Any, Any]] = {
    "line-breaks": (BREAKS, BREAKS),
    "crlf": ("a\r\n\r\nb", "a\r\n\r\nb"),
    "a-frame": ("x\n\nid: 99\ndata: {}\n\n", "x\n\nid: 99\ndata: {}\n\n"),
    "nul": ("a\x00b", "a\x00b"),
    "controls": ("".join(map(chr, range(32))), "".join(map(chr, range(32)))),
    "quotes": ('"\\"}', '"\\"}'),
    "bom": ("\ufeff", "\ufeff"),
    "astral": ("𝔞🙂", "𝔞🙂"),
    "noncharacters": ("\uffff\ufdd0", "\uffff\ufdd0"),
    "a-megabyte": ("x" * 1_000_000, "x" * 1_000_000),
    "a-megabyte-of-breaks": ("\u2028" * 350_000, "\u2028" * 350_000),
    "nan": (math.nan, None),
    "infinities": ([math.inf, -math.inf], [None, None]),
    "keys": ({"\u2028\n": 1}, {"\u2028\n": 1}),
    "huge-integer": (10**30, 10**30),
}
SURROGATES: dict[str, Any] = {
    "high": "a\ud800b",
    "low": "a\udfffb",
    "reversed": "\udfff\ud800",
    "deep": [{"a": ("\ud800",)}],
    "key": {"\ud800": 1},
    "with-breaks": "\ud800\u2028\x85\n",
}


class Said(Event):
    what: Any


class Speaker(Workflow):
    """Says what it was made with, as an event and as its result."""

    def __init__(self, what: Any) -> None:
        super().__init__()
        self._what = what

    @step
    async def speak(self, ctx: Context, ev: StartEvent) -> StopEvent:
        said = Said(what=self._what)
        said["undeclared"] = self._what
        ctx.write_event_to_stream(said)
        return StopEvent(result=self._what)


def without_surrogates(text: str) -> str:
    """Return a text as UTF-8 can carry it."""
    return "".join(
        "\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text
    )


async def read_body(client: httpx.AsyncClient, **query: str) -> bytes:
    """Run the workflow, and return the bytes of its stream."""
    handler_id = (await run(client, "it"))["handler_id"]
    params = {"after_sequence": "-1", **query}
    return (await client.get(f"/events/{handler_id}", params=params)).content


@pytest.mark.parametrize("name", AWKWARD)
async def test_an_awkward_value_arrives_in_events_and_in_the_result(name: str) -> None:
    value, expected = AWKWARD[name]
    async with serve_workflow(Speaker(value)) as client:
        handler = await run(client, "it")
        frames = await read_frames(client, handler["handler_id"])
    assert handler["result"]["value"].get("result") == expected
    assert [frame.type for frame in frames] == ["Said", "StopEvent"]
    assert frames[0].value == {"what": expected, "_data": {"undeclared": expected}}


@pytest.mark.parametrize("name", AWKWARD)
async def test_an_sse_stream_has_no_line_that_is_no_field(name: str) -> None:
    async with serve_workflow(Speaker(AWKWARD[name][0])) as client:
        text = (await read_body(client)).decode()
    lines = text.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["id", "data", ""] * 2
    assert text.count("\n") == len(lines)


@pytest.mark.parametrize("name", AWKWARD)
async def test_an_ndjson_stream_has_one_line_an_event(name: str) -> None:
    async with serve_workflow(Speaker(AWKWARD[name][0])) as client:
        text = (await read_body(client, sse="false")).decode()
    assert [json.loads(line)["type"] for line in text.splitlines()] == ["Said", "StopEvent"]


@pytest.mark.parametrize("name", SURROGATES)
async def test_lone_surrogates_are_replaced(name: str) -> None:
    async with serve_workflow(Speaker(SURROGATES[name])) as client:
        handler = await run(client, "it")
        frames = await read_frames(client, handler["handler_id"])
        listed = (await client.get("/handlers")).json()["handlers"]
    text = json.dumps([frame.envelope for frame in frames], ensure_ascii=False)
    assert handler["status"] == "completed"
    assert without_surrogates(text) == text
    assert "\ufffd" in text
    assert listed == [handler]


async def test_the_text_around_a_lone_surrogate_stays() -> None:
    async with serve_workflow(Speaker("a\ud800b🙂")) as client:
        handler = await run(client, "it")
    assert handler["result"]["value"] == {"result": "a\ufffdb🙂"}
