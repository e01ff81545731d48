"""Workflows that both servers serve; they use what engines since 2.11 have."""

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent


class Greet(StartEvent):
    name: str
    times: int = 1


class Greeter(Workflow):
    """Ends at once, with a plain stop event."""

    @step
    async def greet(self, ev: Greet) -> StopEvent:
        return StopEvent(result=" ".join([f"Hello, {ev.name}!"] * ev.times))


class Echo(Workflow):
    """Takes any fields, and gives them back."""

    @step
    async def echo(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=dict(ev.items()))


class Count(StartEvent):
    to: int = 2


class Counted(Event):
    number: int


class Sum(StopEvent):
    total: int


class Counter(Workflow):
    """Writes events into the stream, and ends with a stop event of its own."""

    @step
    async def count(self, ctx: Context, ev: Count) -> Sum:
        for number in range(ev.to):
            ctx.write_event_to_stream(Counted(number=number))
        return Sum(total=ev.to)


class Talker(Workflow):
    """Keeps count of its runs in `ctx.store`."""

    @step
    async def talk(self, ctx: Context, ev: StartEvent) -> StopEvent:
        turn = await ctx.store.get("turn", default=0) + 1
        await ctx.store.set("turn", turn)
        return StopEvent(result=turn)


class Ask(StartEvent):
    prompt: str = "?"


class Question(InputRequiredEvent):
    prompt: str


class Answer(HumanResponseEvent):
    text: str = ""


class Asker(Workflow):
    """Waits for an answer."""

    @step
    async def ask(self, ev: Ask) -> Question:
        return Question(prompt=ev.prompt)

    @step
    async def take(self, ev: Answer) -> StopEvent:
        return StopEvent(result=ev.text)


class Fail(StartEvent):
    text: str = "no luck"


class Failer(Workflow):
    """Raises, with the text it was given."""

    @step
    async def fail(self, ev: Fail) -> StopEvent:
        raise ValueError(ev.text)


class Extra(Event):
    """Declared by no step; registered as an additional event."""

    text: str = ""


WORKFLOWS: dict[str, Workflow] = {
    "greet": Greeter(),
    "echo": Echo(),
    "count": Counter(),
    "talk": Talker(),
    "ask": Asker(timeout=None),
    "fail": Failer(),
}
