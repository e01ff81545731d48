"""A workflow that shows which server has done what, also as a file that is served."""

import asyncio
import os
import time

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from workflow_server.app.server import WorkflowServer

STEPS = 4
LONG = 600.0  # seconds


class Signature(Event):
    """Says who has done a part of the work."""

    text: str


class Signed(Workflow):
    """Signs its events and its result with the name of its server, before and after a gate."""

    def __init__(self, name: str) -> None:
        super().__init__(timeout=None)
        self.name = name
        self.gate = asyncio.Event()

    @step
    async def sign(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for number in range(STEPS):
            ctx.write_event_to_stream(Signature(text=f"{self.name}{number}"))
            await asyncio.sleep(0)
        await self.gate.wait()
        for number in range(STEPS, 2 * STEPS):
            ctx.write_event_to_stream(Signature(text=f"{self.name}{number}"))
            await asyncio.sleep(0)
        return StopEvent(result=self.name)


class Ticking(Workflow):
    """Signs an event every so often, for a while."""

    @step
    async def tick(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for number in range(40):
            ctx.write_event_to_stream(Signature(text=f"{os.getpid()} {number}"))
            await asyncio.sleep(0.05)
        return StopEvent(result=os.getpid())


def stay() -> None:
    """Be there for long, and end without a trace."""
    time.sleep(LONG)
    os._exit(0)


class Forking(Workflow):
    """Forks a child that stays, and waits with it."""

    @step
    async def fork(self, ctx: Context, ev: StartEvent) -> StopEvent:
        child = os.fork()
        if child == 0:
            stay()
        ctx.write_event_to_stream(Signature(text=str(child)))
        await asyncio.sleep(LONG)
        return StopEvent()


if "SIGNED_STORE" in os.environ:
    server = WorkflowServer(workflow_store=os.environ["SIGNED_STORE"])
    server.add_workflow("it", Ticking(timeout=None))
    server.add_workflow("forking", Forking(timeout=None))
