"""A run that holds what would not come back stays in memory, says so, and fails after a crash."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BeforeValidator, field_serializer
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from tests.durability.restarts import Restarts, restarting
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import Json, result_of, send, start, wait_ended
from tests.support.inspection import is_in_memory
from tests.support.waiting import until
from tests.support.weighing import Weighing
from tests.values.unfaithful import Plain


class Ask(InputRequiredEvent):
    prefix: str = "Go on?"


class Reply(HumanResponseEvent):
    it: int = 0


class Carrier(Event):
    it: Any


class Same:
    """A requirement that any answer meets."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]  # as of any object that equals others


class InState(Workflow):
    key = "tally"

    @step
    async def put(self, ctx: Context, ev: StartEvent) -> Ask:
        await ctx.store.set(self.key, Plain(7))
        return Ask()

    @step
    async def tell(self, ctx: Context, ev: Reply) -> StopEvent:
        tally = await ctx.store.get(self.key)
        return StopEvent(result=tally.x)


class InMemoryKey(InState):
    key = "memory"


class Released(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> Ask:
        return Ask()

    @step
    async def end(self, ev: Reply) -> StopEvent:
        return StopEvent()


class InEvent(Workflow):
    @step
    async def put(self, ev: StartEvent) -> Carrier:
        return Carrier(it=[Plain(7)])

    @step
    async def tell(self, ctx: Context, ev: Carrier) -> StopEvent:
        await ctx.wait_for_event(Reply, waiter_event=Ask(), waiter_id="w", timeout=None)
        return StopEvent(result=ev.it[0].x)


class InWaiter(Workflow):
    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(
            Reply, waiter_event=Ask(), waiter_id="w", requirements={"it": Same()}, timeout=None
        )
        return StopEvent(result=7)


REASONS = {
    "state": "its state cannot be stored: DictState['tally']: Plain is no class",
    "memory": "its state cannot be stored: DictState['memory']: Plain is no class",
    "event": "what a step took or gave cannot be stored: Carrier.it[0]: Plain is no class",
    "waiter": "what a step took or gave cannot be stored: requirements['it']: Same is no class",
}
WORKFLOWS = {
    "state": InState(timeout=None),
    "memory": InMemoryKey(timeout=None),
    "event": InEvent(timeout=None),
    "waiter": InWaiter(timeout=None),
}


@pytest.fixture(params=FRESH_URLS)
async def restarts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Restarts]:
    """Yield a server over a store of each kind, which releases runs as soon as they wait."""
    async with (
        FRESH_URLS[request.param](tmp_path) as url,
        opened_store(url) as store,
        restarting(
            store, options={"idle_timeout": 0.0}, **WORKFLOWS, released=Released(timeout=None)
        ) as restarts,
    ):
        yield restarts


async def start_waiting(restarts: Restarts, workflow: str) -> tuple[str, Json]:
    """Start a run, and return its handler as it is when it waits."""
    handler_id = await start(restarts.client, workflow)
    handler: Json = {}

    async def waits() -> bool:
        handler.update((await restarts.client.get(f"/handlers/{handler_id}")).json())
        return bool(handler["phase"] == "waiting")

    await until(waits)
    return handler_id, handler


@pytest.mark.parametrize("workflow", WORKFLOWS)
async def test_it_says_so_and_is_answered_from_memory(restarts: Restarts, workflow: str) -> None:
    handler_id, handler = await start_waiting(restarts, workflow)
    assert handler["resumable"] is False
    assert handler["not_resumable_because"].startswith(REASONS[workflow])
    # Another run, of which nothing is kept back, is released meanwhile.
    other, _ = await start_waiting(restarts, "released")
    await until(lambda: not is_in_memory(restarts.server, other))
    assert is_in_memory(restarts.server, handler_id)
    await send(restarts.client, handler_id, "Reply", {})
    assert await result_of(restarts.client, handler_id) == 7


@pytest.mark.parametrize("workflow", WORKFLOWS)
async def test_it_fails_after_a_crash_with_that_sentence(restarts: Restarts, workflow: str) -> None:
    handler_id, handler = await start_waiting(restarts, workflow)
    await restarts.restart()
    ended = await wait_ended(restarts.client, handler_id)
    assert ended["status"] == "failed"
    assert ended["error"] == f"The run could not be resumed: {handler['not_resumable_because']}."


async def test_it_fails_after_a_crash_where_its_workflow_is_not_served(restarts: Restarts) -> None:
    handler_id, handler = await start_waiting(restarts, "state")
    await restarts.restart(released=Released(timeout=None))
    ended = await wait_ended(restarts.client, handler_id)
    assert ended["status"] == "failed"
    assert ended["error"] == f"The run could not be resumed: {handler['not_resumable_because']}."


class Round(Event):
    number: int
    text: str


class Rounds(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Round:
        await ctx.store.set("tally", Plain(7))
        return Round(number=1, text="")

    @step
    async def go_on(self, ev: Round) -> Round | StopEvent:
        if ev.number == 100:
            return StopEvent(result=7)
        return Round(number=ev.number + 1, text=f"{ev.number} " * 1_000)


class Weighed(Event):
    """An event whose field is of a class that does not come back, whatever it is made of."""

    it: Annotated[Any, BeforeValidator(lambda it: it if isinstance(it, Plain) else Plain(it))]

    @field_serializer("it")
    def write_it(self, it: Plain) -> int:
        return it.x


class WeighedStart(Weighed, StartEvent):
    pass


class RoundsFromStart(Rounds):
    @step
    async def begin(self, ev: WeighedStart) -> Round:  # type: ignore[override]  # another start
        return Round(number=1, text="")


@pytest.mark.parametrize("workflow", [Rounds, RoundsFromStart])
async def test_what_it_does_is_not_written_for_nothing(workflow: type[Workflow]) -> None:
    store = Weighing()
    async with restarting(store, it=workflow(timeout=None)) as restarts:
        handler_id = await start(restarts.client, "it", it=7)
        assert await result_of(restarts.client, handler_id) == 7
    assert store.written < 100_000


class Weigher(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> Weighed:
        return Weighed(it=7)

    @step
    async def weigh(self, ctx: Context, ev: Weighed) -> StopEvent:
        ctx.write_event_to_stream(Ask())
        await asyncio.Event().wait()
        return StopEvent()


async def test_it_says_so_where_what_its_context_holds_cannot_be_stored(
    restarts: Restarts,
) -> None:
    await restarts.restart(weigher=Weigher(timeout=None))
    elsewhere = Weigher(timeout=None).run()
    await anext(elsewhere.stream_events())
    context = elsewhere.ctx.to_dict()
    await elsewhere.cancel_run()
    await restarts.client.post(
        "/workflows/weigher/run-nowait", json={"context": context, "handler_id": "h"}
    )
    handler: Json = (await restarts.client.get("/handlers/h")).json()
    assert handler["resumable"] is False
    assert handler["not_resumable_because"] == "the context that it starts from cannot be stored"
