"""Workflows that wait for events in the ways that people write it."""

from pydantic import SecretStr
from workflows import Context, Workflow, step
from workflows.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
)

TOKEN = "sk-not-for-clients"


class First(Event):
    answer: str


class Interview(Workflow):
    """Writes its questions to the stream, and waits for plain answers, as agents' tools do."""

    @step
    async def one(self, ctx: Context, ev: StartEvent) -> First:
        ctx.write_event_to_stream(InputRequiredEvent(prefix="How old are you?"))  # type: ignore[call-arg]  # any fields
        response = await ctx.wait_for_event(HumanResponseEvent, timeout=None)
        return First(answer=response.response)

    @step
    async def two(self, ctx: Context, ev: First) -> StopEvent:
        ctx.write_event_to_stream(InputRequiredEvent(prefix="Which food?"))  # type: ignore[call-arg]  # any fields
        response = await ctx.wait_for_event(HumanResponseEvent, timeout=None)
        return StopEvent(result=[ev.answer, response.response])


class Permit(HumanResponseEvent):
    """A decision."""

    granted: bool
    user: str = ""


class Asks(InputRequiredEvent):
    number: int
    secret: SecretStr
    sentence: str


class Gate(Workflow):
    """Waits for one person, who must know a token, and not for ever."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        permit = await ctx.wait_for_event(
            Permit,
            waiter_event=Asks(number=1, secret=SecretStr(TOKEN), sentence="May I?"),
            waiter_id="permit",
            requirements={"user": "ada", "token": SecretStr(TOKEN), "long": "x" * 2_000},
            timeout=3_600,
        )
        return StopEvent(result=permit.granted)


class Stuck(Workflow):
    """Swallows what it starts from: nothing is left to do, and nothing is waited for."""

    @step
    async def swallow(self, ev: StartEvent) -> First | None:
        return None

    @step
    async def finish(self, ev: First) -> StopEvent:
        return StopEvent(result=ev.answer)
