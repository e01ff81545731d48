"""A step that writes events and never waits is held to a bound, past which its run alone ends."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from workflows import Context, Workflow, step
from workflows.events import Event, InputRequiredEvent, StartEvent, StopEvent

from tests.support.calls import run, start, wait_ended
from tests.support.live import open_client
from tests.support.streams import read_frames
from tests.support.workflows import add_all
from workflow_server.app.engine.pace import TOO_MANY, TOO_MUCH, TooMuchAtOnce
from workflow_server.app.runs.journal import MAX_UNCOMMITTED_BYTES
from workflow_server.app.server import WorkflowServer

SIZE = 1_000  # bytes of an event, about
AT_ONCE = 3 * MAX_UNCOMMITTED_BYTES  # that a test may write, which takes it little time
SENT_AT_ONCE = 300
LARGE_TEXT = "x" * (MAX_UNCOMMITTED_BYTES + SIZE)  # after which a run has no room
MANY = 6  # events of that are more than may be written at once


class Line(Event):
    """An event of some size."""

    number: int
    text: str = "x" * SIZE


class Asked(InputRequiredEvent):
    """A question of some size."""

    number: int
    text: str = "x" * SIZE


class Part(Event):
    """What one of many steps takes."""

    number: int


class Taken(Part):
    """What it gives."""


class Writing(Workflow):
    """Writes so many events, or questions, without a wait."""

    @step
    async def write(self, ctx: Context, ev: StartEvent) -> StopEvent:
        kind = Asked if ev.get("asks") else Line
        for number in range(ev.count):
            ctx.write_event_to_stream(kind(number=number))
        return StopEvent(result="written")


class Stubborn(Workflow):
    """Goes on writing whatever it is told, and counts how often it is refused."""

    refused = 0

    @step
    async def write(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for number in range(ev.count):
            try:
                ctx.write_event_to_stream(Line(number=number))
            except TooMuchAtOnce:
                self.refused += 1
        return StopEvent(result="written")


class Sending(Workflow):
    """Sends so many events to its other step without a wait."""

    @step
    async def send(self, ctx: Context, ev: StartEvent) -> Line | None:
        for number in range(ev.count):
            ctx.send_event(Line(number=number))
        return None

    @step
    async def take(self, ev: Line) -> StopEvent | None:
        return StopEvent(result="sent") if ev.number == SENT_AT_ONCE - 1 else None


class Together(Workflow):
    """Has many steps and tasks that begin together, and each write one large event."""

    @step
    async def begin(self, ev: StartEvent) -> list[Part]:
        return [Part(number=number) for number in range(MANY)]

    @step(num_workers=MANY)
    async def write(self, ctx: Context, ev: Part) -> Taken:
        ctx.write_event_to_stream(Line(number=ev.number, text=LARGE_TEXT))
        return Taken(number=ev.number)

    @step
    async def gather(self, ctx: Context, ev: list[Taken]) -> StopEvent:
        async def write(number: int) -> None:
            ctx.write_event_to_stream(Line(number=number, text=LARGE_TEXT))

        await asyncio.gather(*(write(number) for number in range(MANY)))
        return StopEvent(result=len(ev))


@pytest.fixture
def stubborn() -> Stubborn:
    """Return the workflow that swallows what it is told."""
    return Stubborn()


@pytest.fixture
async def client(
    monkeypatch: pytest.MonkeyPatch, stubborn: Stubborn
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server whose steps may write a few thousand events at once."""
    monkeypatch.setattr("workflow_server.app.runs.journal.MAX_AT_ONCE_BYTES", AT_ONCE)
    monkeypatch.setattr("workflow_server.app.engine.shortcuts.MAX_SENT_AT_ONCE", SENT_AT_ONCE)
    server = WorkflowServer()
    add_all(server)
    server.add_workflow("writing", Writing())
    server.add_workflow("sending", Sending())
    server.add_workflow("together", Together())
    server.add_workflow("stubborn", stubborn)
    async with open_client(server) as client:
        yield client


async def test_a_step_may_write_more_than_the_run_may_have_uncommitted(
    client: httpx.AsyncClient,
) -> None:
    count = (AT_ONCE - MAX_UNCOMMITTED_BYTES) // (2 * SIZE)
    handler_id = await start(client, "writing", count=count)
    assert (await wait_ended(client, handler_id))["status"] == "completed"
    *lines, stop = await read_frames(client, handler_id)
    assert [line.value["number"] for line in lines] == list(range(count))
    assert stop.value == {"result": "written"}


async def test_what_steps_and_tasks_that_begin_together_write_is_not_written_by_one(
    client: httpx.AsyncClient,
) -> None:
    ended = await run(client, "together")
    assert (ended["error"], ended["result"]["value"]) == (None, {"result": MANY})


@pytest.mark.parametrize("asks", [False, True])
async def test_a_step_that_writes_too_much_at_once_ends_its_run_alone(
    client: httpx.AsyncClient, asks: bool
) -> None:
    other = await start(client, "asker")
    handler_id = await start(client, "writing", count=2 * AT_ONCE // SIZE, asks=asks)
    ended = await wait_ended(client, handler_id)
    assert (ended["status"], ended["error"]) == ("failed", TOO_MUCH)
    *lines, _ = await read_frames(client, handler_id)
    assert [line.value["number"] for line in lines] == list(range(len(lines)))
    assert (await client.get(f"/handlers/{other}")).json()["phase"] in ("working", "waiting")
    assert (await run(client, "echo"))["status"] == "completed"


async def test_a_step_that_is_refused_writes_nothing_more_whatever_it_does(
    client: httpx.AsyncClient, stubborn: Stubborn
) -> None:
    count = 2 * AT_ONCE // SIZE
    handler_id = await start(client, "stubborn", count=count)
    ended = await wait_ended(client, handler_id)
    assert (ended["status"], ended["error"]) == ("failed", TOO_MUCH)
    *lines, _ = await read_frames(client, handler_id)
    assert len(lines) + stubborn.refused == count


async def test_a_step_may_send_many_events_at_once(client: httpx.AsyncClient) -> None:
    ended = await run(client, "sending", count=SENT_AT_ONCE)
    assert ended["result"]["value"] == {"result": "sent"}


async def test_a_step_that_sends_too_many_events_at_once_ends_its_run_alone(
    client: httpx.AsyncClient,
) -> None:
    ended = await run(client, "sending", count=SENT_AT_ONCE + 1)
    assert (ended["status"], ended["error"]) == ("failed", TOO_MANY)
    assert (await run(client, "echo"))["status"] == "completed"
