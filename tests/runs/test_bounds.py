"""A run that has much uncommitted waits, whatever it is that it has; and nobody else does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent

from tests.support.calls import result_of, run, send, start, wait_begun
from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.stores import ScriptedStore
from tests.support.waiting import until
from tests.support.workflows import add_all
from workflow_server.app.runs.journal import MAX_UNCOMMITTED_BYTES
from workflow_server.app.server import WorkflowServer

UNIT = 200_000  # bytes that a step gives, keeps or writes at once
ROUNDS = 60
BOUND = (
    MAX_UNCOMMITTED_BYTES + 4 * UNIT
)  # what a unit holds beside: the event, its tick, the record


class Ball(Event):
    """An event that goes to and fro."""

    number: int
    text: str = ""


class Ping(Ball):
    """One way."""


class Pong(Ball):
    """The other way."""


class Passing(Workflow):
    """Two steps that pass large events, each a new one, to each other."""

    @step
    async def begin(self, ev: StartEvent) -> Ping:
        return Ping(number=0)

    @step
    async def ping(self, ev: Ping) -> Pong | StopEvent:
        if ev.number >= ROUNDS:
            return StopEvent(result="passed")
        return Pong(number=ev.number + 1, text=text_of(ev.number))

    @step
    async def pong(self, ev: Pong) -> Ping:
        return Ping(number=ev.number + 1, text=text_of(ev.number))


class Keeping(Workflow):
    """Steps that each leave a large state."""

    @step
    async def keep(self, ctx: Context, ev: StartEvent | Ping) -> Ping | StopEvent:
        number = ev.number if isinstance(ev, Ping) else 0
        await ctx.store.set("kept", text_of(number))
        return Ping(number=number + 1) if number < ROUNDS else StopEvent(result="passed")


class Writing(Workflow):
    """A step that writes large events, and waits for nothing that the engine knows of."""

    @step
    async def write(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for number in range(ROUNDS):
            ctx.write_event_to_stream(Ping(number=number, text=text_of(number)))
            await asyncio.sleep(0)
        return StopEvent(result="passed")


class Gathering(Workflow):
    """A step whose tasks write large events."""

    @step
    async def write(self, ctx: Context, ev: StartEvent) -> StopEvent:
        async with asyncio.TaskGroup() as tasks:
            for first in range(2):
                tasks.create_task(self.write_some(ctx, first))
        return StopEvent(result="passed")

    async def write_some(self, ctx: Context, first: int) -> None:
        """Write half of the events."""
        for number in range(first, ROUNDS, 2):
            ctx.write_event_to_stream(Ping(number=number, text=text_of(number)))
            await asyncio.sleep(0)


class Sending(Workflow):
    """A step that sends many events at once, and takes them one after the other."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Ping | None:
        for number in range(ROUNDS):
            ctx.send_event(Ping(number=number, text=text_of(number)))
        await asyncio.sleep(3600)
        return None

    @step
    async def take(self, ctx: Context, ev: Ping) -> StopEvent | None:
        return StopEvent(result="passed") if ev.number == ROUNDS - 1 else None


class Sent(HumanResponseEvent):
    """An event from outside."""

    number: int
    text: str = ""


class Enough(HumanResponseEvent):
    """The last event from outside."""


class Taking(Workflow):
    """Takes large events from outside until another one comes, and returns their numbers."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> None:
        ctx.write_event_to_stream(Ball(number=0))

    @step
    async def take(self, ctx: Context, ev: Sent) -> None:
        await ctx.store.set("taken", [*await ctx.store.get("taken", []), ev.number])

    @step
    async def end(self, ctx: Context, ev: Enough) -> StopEvent:
        return StopEvent(result=await ctx.store.get("taken"))


def text_of(number: int) -> str:
    """Return a large text that no other number has."""
    return f"{number:08}" * (UNIT // 8)


WORKFLOWS: dict[str, Callable[[], Workflow]] = {
    "passing": lambda: Passing(timeout=None),
    "keeping": lambda: Keeping(timeout=None),
    "writing": lambda: Writing(timeout=None),
    "gathering": lambda: Gathering(timeout=None),
    "sending": lambda: Sending(timeout=None),
}


@pytest.fixture
def store() -> ScriptedStore:
    """Return the store of the server."""
    return ScriptedStore()


@asynccontextmanager
async def serving_all(
    store: ScriptedStore,
) -> AsyncIterator[tuple[WorkflowServer, httpx.AsyncClient]]:
    """Yield a server of all these workflows, and a client of it."""
    server = WorkflowServer(workflow_store=store, persistence_backoff=())
    add_all(server)
    server.add_workflow("taking", Taking(timeout=None))
    for name, make in WORKFLOWS.items():
        server.add_workflow(name, make())
    async with open_client(server) as client:
        yield server, client


async def settled(measure: Callable[[], Awaitable[int]]) -> int:
    """Return a measure as soon as it does not change while the event loop turns many times."""
    last, same = await measure(), 0
    while same < 50:
        await asyncio.sleep(0.002)
        now = await measure()
        last, same = now, same + 1 if now == last else 0
    return last


@pytest.mark.parametrize("name", WORKFLOWS)
async def test_a_run_past_its_bound_waits_for_the_store(store: ScriptedStore, name: str) -> None:
    async with serving_all(store) as (server, client):
        store.open.clear()
        tries = store.tries
        starting = asyncio.create_task(run(client, name, handler_id="h"))
        await until(lambda: store.tries > tries)

        async def uncommitted() -> int:
            return server.lifecycle.live.uncommitted_bytes

        held = await settled(uncommitted)
        store.open.set()
        handler = await starting
    assert MAX_UNCOMMITTED_BYTES < held < BOUND
    assert (handler["status"], handler["result"]["value"]) == ("completed", {"result": "passed"})


async def test_others_are_answered_while_a_run_waits_for_the_store(store: ScriptedStore) -> None:
    async with serving_all(store) as (server, client):
        store.open.clear()
        tries = store.tries
        large = asyncio.create_task(run(client, "passing"))
        await until(lambda: store.tries > tries)

        async def uncommitted() -> int:
            return server.lifecycle.live.uncommitted_bytes

        held = await settled(uncommitted)
        quick = asyncio.create_task(run(client, "echo"))
        await until(lambda: server.lifecycle.live.uncommitted_bytes > held)
        commits = len(store.commits)
        store.open.set()
        answered = await quick
        behind = len(store.commits) - commits
        passed = await large
    assert (answered["status"], passed["status"]) == ("completed", "completed")
    assert behind <= 3  # the one that was under way, the quick run's, and one while it is answered


@pytest.mark.parametrize(
    ("name", "bound"), [("MAX_COMING_BYTES", 4 * UNIT), ("MAX_COMING_BYTES", 1), ("MAX_COMING", 4)]
)
async def test_events_that_a_run_does_not_take_are_refused_past_a_bound(
    store: ScriptedStore, monkeypatch: pytest.MonkeyPatch, name: str, bound: int
) -> None:
    monkeypatch.setattr(f"workflow_server.app.runs.answers.{name}", bound)
    async with serving_all(store) as (_, client):
        handler_id = await start(client, "taking")
        await wait_begun(client, handler_id)
        store.open.clear()
        sending = [
            asyncio.create_task(
                send(client, handler_id, "Sent", {"number": number, "text": text_of(number)})
            )
            for number in range(ROUNDS)
        ]
        await until(lambda: any(task.done() for task in sending))
        store.open.set()
        answers = await asyncio.gather(*sending)
        await send(client, handler_id, "Enough", {})
        taken = await result_of(client, handler_id)
    refused = [number for number, answer in enumerate(answers) if answer.status_code != 200]
    problems = {problem_of(answers[number]) for number in refused}
    assert problems == {(429, "too_many_events")}
    assert taken  # one is always taken, however large
    assert sorted([*taken, *refused]) == list(range(ROUNDS))
