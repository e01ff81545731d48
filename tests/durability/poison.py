"""Workflows that end the process, and some that do not; served by a process of its own.

The files that they wait for lie beside this one: `armed` lets poison runs end the process, and
`released` lets the others end.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from workflow_server.app.scheduling import evidence
from workflow_server.app.server import register_type

evidence.PROBATION = float(os.environ["POISON_PROBATION"])

ARMED = Path(__file__).with_name("armed")
RELEASED = Path(__file__).with_name("released")
PAUSE = 0.02


async def wait_for(file: Path) -> None:
    """Return when a file is there, which another process makes."""
    while not file.exists():  # noqa: ASYNC110  # a file has no event
        await asyncio.sleep(PAUSE)


class Held(Workflow):
    """A long step."""

    @step
    async def hold(self, ev: StartEvent) -> StopEvent:
        await wait_for(RELEASED)
        return StopEvent(result="held")


class Poison(Workflow):
    """A step that ends the process, some seconds after it is let."""

    @step
    async def end_all(self, ev: StartEvent) -> StopEvent:
        await wait_for(ARMED)
        await asyncio.sleep(float(ev.get("seconds", 0.0)))
        os._exit(3)


class Vial:
    """A value that ends the process where it is read back."""


def _open(_stored: Any) -> Vial:
    if ARMED.exists():
        os._exit(3)
    return Vial()


register_type(Vial, dump=lambda _vial: "vial", load=_open)


class Sealed(Workflow):
    """A run that ends the process when it is read back."""

    @step
    async def fill(self, ctx: Context, ev: StartEvent) -> InputRequiredEvent:
        await ctx.store.set("vial", Vial())
        return InputRequiredEvent()

    @step
    async def hold(self, ev: InputRequiredEvent) -> None:
        await asyncio.Event().wait()

    @step
    async def stop(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result="sealed")


class Waiting(Workflow):
    """A run that waits with such a value."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> InputRequiredEvent:
        await ctx.store.set("vial", Vial())
        return InputRequiredEvent()

    @step
    async def stop(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result="answered")


held = Held(timeout=None)
poison = Poison(timeout=None)
sealed = Sealed(timeout=None)
waiting = Waiting(timeout=None)
