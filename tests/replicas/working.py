"""Workflows that say which server has done what, also as a file that several processes serve."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent


class Began(Event):
    """Says which server has begun a step."""

    server: str


class Named(StartEvent):
    """Names the gate of a run."""

    gate: str = "gate"


class Signing(Workflow):
    """Signs with the name of its server; gates are files in a folder, which are open when there."""

    def __init__(self, server: str, folder: Path, *, at_once: int | None = None) -> None:
        super().__init__(timeout=None, num_concurrent_runs=at_once)
        self.server = server
        self.folder = folder


class Gated(Signing):
    """Ends when its gate is open."""

    @step
    async def wait(self, ctx: Context, ev: Named) -> StopEvent:
        ctx.write_event_to_stream(Began(server=self.server))
        while not (self.folder / ev.gate).exists():  # noqa: ASYNC110  # another process opens it
            await asyncio.sleep(0.05)
        return StopEvent(result=self.server)


class Asking(Signing):
    """Asks, and ends with the answer."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        answer = await ctx.wait_for_event(
            HumanResponseEvent, waiter_event=InputRequiredEvent(), timeout=600
        )
        return StopEvent(result=f"{answer.get('response')} {self.server}")


class Sleeping(Signing):
    """Waits for a timer of so many seconds."""

    @step
    async def sleep(self, ctx: Context, ev: Named) -> StopEvent:
        with suppress(TimeoutError):
            await ctx.wait_for_event(HumanResponseEvent, timeout=float(ev.gate))
        return StopEvent(result=self.server)


class Poison(Signing):
    """Ends its process when its gate is open."""

    @step
    async def end(self, ctx: Context, ev: Named) -> StopEvent:
        while not (self.folder / ev.gate).exists():  # noqa: ASYNC110  # another process opens it
            await asyncio.sleep(0.05)
        os._exit(9)


KINDS = {"gated": Gated, "asking": Asking, "sleeping": Sleeping, "poison": Poison}

if "WORKING_FOLDER" in os.environ:
    given = str(os.getpid()), Path(os.environ["WORKING_FOLDER"])
    gated, asking, sleeping = Gated(*given), Asking(*given), Sleeping(*given)
    poison = Poison(*given)
