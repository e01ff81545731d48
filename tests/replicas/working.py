"""Workflows that say which process has done what, as a file that several servers serve."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

FOLDER = Path(os.environ.get("WORKING_FOLDER", "."))  # where a file opens a gate, or is poison


class Began(Event):
    """Says which process has begun a step."""

    pid: int


class Named(StartEvent):
    """Names the gate of a run."""

    gate: str = "gate"


class Gated(Workflow):
    """Ends when a file of the gate's name is there."""

    @step
    async def wait(self, ctx: Context, ev: Named) -> StopEvent:
        ctx.write_event_to_stream(Began(pid=os.getpid()))
        while not (FOLDER / ev.gate).exists():  # noqa: ASYNC110  # another process makes it
            await asyncio.sleep(0.05)
        return StopEvent(result=os.getpid())


class Asking(Workflow):
    """Asks, and ends with the answer."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(
            HumanResponseEvent, waiter_event=InputRequiredEvent(), timeout=600
        )
        return StopEvent(result=[answer.get("response"), os.getpid()])


class Sleeping(Workflow):
    """Waits for a timer, of so many seconds, and ends with the process that went on."""

    @step
    async def sleep(self, ctx: Context, ev: Named) -> StopEvent:
        with suppress(TimeoutError):
            await ctx.wait_for_event(HumanResponseEvent, timeout=float(ev.gate))
        return StopEvent(result=os.getpid())


class Poison(Workflow):
    """Ends its process as long as a file is there."""

    @step
    async def end(self, ctx: Context, ev: Named) -> StopEvent:
        if (FOLDER / ev.gate).exists():
            os._exit(9)
        return StopEvent(result=os.getpid())


gated = Gated(timeout=None)
asking = Asking(timeout=None)
sleeping = Sleeping(timeout=None)
poison = Poison(timeout=None)
