"""Workflows that hold a value while they ask a person, and then say what it is."""

from typing import Any

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from tests.users.files.equality import describe
from tests.users.files.kinds import KINDS


class Chosen(StartEvent):
    kind: str


class Ask(InputRequiredEvent):
    prefix: str = "Go on?"


class Reply(HumanResponseEvent):
    kind: str = ""

    @property
    def it(self) -> "Like":
        """The value that a waiter of `InWaiter` requires."""
        return Like(self.kind)


class Like:
    """Equals each value that is as the one of a kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __eq__(self, other: object) -> bool:
        return describe(other) == describe(KINDS[self.kind])

    __hash__ = None  # type: ignore[assignment]  # as of any object that equals others


class Carrier(Event):
    it: Any


class InState(Workflow):
    """Holds the value in `ctx.store`; a later run finds what the first one left."""

    @step
    async def put(self, ctx: Context, ev: Chosen) -> Ask:
        if not await ctx.store.get("has_it", default=False):
            await ctx.store.set("it", KINDS[ev.kind])
            await ctx.store.set("has_it", True)
        return Ask()

    @step
    async def tell(self, ctx: Context, ev: Reply) -> StopEvent:
        return StopEvent(result=describe(await ctx.store.get("it")))


class InEvent(Workflow):
    """Holds the value in the event of the step that asks."""

    @step
    async def put(self, ev: Chosen) -> Carrier:
        return Carrier(it=KINDS[ev.kind])

    @step
    async def tell(self, ctx: Context, ev: Carrier) -> StopEvent:
        await ctx.wait_for_event(Reply, waiter_event=Ask(), waiter_id="w", timeout=None)
        return StopEvent(result=describe(ev.it))


class InWaiter(Workflow):
    """Holds the value in what a wait requires of the answer."""

    @step
    async def ask(self, ctx: Context, ev: Chosen) -> StopEvent:
        reply = await ctx.wait_for_event(
            Reply,
            requirements={"it": KINDS[ev.kind]},
            waiter_event=Ask(),
            waiter_id="w",
            timeout=None,
        )
        return StopEvent(result=reply.kind)


class InResult(Workflow):
    """Returns the value, which was in the state until then."""

    @step
    async def put(self, ctx: Context, ev: Chosen) -> Ask:
        await ctx.store.set("it", KINDS[ev.kind])
        return Ask()

    @step
    async def tell(self, ctx: Context, ev: Reply) -> StopEvent:
        return StopEvent(result=await ctx.store.get("it"))


state = InState(timeout=None)
event = InEvent(timeout=None)
waiter = InWaiter(timeout=None)
result = InResult(timeout=None)
