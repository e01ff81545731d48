"""While what a run holds is encoded in a thread, its steps wait, and nobody else does."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent

from tests.support.calls import run, send, start, wait_ended, wait_phase
from tests.support.live import open_client
from tests.support.stores import ScriptedStore
from tests.support.waiting import DEADLINE, until
from tests.support.workflows import add_all
from workflow_server.app.engine.values.registry import register_type
from workflow_server.app.runs.journal import MAX_UNCOMMITTED_BYTES
from workflow_server.app.server import WorkflowServer

TURNS = 100  # of the event loop
MANY = 10_000  # items that are heavy


@dataclass
class Gate:
    """A value at which a thread that encodes it is held up."""

    name: str


class Gates:
    """The gate of a test: whether a thread is at it, and whether it may pass."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def pass_through(self, gate: Gate) -> str:
        """Return what is stored of a gate, as soon as it is open."""
        if threading.current_thread() is not threading.main_thread():
            self.reached.set()
            assert self.open.wait(DEADLINE)
        return gate.name


GATES = Gates()
register_type(Gate, lambda gate: GATES.pass_through(gate), Gate)


class Heavy(Event):
    """An event that is encoded in a thread, and holds that up."""

    parts: Any


class Light(Event):
    """The event of the step beside it."""


class Written(Event):
    """An event of some size, in the stream."""

    text: str


class Changing(Workflow):
    """Hands on a heavy event, while a step beside it changes what is in it."""

    changes = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Heavy | Light:
        items: list[Any] = [*range(MANY), Gate("gate"), 0]
        self._items = items
        ctx.send_event(Light())
        await self.may_go_on.wait()
        ctx.write_event_to_stream(Written(text="x" * ev.get("size", 0)))
        return Heavy(parts=items)

    @step
    async def change(self, ev: Light) -> None:
        while not GATES.open.is_set():
            await asyncio.sleep(0)
            self._items[-1] = self.changes = self.changes + 1

    @step
    async def take(self, ctx: Context, ev: Heavy) -> StopEvent:
        await ctx.wait_for_event(HumanResponseEvent, timeout=None)
        return StopEvent(result=ev.parts[-1])


class Sharing(Workflow):
    """Keeps, and hands on, a value that other runs change."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.shared = {"parts": [*range(MANY)], "gate": Gate("gate"), "last": 0}

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Heavy | StopEvent:
        if name := ev.get("adds"):
            self.shared[name] = 0
            return StopEvent()
        if ev.get("keeps"):
            await ctx.store.set("shared", self.shared)
            return Heavy(parts=[])
        return Heavy(parts=self.shared)

    @step
    async def take(self, ctx: Context, ev: Heavy) -> StopEvent:
        await ctx.wait_for_event(HumanResponseEvent, timeout=None)
        return StopEvent()


@pytest.fixture(autouse=True)
def gates() -> Iterator[Gates]:
    """Close the gate, and open it at the end, whatever becomes of the test."""
    global GATES  # what is registered is so for the process
    GATES = Gates()
    yield GATES
    GATES.open.set()


@pytest.fixture
def changing() -> Changing:
    """Return the workflow whose step changes a value."""
    return Changing(timeout=None)


@pytest.fixture
def store() -> ScriptedStore:
    """Return the store of the server."""
    return ScriptedStore()


@pytest.fixture
async def client(changing: Changing, store: ScriptedStore) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server of it."""
    server = WorkflowServer(workflow_store=store)
    add_all(server)
    server.add_workflow("changing", changing)
    server.add_workflow("sharing", Sharing(timeout=None))
    async with open_client(server) as client:
        yield client


async def test_steps_of_a_run_wait_while_what_they_could_change_is_encoded(
    client: httpx.AsyncClient, changing: Changing, gates: Gates
) -> None:
    handler_id = await start(client, "changing")
    await until(gates.reached.is_set)
    before = changing.changes
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert changing.changes <= before + 1
    gates.open.set()
    await wait_phase(client, handler_id, "waiting")
    await send(client, handler_id, "HumanResponseEvent", {})
    assert (await wait_ended(client, handler_id))["status"] == "completed"


async def test_steps_that_waited_for_the_store_before_wait_on_while_their_run_is_encoded(
    client: httpx.AsyncClient, changing: Changing, store: ScriptedStore, gates: Gates
) -> None:
    changing.may_go_on.clear()
    handler_id = await start(client, "changing", size=2 * MAX_UNCOMMITTED_BYTES)
    await until(lambda: changing.changes > 0)
    store.open.clear()
    changing.may_go_on.set()
    await until(gates.reached.is_set)
    changes, commits = changing.changes, len(store.commits)
    store.open.set()
    await until(lambda: len(store.commits) > commits)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert changing.changes == changes
    gates.open.set()
    await wait_phase(client, handler_id, "waiting")


async def test_other_runs_go_on_while_a_run_is_encoded(
    client: httpx.AsyncClient, gates: Gates
) -> None:
    await start(client, "changing")
    await until(gates.reached.is_set)
    assert (await run(client, "echo"))["status"] == "completed"
    assert not gates.open.is_set()


@pytest.mark.parametrize("keeps", [False, True])
async def test_a_run_can_be_resumed_though_another_changed_what_was_encoded(
    client: httpx.AsyncClient, gates: Gates, *, keeps: bool
) -> None:
    handler_id = await start(client, "sharing", keeps=keeps)
    await until(gates.reached.is_set)
    assert (await run(client, "sharing", adds="new"))["status"] == "completed"
    gates.open.set()
    await wait_phase(client, handler_id, "waiting")
    assert (await client.get(f"/handlers/{handler_id}")).json()["not_resumable_because"] is None


async def test_a_run_that_is_cancelled_while_it_is_encoded_ends_as_cancelled(
    client: httpx.AsyncClient, gates: Gates
) -> None:
    handler_id = await start(client, "changing")
    await until(gates.reached.is_set)
    cancelling = asyncio.create_task(client.post(f"/handlers/{handler_id}/cancel"))
    assert (await run(client, "echo"))["status"] == "completed"
    gates.open.set()
    assert (await cancelling).json() == {"status": "cancelled"}
    assert (await wait_ended(client, handler_id))["status"] == "cancelled"
