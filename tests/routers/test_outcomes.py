"""Every way in which a run can end: a status, a sentence, a terminal event, an answer."""

import asyncio
import sys
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, computed_field
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from tests.support.calls import run, start, wait_ended
from tests.support.live import serve_workflow
from tests.support.streams import read_frames

FAILED = "WorkflowFailedEvent"
TIMED_OUT = "WorkflowTimedOutEvent"

# The workflow, a part of the error's sentence, the class of the terminal event.
FAILURES = [
    ("failer", "this step always fails", FAILED),
    ("impatient", "timed out after 0.05 seconds", TIMED_OUT),
    ("bad-result", "result['deep'][0] (of class object)", FAILED),
    ("bad-event", ".thing (of class object)", FAILED),
]
failures = pytest.mark.parametrize(("workflow", "sentence", "terminal"), FAILURES)


@failures
async def test_a_failed_run_answers_500_with_a_sentence(
    client: httpx.AsyncClient, workflow: str, sentence: str, terminal: str
) -> None:
    response = await client.post(f"/workflows/{workflow}/run", json={})
    handler = response.json()
    assert (response.status_code, handler["status"]) == (500, "failed")
    assert sentence.lower() in handler["error"].lower()
    assert handler["result"] is None
    assert handler["completed_at"] is not None


@failures
async def test_the_stream_of_a_failed_run_ends_with_its_failure(
    client: httpx.AsyncClient, workflow: str, sentence: str, terminal: str
) -> None:
    handler_id = await start(client, workflow)
    live = await read_frames(client, handler_id)
    late = await read_frames(client, handler_id)
    types = [frame.type for frame in live]
    assert live == late
    assert types[-1] == terminal
    assert types.count(terminal) == 1


@failures
async def test_a_failed_run_that_nobody_waited_for_says_the_same(
    client: httpx.AsyncClient, workflow: str, sentence: str, terminal: str
) -> None:
    handler = await wait_ended(client, await start(client, workflow))
    assert handler["status"] == "failed"
    assert sentence.lower() in handler["error"].lower()


async def test_the_stream_of_a_completed_run_ends_with_its_result(
    client: httpx.AsyncClient,
) -> None:
    handler = await run(client, "greeter", name="Ada")
    frames = await read_frames(client, handler["handler_id"])
    assert frames[-1].envelope == handler["result"]


async def test_a_timed_out_run_says_in_its_last_event_which_steps_were_at_work(
    client: httpx.AsyncClient,
) -> None:
    handler = await run(client, "impatient")
    frames = await read_frames(client, handler["handler_id"])
    assert frames[-1].value == {"timeout": 0.05, "active_steps": ["sleep"]}


async def test_events_before_a_failure_stay_in_the_stream(client: httpx.AsyncClient) -> None:
    handler = await run(client, "impatient")
    frames = await read_frames(client, handler["handler_id"])
    assert [frame.type for frame in frames] == ["Number", TIMED_OUT]


class Unreadable(Exception):
    """An exception whose message cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError("no message")


class Handing(Event):
    what: Any = None


class Odd(Workflow):
    """Does in its step what it was made with."""

    def __init__(self, act: Any) -> None:
        super().__init__(timeout=None)
        self._act = act

    @step
    async def act(self, ctx: Context, ev: StartEvent) -> StopEvent:
        outcome: StopEvent = await self._act(ctx)
        return outcome


async def fail_unreadably(_ctx: Context) -> StopEvent:
    raise Unreadable


async def fail_with_surrogates(_ctx: Context) -> StopEvent:
    raise ValueError("a\ud800b\u2028")


async def fail_with_a_megabyte(_ctx: Context) -> StopEvent:
    raise ValueError("x" * 1_000_000)


async def return_no_event(_ctx: Context) -> Any:
    return 5


async def return_a_class(_ctx: Context) -> Any:
    return StopEvent


async def return_what_refers_to_itself(_ctx: Context) -> StopEvent:
    loop: list[Any] = []
    loop.append(loop)
    return StopEvent(result=loop)


async def return_bytes(_ctx: Context) -> StopEvent:
    return StopEvent(result={"raw": b"\xff"})


class Rate(BaseModel):
    """A model with a computed field that raises."""

    of: int = 0

    @computed_field  # type: ignore[prop-decorator]  # as pydantic takes it
    @property
    def rate(self) -> float:
        return 1 / self.of


@dataclass
class Unset:
    """A dataclass whose field may have no value."""

    size: int = field(init=False)


async def return_what_raises(_ctx: Context) -> StopEvent:
    return StopEvent(result=[1, Rate()])


async def return_what_has_no_value(_ctx: Context) -> StopEvent:
    return StopEvent(result=[Unset()])


class Unspeakable:
    """A key that raises wherever it is named."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


async def return_a_key_that_raises(_ctx: Context) -> StopEvent:
    return StopEvent(result={Unspeakable(): iter([1])})


async def return_a_key_that_is_no_text(_ctx: Context) -> StopEvent:
    return StopEvent(result={"rows": {object(): 1}})


async def write_what_raises(ctx: Context) -> StopEvent:
    ctx.write_event_to_stream(Handing(what={"a": Rate()}))
    return StopEvent()


async def cancel_itself(_ctx: Context) -> StopEvent:
    raise asyncio.CancelledError


async def leave(_ctx: Context) -> StopEvent:
    sys.exit(3)


ODD_FAILURES = [
    (cancel_itself, "CancelledError; nobody cancelled it"),
    (leave, "asked the process to end: SystemExit(3)"),
    (fail_unreadably, "(its message cannot be read)"),
    (fail_with_surrogates, "a?b\u2028"),
    (fail_with_a_megabyte, "x" * 1_000_000),
    (return_no_event, "Step function act returned int"),
    (return_a_class, "Step function act returned ModelMetaclass"),
    (return_what_refers_to_itself, ".result"),
    (return_bytes, ".result['raw'] (of class bytes)"),
    (return_what_raises, ".result[1] (of class Rate)"),
    (return_what_has_no_value, ".result[0] (of class Unset)"),
    (return_a_key_that_raises, "cannot be written"),
    (return_a_key_that_is_no_text, ".result['rows'], the key of class object"),
    (write_what_raises, ".what['a'] (of class Rate)"),
]


@pytest.mark.parametrize(("act", "sentence"), ODD_FAILURES)
async def test_an_odd_failure_ends_like_any_other(act: Any, sentence: str) -> None:
    async with serve_workflow(Odd(act)) as client:
        response = await client.post("/workflows/it/run", json={"handler_id": "h"})
        frames = await read_frames(client, "h")
        listed = (await client.get("/handlers")).json()["handlers"]
    assert (response.status_code, response.json()["status"]) == (500, "failed")
    assert sentence in response.json()["error"]
    assert frames[-1].type == FAILED
    assert listed == [response.json()]


class Hander(Workflow):
    """Hands from step to step what no store could keep."""

    @step
    async def give(self, ctx: Context, ev: StartEvent) -> Handing:
        await ctx.store.set("held", object())
        return Handing(what=object())

    @step
    async def take(self, ctx: Context, ev: Handing) -> StopEvent:
        held = await ctx.store.get("held")
        return StopEvent(result=[type(ev.what).__name__, type(held).__name__])


async def test_what_only_steps_hand_each_other_need_not_be_storable() -> None:
    async with serve_workflow(Hander()) as client:
        handler = await run(client, "it")
    assert handler["result"]["value"] == {"result": ["object", "object"]}


class Overlapping(Workflow):
    """Ends while another step still writes."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Handing | StopEvent:
        ctx.send_event(Handing())
        await asyncio.sleep(0)
        return StopEvent(result="first")

    @step
    async def linger(self, ctx: Context, ev: Handing) -> StopEvent:
        try:
            await asyncio.Event().wait()
        finally:
            ctx.write_event_to_stream(Handing(what="too late"))
        return StopEvent(result="second")


async def test_nothing_comes_after_the_terminal_event() -> None:
    async with serve_workflow(Overlapping(timeout=None)) as client:
        handler = await run(client, "it")
        frames = await read_frames(client, handler["handler_id"])
    assert [frame.type for frame in frames][-1] == "StopEvent"
    assert frames[-1].envelope == handler["result"]


class Unstoppable(Workflow):
    """Writes what cannot be written, and says when its step is stopped."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.stopped = asyncio.Event()

    @step
    async def act(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Handing(what=object()))
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped.set()
        return StopEvent()


async def test_the_step_that_wrote_what_cannot_be_written_is_stopped() -> None:
    workflow = Unstoppable()
    async with serve_workflow(workflow) as client:
        handler = await run(client, "it")
        async with asyncio.timeout(60):
            await workflow.stopped.wait()
    assert handler["status"] == "failed"
