"""The workflows that every subject runs: of the engine alone, with nothing of any server in it."""

import asyncio
import os
import time
from base64 import b64encode
from pathlib import Path
from random import Random

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

PARTS = 100
BEAT_STEPS = 100  # steps between two beats of a march
HOLD = "WORKFLOW_BENCHMARK_HOLD"  # a variable: while it is set, a march hangs in its last step
HELD = -1  # the index of the emission that says that it does


class Step(Event):
    """One of some steps: the next of a march, or one that is taken beside the others."""

    number: int
    steps: int


class Token(Event):
    """A small event of a stream."""

    index: int
    text: str


class Done(Event):
    """What became of a step."""

    number: int


class Emission(Event):
    """An event that says when it was emitted, in seconds since the epoch."""

    index: int
    emitted: float


class OneStep(Workflow):
    """Ends with its first step."""

    @step
    async def answer(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result="done")


class March(Workflow):
    """Takes `steps` steps, one after the other, with a beat for every `BEAT_STEPS` of them."""

    @step
    async def begin(self, ev: StartEvent) -> Step:
        return Step(number=2, steps=ev.get("steps", 21))

    @step
    async def go_on(self, ctx: Context, ev: Step) -> Step | StopEvent:
        if ev.number % BEAT_STEPS == 0:
            index = ev.number // BEAT_STEPS - 1
            ctx.write_event_to_stream(Emission(index=index, emitted=time.time()))
        if ev.number < ev.steps:
            return Step(number=ev.number + 1, steps=ev.steps)
        if HOLD in os.environ:
            ctx.write_event_to_stream(Emission(index=HELD, emitted=time.time()))
            await asyncio.Event().wait()
        return StopEvent(result=ev.steps)


class Stream(Workflow):
    """Writes some events, of some text each, to its stream, as fast as it can."""

    def __init__(self, *, events: int, text: str) -> None:
        super().__init__()
        self._count, self._text = events, text

    @step
    async def recite(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for index in range(self._count):
            ctx.write_event_to_stream(Token(index=index, text=self._text))
        return StopEvent(result=self._count)


class FanOut(Workflow):
    """Takes `PARTS` steps, all at the same time, and joins what became of them."""

    @step
    async def scatter(self, ctx: Context, ev: StartEvent) -> Step | None:
        for number in range(PARTS):
            ctx.send_event(Step(number=number, steps=PARTS))
        return None

    @step(num_workers=PARTS)
    async def work(self, ev: Step) -> Done:
        return Done(number=ev.number)

    @step
    async def gather(self, ctx: Context, ev: Done) -> StopEvent | None:
        done = ctx.collect_events(ev, [Done] * PARTS)
        return StopEvent(result=sum(each.number for each in done)) if done else None


class Broadcast(Workflow):
    """Waits for the file `gate`, and then writes `events` events, `pause` seconds apart.

    The gate is a file, for not every server keeps hold of a run that waits for an event.
    """

    @step
    async def emit(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Emission(index=-1, emitted=time.time()))
        while not Path(ev.gate).exists():  # noqa: ASYNC110, ASYNC240  # looked at by no one else
            await asyncio.sleep(0.005)
        due = time.time()
        for index in range(ev.events):
            ctx.write_event_to_stream(Emission(index=index, emitted=time.time()))
            due += ev.pause
            if ev.pause:
                await asyncio.sleep(due - time.time())
            elif index % 100 == 0:
                await asyncio.sleep(0)  # lets others do something
        return StopEvent(result=ev.events)


class Question(Workflow):
    """Asks a person, and ends with the answer."""

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent()

    @step
    async def answer(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=ev.response)


def make_prose(size: int) -> str:
    """Return so many characters of words, some of which come more often than others."""
    random = Random(1)
    letters = "etaoinshrdlu"
    words = ["".join(random.choices(letters, k=random.randint(2, 9))) for _ in range(4_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    return " ".join(random.choices(words, weights, k=size // 3))[:size]


one_step = OneStep()
many_steps = March()
stream = Stream(events=100, text="some words of a model's answer")
stream_1_kib = Stream(events=100, text="x" * 1024)
stream_64_kib = Stream(events=16, text="x" * 65_536)
# What a compressor makes half as large, and what it cannot make smaller.
stream_64_kib_prose = Stream(events=16, text=make_prose(65_536))
stream_64_kib_picture = Stream(events=16, text=b64encode(Random(1).randbytes(49_152)).decode())
fan_out = FanOut()
broadcast = Broadcast(timeout=None)
question = Question(timeout=None)
march = March(timeout=None)
