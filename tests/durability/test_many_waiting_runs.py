"""Ten thousand runs that wait for somebody: no tasks, one timer, and next to no memory.

With a thousand beside them that are at work the server starts, and answers meanwhile.
"""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from tests.durability.restarts import Restarts, restarting
from tests.support.backends import opened_store
from tests.support.calls import result_of, send, start
from tests.support.inspection import count_in_memory, count_tasks, is_claiming, is_evicted, key_of
from tests.support.waiting import until
from workflow_server.schemas.records import Batch
from workflow_server.stores.base import Store
from workflow_server.stores.memory import MemoryStore

MANY = 10_000
AT_WORK = 1_000
FEWEST_ANSWERS = 10  # of each kind, while a thousand runs are resumed
BACK_AT_ONCE = 200
WATCHED = 1.0  # seconds
MOST_SECONDS = 20  # of which one must be quiet
CHANCE = 2  # timers, and turns of the loop: of connections and of the watchdog, which come and go
BYTES_A_RUN = 512  # its place among what is due


class Ask(InputRequiredEvent):
    pass


class Reply(HumanResponseEvent):
    text: str


class Untimed(Workflow):
    """Waits for a reply for ever."""

    @step
    async def ask(self, ev: StartEvent) -> Ask:
        return Ask()

    @step
    async def take(self, ev: Reply) -> StopEvent:
        return StopEvent(result=ev.text)


class Timed(Workflow):
    """Waits for a reply for a day."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        reply = await ctx.wait_for_event(Reply, waiter_event=Ask(), timeout=86_400)
        return StopEvent(result=reply.text)


class Gated(Workflow):
    """Goes on when it is let."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.opened = asyncio.Event()

    @step
    async def wait(self, ev: StartEvent) -> StopEvent:
        await self.opened.wait()
        return StopEvent(result="went on")


WORKFLOWS: dict[str, Workflow] = {"untimed": Untimed(timeout=None), "timed": Timed(timeout=None)}


@dataclass(frozen=True)
class Cost:
    """What a server has and does while nothing happens."""

    tasks: int
    timers: int
    turns: int
    memory: int


@asynccontextmanager
async def tracing() -> AsyncIterator[None]:
    """Count the memory that is taken during the block."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


async def measure(restarts: Restarts, monkeypatch: pytest.MonkeyPatch) -> Cost:
    """Return what a server has that has just been asked for something, and does in a second."""
    loop = cast("Any", asyncio.get_running_loop())
    assert (await restarts.client.get("/health")).status_code == 200
    gc.collect()
    memory, _ = tracemalloc.get_traced_memory()
    turns = 0
    select = loop._selector.select

    def count(timeout: float | None) -> Any:
        nonlocal turns
        turns += 1
        return select(timeout)

    with monkeypatch.context() as patch:
        patch.setattr(loop._selector, "select", count)
        await asyncio.sleep(WATCHED)
    await asyncio.sleep(0)  # whoever woke up just now has set its timer again
    timers = [timer for timer in loop._scheduled if not timer.cancelled()]
    return Cost(count_tasks(), len(timers), turns, memory)


async def measure_quiet(restarts: Restarts, monkeypatch: pytest.MonkeyPatch, one: Cost) -> Cost:
    """Return the cost of a second as quiet as that of one run, or of the last one of many.

    What was begun before may still be at work where the machine is busy.
    """
    cost = await measure(restarts, monkeypatch)
    for _ in range(MOST_SECONDS):
        if cost.tasks == one.tasks and cost.turns <= one.turns + CHANCE:
            break
        cost = await measure(restarts, monkeypatch)
    return cost


async def start_over(restarts: Restarts) -> None:
    """Start a server again, and return when it has gone through all unfinished runs."""
    await restarts.restart()
    await until(lambda: not is_claiming())


async def multiply(store: Store, handler_id: str, *, first: int = 0, count: int = MANY) -> None:
    """Put copies of a handler's run into the store, as if each had been started."""
    record = await store.get_handler(key_of(handler_id))
    assert record is not None
    snapshot = await store.get_snapshot(record.run_id)
    events = await store.read_events(record.run_id, after=-1, limit=100)
    ticks = (await store.read_ticks(record.run_id, after=-1, limit=100)).ticks
    batch = Batch()
    for number in range(first, first + count):
        run_id = f"run-{number}"
        batch.runs[run_id] = replace(record, run_id=run_id, handler_id=name_of(number))
        batch.events += [replace(event, run_id=run_id) for event in events]
        batch.ticks += [replace(tick, run_id=run_id) for tick in ticks]
        if snapshot is not None:
            batch.snapshots[run_id] = replace(snapshot, run_id=run_id)
    await store.commit(batch)


def name_of(number: int) -> str:
    """Return the id of one of the many handlers."""
    return f"handler-{number}"


@pytest.mark.parametrize("workflow", WORKFLOWS)
async def test_ten_thousand_runs_that_wait_cost_no_more_than_one_but_for_a_little_memory(
    workflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    async with restarting(store, options={"idle_timeout": 0.0}, **WORKFLOWS) as restarts:
        handler_id = await start(restarts.client, workflow)
        await until(lambda: is_evicted(restarts.server, handler_id))
        async with tracing():
            await start_over(restarts)
            one = await measure(restarts, monkeypatch)
        await multiply(store, handler_id)
        async with tracing():
            await start_over(restarts)
            many = await measure_quiet(restarts, monkeypatch, one)
        assert many.tasks == one.tasks
        assert many.timers <= one.timers + CHANCE
        assert many.turns <= one.turns + CHANCE
        assert many.memory - one.memory < MANY * BYTES_A_RUN
        for _ in range(2):
            await bring_back_some(restarts)
        after = await measure_quiet(restarts, monkeypatch, one)
        assert after.tasks == one.tasks
        assert after.timers <= one.timers + CHANCE
        assert after.turns <= one.turns + CHANCE
        reply = await send(restarts.client, name_of(MANY - 1), "Reply", {"text": "yes"})
        assert reply.status_code == 200
        assert await result_of(restarts.client, name_of(MANY - 1)) == "yes"


async def bring_back_some(restarts: Restarts) -> None:
    """Bring runs back with an event that they refuse, and return when they have left again."""
    for number in range(BACK_AT_ONCE):
        refused = await send(restarts.client, name_of(number), "Nonsense", {})
        assert refused.status_code == 400
    await until(lambda: not count_in_memory(restarts.server))


async def test_a_server_that_starts_with_many_runs_answers_meanwhile_and_lets_them_go_on(
    tmp_path: Path,
) -> None:
    gated = Gated()
    async with (
        opened_store(f"sqlite:///{tmp_path / 'runs.db'}") as store,
        restarting(
            store, options={"idle_timeout": 0.0}, untimed=Untimed(timeout=None), gated=gated
        ) as restarts,
    ):
        waiting = await start(restarts.client, "untimed")
        await until(lambda: is_evicted(restarts.server, waiting))
        working = await start(restarts.client, "gated")
        await multiply(store, waiting)
        await multiply(store, working, first=MANY, count=AT_WORK)
        await restarts.restart()
        answers = await answer_while_resuming(restarts)
        gated.opened.set()
        await until(lambda: has_completed(restarts, AT_WORK), within=300)
        assert answers > FEWEST_ANSWERS


async def has_completed(restarts: Restarts, count: int) -> bool:
    """Return whether so many of the runs that were at work have completed, or more."""
    params: dict[str, str | int] = {
        "workflow_name": "gated",
        "status": "completed",
        "limit": count,
    }
    listed = (await restarts.client.get("/handlers", params=params)).json()["handlers"]
    return len(listed) == count


async def answer_while_resuming(restarts: Restarts) -> int:
    """Return how many requests of each kind were answered until all runs were resumed."""
    answers = 0
    while is_claiming():
        # On a busy machine the store may need longer than health waits for it.
        assert (await restarts.client.get("/livez")).status_code == 200
        waiting = (await restarts.client.get(f"/handlers/{name_of(MANY - 1)}")).json()
        assert waiting["status"] == "running"
        answers += 1
    return answers
