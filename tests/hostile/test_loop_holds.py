"""Bodies within the limits leave the event loop to others: what each turn of it takes is bounded.

Measured is the processor's time, without that of the collector of garbage, and against that of the
same machine for work that is known.
"""

import gc
import time
from asyncio.events import Handle
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from pydantic_core import from_json, to_json
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, StartEvent, StopEvent

from tests.support.bombs import HEAVY
from tests.support.calls import start_asker, wait_ended
from tests.support.live import open_client
from tests.support.waiting import DEADLINE
from tests.support.workflows import Question
from workflow_server.app.server import WorkflowServer

ALLOWED = 0.1  # seconds of a turn
RESERVE = 2
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
