"""Workflows that the tests of the web UI serve beside the examples."""

import asyncio
from collections.abc import Callable
from datetime import date
from threading import Lock
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator
from workflows import Context, Workflow, step
from workflows.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
)

from tests.support.awaiting import Interview

MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\'"`&amp;'


class Address(BaseModel):
    """Where an order goes."""

    street: str = Field(min_length=1)
    floor: int | None = None


class Order(StartEvent):
    """Everything that a form can hold."""

    customer: str = Field(min_length=1, description="Who orders.", examples=["Ada"])
    copies: int = Field(default=1, ge=1, le=9)
    colour: Literal["red", "green", "blue"] = "green"
    address: Address
    tags: list[str] = Field(default_factory=list)
    note: str | None = None
    due: date | None = None
    gift: bool = False
    limits: dict[str, float] = Field(default_factory=dict)

    @field_validator("customer")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name == "Nobody":
            raise ValueError("Nobody cannot order")
        return name


class Orders(Workflow):
    """Gives an order back."""

    @step
    async def take(self, ev: Order) -> StopEvent:
        return StopEvent(result=ev.model_dump(mode="json"))


class Tick(Event):
    """A sign of life."""

    number: int


class Count(StartEvent):
    """How many events to write, and the pause after each."""

    count: int = 10
    pause: float = 0.0


class Ticker(Workflow):
    """Writes events to the stream."""

    @step
    async def tick(self, ctx: Context, ev: Count) -> StopEvent:
        for number in range(ev.count):
            ctx.write_event_to_stream(Tick(number=number))
            if ev.pause or number % 100 == 0:
                await asyncio.sleep(ev.pause)
        return StopEvent(result=ev.count)


class FirstNameAsked(InputRequiredEvent):
    """Asks for the first name."""

    prompt: str


class LastNameAsked(InputRequiredEvent):
    """Asks for the last name."""

    prompt: str


class FirstNameGiven(HumanResponseEvent):
    """The first name."""

    name: str


class LastNameGiven(HumanResponseEvent):
    """The last name."""

    name: str


class Introduction(Workflow):
    """Asks for two names, one after the other, inside of one step."""

    @step
    async def introduce(self, ctx: Context, ev: StartEvent) -> StopEvent:
        first = await ctx.wait_for_event(
            FirstNameGiven, waiter_event=FirstNameAsked(prompt="The first name?")
        )
        last = await ctx.wait_for_event(
            LastNameGiven, waiter_event=LastNameAsked(prompt="The last name?")
        )
        return StopEvent(result=f"{first.name} {last.name}")

    @step
    async def listen(self, ev: FirstNameGiven | LastNameGiven) -> None:
        """Declare the answers, so that they may be sent."""


class Permit(HumanResponseEvent):
    """Whether somebody may go in."""

    granted: bool
    user: str


class Gate(Workflow):
    """Waits for one person, without asking, and not for ever."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        permit = await ctx.wait_for_event(Permit, requirements={"user": "ada"}, timeout=86_400)
        return StopEvent(result=f"{permit.user}: {permit.granted}")


class Swallower(Workflow):
    """Comes to nothing: a step that another one waits behind returns nothing."""

    @step
    async def swallow(self, ev: StartEvent) -> Tick | None:
        return None

    @step
    async def finish(self, ev: Tick) -> StopEvent:
        return StopEvent(result=ev.number)


class PlainAsker(Workflow):
    """Asks and answers with the engine's own events."""

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent(prefix="What shall it be?")  # type: ignore[call-arg]  # any fields

    @step
    async def take(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=f"It shall be {ev.response}")


class Fragile(Workflow):
    """Keeps in its state what no store can hold, and asks."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> InputRequiredEvent:
        await ctx.store.set("connection", Lock())
        return InputRequiredEvent(prefix="Go on?")  # type: ignore[call-arg]  # any fields

    @step
    async def take(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=ev.response)


class Handover(Event):
    job: Callable[[int], int]


class Worker(Workflow):
    @step
    async def plan(self, ev: StartEvent) -> Handover:
        return Handover(job=lambda number: number + 1)

    @step
    async def work(self, ev: Handover) -> StopEvent:
        return StopEvent(result=ev.job(1))


def make_hostile() -> Workflow:
    """Return a workflow all of whose strings are markup, its classes' names too."""
    hostile: Any = type(MARKUP, (Event,), {"__module__": __name__, "__doc__": MARKUP})
    asked: Any = type(f"{MARKUP}?", (InputRequiredEvent,), {"__doc__": MARKUP})

    class Hostile(Workflow):
        @step
        async def attack(self, ctx: Context, ev: HostileStart) -> HostileAsked:
            ctx.write_event_to_stream(hostile(**{MARKUP: MARKUP, "list": [MARKUP]}))
            ctx.write_event_to_stream(asked(prompt=MARKUP))
            return HostileAsked(question=MARKUP)

        @step
        async def fail(self, ev: HostileAnswer) -> StopEvent:
            raise ValueError(f"{MARKUP} {ev.text}")

    Hostile.__doc__ = Hostile.__name__ = MARKUP
    return Hostile(timeout=None)


class HostileStart(StartEvent):
    text: Literal["a", "<img src=x onerror='window.hacked=1'>"] = Field(
        default="a", description=MARKUP, title=MARKUP
    )
    other: str = Field(default="", alias=MARKUP, examples=[MARKUP])


class HostileAsked(InputRequiredEvent):
    question: str


class HostileAnswer(HumanResponseEvent):
    text: str = Field(description=MARKUP, examples=[MARKUP])


HostileStart.__doc__ = HostileAnswer.__doc__ = MARKUP

flows: dict[str, Workflow] = {
    "orders": Orders(),
    "ticker": Ticker(timeout=None),
    "introduction": Introduction(timeout=None),
    "plain-asker": PlainAsker(timeout=None),
    "interview": Interview(timeout=None),
    "gate": Gate(timeout=None),
    "swallower": Swallower(timeout=None),
    "fragile": Fragile(timeout=None),
    "worker": Worker(timeout=None),
    "<img src=x onerror='window.hacked=1'>": make_hostile(),
}
