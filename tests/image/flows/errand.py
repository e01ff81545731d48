"""A workflow with a long step: it ends when /gate/open is there."""

import asyncio
from pathlib import Path

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

GATE = Path("/gate/open")


class Prepared(Event):
    """The first step is done."""

    errand: str


class Walking(Event):
    """The second step has begun."""


class Errand(Workflow):
    """Prepares, and walks until the gate is open."""

    @step
    async def prepare(self, ctx: Context, ev: StartEvent) -> Prepared:
        prepared = Prepared(errand=ev.get("errand"))
        ctx.write_event_to_stream(prepared)
        return prepared

    @step
    async def walk(self, ctx: Context, ev: Prepared) -> StopEvent:
        ctx.write_event_to_stream(Walking())
        while not GATE.exists():  # noqa: ASYNC110  # a folder that the test mounts
            await asyncio.sleep(0.05)
        return StopEvent(result=f"{ev.errand}: done")


errand = Errand(timeout=None)
