"""What is nested more deeply than JSON is read here."""

import asyncio
from typing import Any

import httpx
import pytest
from workflows import Context, Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.support.calls import run
from tests.support.live import serve_workflow
from tests.support.problems import problem_of
from tests.support.streams import read_frames
from tests.support.workflows import Thing


def nest(depth: int) -> Any:
    """Return lists in one another."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


class Deep(Workflow):
    """Writes or returns lists in one another."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> StopEvent:
        if ev.way == "return":
            return StopEvent(result=nest(ev.depth))
        ctx.write_event_to_stream(Thing(thing=nest(ev.depth)))
        await asyncio.sleep(ev.pause)
        return StopEvent(result="ended")


@pytest.mark.parametrize("way", ["write", "return"])
async def test_an_event_of_less_than_200_levels_is_shown(way: str) -> None:
    async with serve_workflow(Deep(timeout=None)) as client:
        handler = await run(client, "it", way=way, depth=197, pause=0)
        frames = await read_frames(client, handler["handler_id"])
        result = await client.get(f"/results/{handler['handler_id']}")
    shown = frames[0].value["thing"] if way == "write" else result.json()["result"]
    assert shown == nest(197)


@pytest.mark.parametrize(
    ("way", "error"),
    [
        ("write", "An event could not be written to the stream: Thing is nested too deeply."),
        ("return", "The result cannot be returned: StopEvent is nested too deeply."),
    ],
)
@pytest.mark.parametrize("depth", [201, 250])
async def test_an_event_of_more_levels_fails_the_run_and_can_be_read(
    way: str, error: str, depth: int
) -> None:
    async with serve_workflow(Deep(timeout=None)) as client:
        handler = await run(client, "it", way=way, depth=depth, pause=3600)
        results = await client.get(f"/results/{handler['handler_id']}")
    assert (handler["status"], handler["error"]) == ("failed", error)
    assert results.json()["error"] == error


@pytest.mark.parametrize("depth", [201, 5_000])
async def test_a_body_of_more_levels_is_malformed(client: httpx.AsyncClient, depth: int) -> None:
    body = b'{"start_event": {"value": %b}}' % (b"[" * (depth + 2) + b"]" * (depth + 2))
    assert problem_of(await client.post("/workflows/echo/run", content=body)) == (
        400,
        "malformed_request",
    )
