"""Workflows of every kind for the tests; each is served under its key in `WORKFLOWS`."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, Field
from workflows import Context, Workflow, step
from workflows.collect import Collect
from workflows.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
)
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

from workflow_server.app.server import WorkflowServer


class Greet(StartEvent):
    name: str
    times: int = Field(default=1, le=1_000)  # more would be a text of gigabytes


class Greeting(StopEvent):
    text: str


class Greeter(Workflow):
    """Ends at once, with a typed stop event."""

    @step
    async def greet(self, ev: Greet) -> Greeting:
        return Greeting(text=" ".join([f"Hello, {ev.name}!"] * ev.times))


class Echo(Workflow):
    """Takes any fields and gives them back in a plain stop event."""

    @step
    async def echo(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=dict(ev.items()))


class Number(Event):
    number: int
    text: str = ""


class Thing(Event):
    thing: Any


class Count(StartEvent):
    count: int = 3
    padding: int = 0


class Counter(Workflow):
    """Writes numbers to the stream as fast as it can."""

    @step
    async def count(self, ctx: Context, ev: Count) -> StopEvent:
        for number in range(ev.count):
            ctx.write_event_to_stream(Number(number=number, text="x" * ev.padding))
            if number % 50 == 0:
                await asyncio.sleep(0)
        return StopEvent(result=ev.count)


class Question(InputRequiredEvent):
    prompt: str


class Answer(HumanResponseEvent):
    text: str


class Ask(StartEvent):
    questions: int = 1


class Asked(BaseModel):
    left: int = 0
    answers: list[str] = Field(default_factory=list)


class Asker(Workflow):
    """Asks one question after the other; steps return the questions and take the answers."""

    @step
    async def begin(self, ctx: Context[Asked], ev: Ask) -> Question:
        async with ctx.store.edit_state() as state:
            state.left = ev.questions
        return Question(prompt="1")

    @step
    async def take(self, ctx: Context[Asked], ev: Answer) -> Question | StopEvent:
        async with ctx.store.edit_state() as state:
            state.left -= 1
            state.answers.append(ev.text)
            if state.left:
                return Question(prompt=str(len(state.answers) + 1))
            return StopEvent(result=list(state.answers))


class Waiter(Workflow):
    """Asks and waits inside one step, with `ctx.wait_for_event`."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        first = await ctx.wait_for_event(
            Answer, waiter_event=Question(prompt="first"), waiter_id="first"
        )
        second = await ctx.wait_for_event(
            Answer, waiter_event=Question(prompt="second"), waiter_id="second"
        )
        return StopEvent(result=[first.text, second.text])


class Sleep(StartEvent):
    seconds: float = 3600.0


class Sleeper(Workflow):
    """Sleeps in a step, to be cancelled or to time out."""

    @step
    async def sleep(self, ctx: Context, ev: Sleep) -> StopEvent:
        ctx.write_event_to_stream(Number(number=0))
        await asyncio.sleep(ev.seconds)
        return StopEvent(result="slept")


class Failer(Workflow):
    """Fails in its step."""

    @step
    async def fail(self, ev: StartEvent) -> StopEvent:
        raise ValueError("this step always fails")


class Retrier(Workflow):
    """Fails for ever, with a long delay between the attempts."""

    @step(retry_policy=retry_policy(wait=wait_fixed(3600), stop=stop_after_attempt(5)))
    async def fail(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Number(number=ctx.retry_info().retry_number))
        raise ValueError("not yet")


class BadResult(Workflow):
    """Returns what JSON cannot carry."""

    @step
    async def end(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result={"deep": [object()]})


class BadEvent(Workflow):
    """Writes to the stream what JSON cannot carry, and would go on."""

    @step
    async def write(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Thing(thing=object()))
        await asyncio.sleep(3600)
        return StopEvent(result="never")


class Turns(BaseModel):
    count: int = 0


class Conversation(Workflow):
    """Counts its runs in its state."""

    @step
    async def turn(self, ctx: Context[Turns], ev: StartEvent) -> StopEvent:
        async with ctx.store.edit_state() as state:
            state.count += 1
            return StopEvent(result=state.count)


class Part(Event):
    number: int


class Squared(Event):
    number: int


class FanOut(Workflow):
    """Squares numbers in parallel and joins them."""

    @step
    async def split(self, ev: Count) -> list[Part]:
        return [Part(number=number) for number in range(ev.count)]

    @step(num_workers=4)
    async def square(self, ev: Part) -> Squared:
        return Squared(number=ev.number**2)

    @step
    async def join(self, evs: Annotated[list[Squared], Collect()]) -> StopEvent:
        return StopEvent(result=sorted(ev.number for ev in evs))


class Inner(Workflow):
    """Ends with a stop event that `Nested` passes on into its own stream."""

    @step
    async def run_inner(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="inner")


class Nested(Workflow):
    """Runs another workflow in its step, and shows its stop event in its own stream."""

    @step
    async def outer(self, ctx: Context, ev: StartEvent) -> StopEvent:
        handler = Inner().run()
        async for event in handler.stream_events():
            ctx.write_event_to_stream(event)
        ctx.write_event_to_stream(Number(number=7))
        return StopEvent(result=f"outer of {await handler}")


class Typed(StartEvent):
    """A start event with fields that envelopes have too."""

    type: str
    value: int = 0
    data: str = ""


class TypedEcho(Workflow):
    """Gives its odd fields back."""

    @step
    async def echo(self, ev: Typed) -> StopEvent:
        return StopEvent(result=[ev.type, ev.value, ev.data])


class Extra(Event):
    """Declared by no step; registered with `extra` as an additional event."""

    text: str = ""


class ExtraWaiter(Workflow):
    """Waits for an event that only `additional_events` declares."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        extra = await ctx.wait_for_event(Extra)
        return StopEvent(result=extra.text)


WORKFLOWS: dict[str, Callable[[], Workflow]] = {
    "greeter": Greeter,
    "echo": Echo,
    "counter": Counter,
    "asker": lambda: Asker(timeout=None),
    "waiter": lambda: Waiter(timeout=None),
    "sleeper": lambda: Sleeper(timeout=None),
    "impatient": lambda: Sleeper(timeout=0.05),
    "failer": Failer,
    "retrier": lambda: Retrier(timeout=None),
    "bad-result": BadResult,
    "bad-event": BadEvent,
    "conversation": Conversation,
    "fan-out": FanOut,
    "nested": Nested,
    "typed": TypedEcho,
    "one-at-a-time": lambda: Sleeper(timeout=None, num_concurrent_runs=1),
}


def add_all(server: WorkflowServer) -> None:
    """Register every test workflow with a server."""
    for name, make in WORKFLOWS.items():
        server.add_workflow(name, make())
    server.add_workflow("extra", ExtraWaiter(timeout=None), additional_events=[Extra])
