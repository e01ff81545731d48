"""Bodies within the limits leave the event loop to others: what each turn of it takes is bounded.

Measured is the processor's time, without that of the collector of garbage, and against that of the
same machine for work that is known.
"""

import asyncio
import gc
import json
import time
from asyncio.events import Handle
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic_core import from_json, to_json
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent

from tests.support.bombs import HEAVY
from tests.support.calls import send, start, start_asker, wait_ended
from tests.support.inspection import is_evicted
from tests.support.live import open_client
from tests.support.waiting import DEADLINE, until
from tests.support.workflows import Question
from workflow_server.app.server import WorkflowServer
from workflow_server.stores.backends import open_store

ALLOWED = 0.1  # seconds of a turn
RESERVE = 2
ROWS = 40_000
WRITTEN_IN_CONTEXTS = {
    name: HEAVY[name] for name in ("members of arrays", "marks of the codec", "depth", "texts")
}
KNOWN = HEAVY["members of arrays"]
KNOWN_TAKES = 0.16  # seconds, where the bound is to hold


class Taker(Workflow):
    """Takes anything, and gives nothing of it back."""

    @step
    async def take(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="taken")


class Asker(Workflow):
    """Asks, and takes any answer."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> Question:
        return Question(prompt="What?")

    @step
    async def take(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result="taken")


class Rows(Event):
    """A large event."""

    rows: list[dict[str, Any]]


class Table(Workflow):
    """Hands on a large event, keeps it in its state, waits with it, and gives it back."""

    @step
    async def make(self, ctx: Context, ev: StartEvent) -> Rows:
        # The values that a step makes itself are its own matter.
        rows = await asyncio.to_thread(make_rows, ev.count)
        return Rows(rows=rows)

    @step
    async def keep(self, ctx: Context, ev: Rows) -> StopEvent:
        await ctx.wait_for_event(HumanResponseEvent, timeout=None)
        await ctx.store.set("rows", ev.rows)
        return StopEvent(result=ev.rows)


def make_rows(count: int) -> list[dict[str, Any]]:
    """Return so many rows of a table."""
    return [{"id": i, "name": f"row {i}", "value": i / 4, "ok": True} for i in range(count)]


class Holds:
    """The longest turn of the event loop, in seconds of the processor's time."""

    def __init__(self) -> None:
        self.longest = 0.0


@pytest.fixture
def holds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Holds]:
    """Watch the turns of the event loop."""
    run, holds = Handle._run, Holds()

    def watch(handle: Handle) -> None:
        began = time.thread_time()
        run(handle)
        holds.longest = max(holds.longest, time.thread_time() - began)

    gc.collect()
    gc.disable()
    monkeypatch.setattr(Handle, "_run", watch)
    yield holds
    gc.enable()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server with the limits that it has by default."""
    server = WorkflowServer()
    server.add_workflow("taker", Taker())
    server.add_workflow("asker", Asker())
    async with open_client(server) as client:
        yield client


@asynccontextmanager
async def serving_tables(
    folder: Path, **options: Any
) -> AsyncIterator[tuple[WorkflowServer, httpx.AsyncClient]]:
    """Yield a server that has its runs in a file, and a client of it."""
    store = open_store(f"sqlite:///{folder}/runs.db")
    server = WorkflowServer(workflow_store=store, **options)
    server.add_workflow("table", Table(timeout=3600))
    async with open_client(server) as client:
        yield server, client


def find_bound() -> float:
    """Return the seconds that a turn may take, on a machine as slow as this one is now."""
    began = time.thread_time()
    for _ in range(3):
        to_json(from_json(KNOWN))
    slowness = (time.thread_time() - began) / KNOWN_TAKES
    return ALLOWED * RESERVE * max(1.0, slowness)


@pytest.mark.parametrize("body", HEAVY.values(), ids=HEAVY)
async def test_a_start_within_the_limits_keeps_no_turn_of_the_loop_for_long(
    client: httpx.AsyncClient, holds: Holds, body: str
) -> None:
    content = f'{{"start_event":{{"x":{body}}}}}'.encode()
    bound, holds.longest = find_bound(), 0.0
    response = await client.post("/workflows/taker/run", content=content, timeout=DEADLINE)
    assert response.json()["result"]["value"]["result"] == "taken"
    assert holds.longest < max(bound, find_bound())


@pytest.mark.parametrize("body", HEAVY.values(), ids=HEAVY)
async def test_an_event_within_the_limits_keeps_no_turn_of_the_loop_for_long(
    client: httpx.AsyncClient, holds: Holds, body: str
) -> None:
    handler_id = await start_asker(client)
    content = f'{{"event":{{"type":"HumanResponseEvent","value":{{"x":{body}}}}}}}'.encode()
    bound, holds.longest = find_bound(), 0.0
    await client.post(f"/events/{handler_id}", content=content, timeout=DEADLINE)
    assert (await wait_ended(client, handler_id))["result"]["value"]["result"] == "taken"
    assert holds.longest < max(bound, find_bound())


@pytest.mark.parametrize("body", WRITTEN_IN_CONTEXTS.values(), ids=WRITTEN_IN_CONTEXTS)
async def test_a_context_within_the_limits_keeps_no_turn_of_the_loop_for_long(
    client: httpx.AsyncClient, holds: Holds, body: str
) -> None:
    context = Context(Taker()).to_dict()
    context["state"] = {
        "state_type": "DictState",
        "state_module": "workflows.context.state_store",
        "state_data": {"_data": {"x": body}},
    }
    content = json.dumps({"context": context, "handler_id": "h"}).encode()
    bound, holds.longest = find_bound(), 0.0
    response = await client.post("/workflows/taker/run", content=content, timeout=DEADLINE)
    assert response.json()["result"]["value"]["result"] == "taken"
    assert holds.longest < max(bound, find_bound())
    # And what the run has left is where the next one starts from.
    response = await client.post("/workflows/taker/run", json={"handler_id": "h"}, timeout=DEADLINE)
    assert response.json()["result"]["value"]["result"] == "taken"
    assert holds.longest < max(bound, find_bound())


async def test_what_a_run_holds_keeps_no_turn_of_the_loop_for_long(
    tmp_path: Path, holds: Holds
) -> None:
    """It is handed on, written down whole, read back after a restart, and given back."""
    async with serving_tables(tmp_path, idle_timeout=0.05) as (server, client):
        bound, holds.longest = find_bound(), 0.0
        handler_id = await start(client, "table", count=ROWS)
        await until(lambda: is_evicted(server, handler_id))
        assert holds.longest < max(bound, find_bound())
    async with serving_tables(tmp_path) as (_, client):
        bound, holds.longest = find_bound(), 0.0
        assert (await send(client, handler_id, "HumanResponseEvent", {})).status_code == 200
        ended = await wait_ended(client, handler_id)
        assert holds.longest < max(bound, find_bound())
    assert ended["result"]["value"]["result"] == make_rows(ROWS)
