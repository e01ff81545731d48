"""Direct steps: they do what the engine's own way to execute a step does, observed or not.

Each workflow runs twice, with nobody who observes it and with somebody, for whom the engine
executes the steps: clients see the same events, results, failures and attempts, and the steps too.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import pytest
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.dispatcher import active_instrument_tags
from llama_index_instrumentation.event_handlers import BaseEventHandler
from workflows import Context, Workflow, step
from workflows.decorators import catch_error
from workflows.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StepFailedEvent,
    StopEvent,
)
from workflows.resource import Resource
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

from tests.support.live import serve_workflow
from tests.support.waiting import until

TIMES = (
    "started_at",
    "updated_at",
    "completed_at",
    "handler_id",
    "run_id",
    "elapsed_seconds",
    "sent_at",
)


class Observer(BaseEventHandler):
    """Keeps the names of what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self._told: list[str] = []

    @property
    def told(self) -> list[str]:
        return self._told

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self._told.append(event.class_name())


class Part(Event):
    number: int


class Done(Event):
    number: int


class Noting(Workflow):
    """Notes what its steps see."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: list[object] = []


class Tagged(Noting):
    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        tags = active_instrument_tags.get()
        self.seen.append({key: value for key, value in tags.items() if ".step." in key})
        self.seen.append(sorted(tags))
        return StopEvent(result=ev.get("word"))


class Chain(Noting):
    """Sends, emits and keeps state."""

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Part | None:
        for number in range(3):
            ctx.send_event(Part(number=number))
        return None

    @step(num_workers=2)
    async def work(self, ctx: Context, ev: Part) -> Done:
        await ctx.store.set(f"part {ev.number}", ev.number)
        ctx.write_event_to_stream(Event(number=ev.number))
        await asyncio.sleep(0)
        return Done(number=ev.number)

    @step
    async def join(self, ctx: Context, ev: Done) -> StopEvent | None:
        found = ctx.collect_events(ev, [Done] * 3)
        return None if found is None else StopEvent(result=len(found))


class FansOut(Noting):
    @step
    async def begin(self, ev: StartEvent) -> list[Part]:
        return [Part(number=1), Part(number=2)]

    @step
    async def work(self, ev: Part) -> Done:
        return Done(number=ev.number)

    @step
    async def join(self, ev: list[Done]) -> StopEvent:
        return StopEvent(result=sorted(done.number for done in ev))


class Joins(Noting):
    """Takes two events at once."""

    @step
    async def one(self, ev: StartEvent) -> Part:
        return Part(number=1)

    @step
    async def other(self, ev: StartEvent) -> Done:
        return Done(number=2)

    @step
    async def both(self, part: Part, done: Done) -> StopEvent:
        return StopEvent(result=[part.number, done.number])


class Retries(Noting):
    @step(retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(3)))
    async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
        attempt = ctx.retry_info().retry_number
        self.seen.append(attempt)
        if attempt < 2:
            raise ValueError(f"attempt {attempt}")
        return StopEvent(result=attempt)


class Fails(Noting):
    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        raise LookupError("nothing there")


class Recovers(Noting):
    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        raise LookupError("nothing there")

    @catch_error
    async def answer(self, ev: StepFailedEvent) -> StopEvent:
        return StopEvent(result=str(ev.exception))


class GivesText(Noting):
    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return "no event"  # type: ignore[return-value]  # which is the fault


class WritesNoEvent(Noting):
    @step
    async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream({"no": "event"})  # type: ignore[arg-type]  # which is the fault
        return StopEvent()


class CancelsItself(Noting):
    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        raise asyncio.CancelledError


class Threaded(Noting):
    @step
    def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="of a thread")


class Resourceful(Noting):
    @step
    async def only(self, ev: StartEvent, number: Annotated[int, Resource(lambda: 7)]) -> StopEvent:
        return StopEvent(result=number)


class Nested(Noting):
    @step
    async def only(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await Tagged().run(word="inner"))


class Asks(Noting):
    @step
    async def only(self, ctx: Context, ev: StartEvent) -> StopEvent:
        self.seen.append("asks")
        answer = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent())
        return StopEvent(result=answer.response)


KINDS = (
    Tagged,
    Chain,
    FansOut,
    Joins,
    Retries,
    Fails,
    Recovers,
    GivesText,
    WritesNoEvent,
    CancelsItself,
    Threaded,
    Resourceful,
    Nested,
    Asks,
)


@contextmanager
def observing(name: str) -> Iterator[Observer]:
    """Observe what one dispatcher, and those below it, tell."""
    dispatcher, observer = get_dispatcher(name), Observer()
    before = list(dispatcher.event_handlers)
    dispatcher.event_handlers = [*before, observer]
    try:
        yield observer
    finally:
        dispatcher.event_handlers = before


def forget_times(envelope: dict[str, Any]) -> dict[str, Any]:
    """Return an event without what is another in each run."""
    envelope["value"] = {k: v for k, v in envelope["value"].items() if k not in TIMES}
    return envelope


async def run(workflow: Noting) -> dict[str, Any]:
    """Run a workflow once, and return all that clients and its steps see of that."""
    async with serve_workflow(workflow) as client:
        started = await client.post(
            "/workflows/it/run-nowait", json={"handler_id": "h", "kwargs": {"word": "said"}}
        )
        assert started.status_code == 200
        if isinstance(workflow, Asks):

            async def waits() -> bool:
                return bool((await client.get("/handlers/h")).json()["questions"])

            await until(waits)
            event = {"type": "HumanResponseEvent", "value": {"response": "yes"}}
            await client.post("/events/h", json={"event": event})
        query = {"sse": "false", "include_internal": "true", "after_sequence": "-1"}
        lines = (await client.get("/events/h", params=query)).text.splitlines()
        steps = (await client.get("/handlers/h/steps")).json()["steps"]
        handler = (await client.get("/handlers/h")).json()
    return {
        "events": [forget_times(json.loads(line)) for line in lines],
        "attempts": [
            (each["step"], each["attempt"], each["error"] and each["error"]["message"])
            for each in steps
        ],
        "handler": {key: value for key, value in handler.items() if key not in TIMES},
        "seen": workflow.seen,
    }


@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_that_is_observed_does_what_one_that_is_not_does(
    kind: Callable[[], Noting],
) -> None:
    alone = await run(kind())
    with observing("root") as observer:
        watched = await run(kind())
    assert watched == alone
    assert observer.told != []


async def test_who_observes_what_steps_give_is_told_of_it() -> None:
    with observing("workflows.runtime.types.step_function") as observer:
        await run(Tagged())
    assert observer.told == ["step.output"]
