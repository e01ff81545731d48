"""The workflows that every subject runs: of the engine alone, with nothing of any server in it."""

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

STEPS = 21
EVENTS = 100
PARTS = 100


class Step(Event):
    """The next step of a long run."""

    number: int


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


one_step = OneStep()
many_steps = ManySteps()
stream = Stream()
fan_out = FanOut()
