"""The workflows that every subject runs: of the engine alone, with nothing of any server in it."""

import asyncio
import os
import time
from pathlib import Path

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

STEPS = 21
EVENTS = 100
PARTS = 100
LARGE_EVENTS = 16
KIB = 1024
GATE_PAUSE = 0.005  # seconds between two looks at a gate
BREATH = 100  # events after which a step lets others do something
BEAT_STEPS = 100  # steps between two beats of a march
HOLD = "WORKFLOW_BENCHMARK_HOLD"  # a variable: while it is set, a march does not end


class Step(Event):
    """The next step of a long run."""

    number: int


class Stride(Event):
    """The next step of a march, and how many there are."""

    number: int
    steps: int


class Token(Event):
    """A small event of a stream."""

    index: int
    text: str


class Part(Event):
    """One of many parts that are worked on at the same time."""

    index: int


class Done(Event):
    """What became of a part."""

    index: int


class Emission(Event):
    """An event that says when it was emitted, in seconds since the epoch."""

    index: int
    emitted: float


class BroadcastStart(StartEvent):
    """How many events a broadcast emits, how many seconds apart, once the file `gate` is there."""

    gate: str
    events: int
    pause: float = 0


class MarchStart(StartEvent):
    """How many steps a march takes."""

    steps: int


class OneStep(Workflow):
    """Ends with its first step."""

    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="done")


class ManySteps(Workflow):
    """Takes `STEPS` steps, one after the other."""

    @step
    async def begin(self, ev: StartEvent) -> Step:
        return Step(number=2)

    @step
    async def go_on(self, ev: Step) -> Step | StopEvent:
        if ev.number == STEPS:
            return StopEvent(result=ev.number)
        return Step(number=ev.number + 1)


class Stream(Workflow):
    """Writes `EVENTS` events to its stream, as fast as it can."""

    @step
    async def recite(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for index in range(EVENTS):
            ctx.write_event_to_stream(Token(index=index, text="some words of a model's answer"))
        return StopEvent(result=EVENTS)


class FanOut(Workflow):
    """Hands out `PARTS` parts, works on all of them at once, and joins what became of them."""

    @step
    async def scatter(self, ctx: Context, ev: StartEvent) -> Part | None:
        for index in range(PARTS):
            ctx.send_event(Part(index=index))
        return None

    @step(num_workers=PARTS)
    async def work(self, ev: Part) -> Done:
        return Done(index=ev.index)

    @step
    async def gather(self, ctx: Context, ev: Done) -> StopEvent | None:
        done = ctx.collect_events(ev, [Done] * PARTS)
        return StopEvent(result=sum(part.index for part in done)) if done else None


class Payload(Workflow):
    """Writes some events of some size to its stream, as fast as it can."""

    def __init__(self, *, events: int, size: int) -> None:
        super().__init__()
        self._count = events
        self._text = "x" * size

    @step
    async def recite(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for index in range(self._count):
            ctx.write_event_to_stream(Token(index=index, text=self._text))
        return StopEvent(result=self._count)


class Broadcast(Workflow):
    """Waits until its gate is open, and then writes events to its stream.

    The gate is a file, for not every server keeps hold of a run that waits for an event.
    """

    @step
    async def emit(self, ctx: Context, ev: BroadcastStart) -> StopEvent:
        ctx.write_event_to_stream(Emission(index=-1, emitted=time.time()))
        while not Path(ev.gate).exists():  # noqa: ASYNC110, ASYNC240  # looked at by no one else
            await asyncio.sleep(GATE_PAUSE)
        due = time.time()
        for index in range(ev.events):
            ctx.write_event_to_stream(Emission(index=index, emitted=time.time()))
            due += ev.pause
            if ev.pause:
                await asyncio.sleep(due - time.time())
            elif index % BREATH == 0:
                await asyncio.sleep(0)
        return StopEvent(result=ev.events)


class Question(Workflow):
    """Asks a person, and ends with the answer."""

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent()

    @step
    async def answer(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=ev.response)


class March(Workflow):
    """Takes many steps, one after the other, with a beat for every `BEAT_STEPS` of them."""

    @step
    async def begin(self, ev: MarchStart) -> Stride:
        return Stride(number=1, steps=ev.steps)

    @step
    async def go_on(self, ctx: Context, ev: Stride) -> Stride | StopEvent:
        if ev.number % BEAT_STEPS == 0:
            index = ev.number // BEAT_STEPS - 1
            ctx.write_event_to_stream(Emission(index=index, emitted=time.time()))
        if ev.number < ev.steps:
            return Stride(number=ev.number + 1, steps=ev.steps)
        if HOLD in os.environ:
            ctx.write_event_to_stream(Emission(index=ev.number, emitted=time.time()))
            await asyncio.Event().wait()
        return StopEvent(result=ev.steps)


one_step = OneStep()
many_steps = ManySteps()
stream = Stream()
fan_out = FanOut()
stream_1_kib = Payload(events=EVENTS, size=KIB)
stream_64_kib = Payload(events=LARGE_EVENTS, size=64 * KIB)
broadcast = Broadcast(timeout=None)
question = Question(timeout=None)
march = March(timeout=None)
