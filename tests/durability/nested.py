"""Workflows whose steps run others, which do what no step should; some of these are served, too.

Served as a file by servers in processes of their own, so it imports nothing of the tests.
"""

import asyncio
from collections.abc import Callable

from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
from workflows.handler import WorkflowHandler


class Told(StartEvent):
    """Start of a run that runs another one, which does something of a kind."""

    kind: str = ""
    where: str = ""


async def raise_later(error: BaseException) -> None:
    """Raise an error in a task."""
    await asyncio.sleep(0)
    raise error


def cancel_itself() -> None:
    """Cancel the task that one is."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


RAISED: dict[str, type[BaseException]] = {
    "keyboard_interrupt": KeyboardInterrupt,
    "system_exit": SystemExit,
    "generator_exit": GeneratorExit,
    "cancelled": asyncio.CancelledError,
}
LEFT: list[object] = []
TIMEOUT = 1.0  # seconds


class Inner(Workflow):
    """Fails in a way that is not that of other errors, or leaves something behind."""

    @step
    async def fail(self, ev: Told) -> StopEvent:
        if ev.kind in RAISED:
            raise RAISED[ev.kind]
        if ev.kind == "task":
            LEFT.append(asyncio.ensure_future(raise_later(SystemExit())))
        if ev.kind == "await_task":
            await asyncio.create_task(raise_later(SystemExit()))
        if ev.kind == "cancel_itself":
            cancel_itself()
        return StopEvent(result="did not fail")


class _Policy:
    def next(
        self, elapsed_time: float, attempts: int, error: Exception, *, seed: int | None = None
    ) -> float | None:
        """Ask the process to end."""
        raise KeyboardInterrupt


class InPolicy(Workflow):
    """Fails where it is asked if it is tried again."""

    @step(retry_policy=_Policy())
    async def fail(self, ev: Told) -> StopEvent:
        raise ValueError


class InThread(Workflow):
    """Fails in a thread."""

    @step
    def fail(self, ev: Told) -> StopEvent:
        raise SystemExit


served = Inner(timeout=None)
served_in_policy = InPolicy(timeout=None)
INNERS: dict[str, Callable[[], Workflow]] = {
    "made here": lambda: Inner(timeout=None),
    "made here, in policy": lambda: InPolicy(timeout=None),
    "made here, in thread": lambda: InThread(timeout=None),
    "served": lambda: served,
    "served, in policy": lambda: served_in_policy,
}


def run(told: Told) -> WorkflowHandler:
    """Run the other one."""
    return INNERS[told.where]().run(start_event=Told(kind=told.kind))


class Awaits(Workflow):
    """Waits for the other one."""

    @step
    async def nest(self, ev: Told) -> StopEvent:
        return StopEvent(result=await run(ev))


class Leaves(Workflow):
    """Leaves the other one behind."""

    @step
    async def nest(self, ev: Told) -> StopEvent:
        LEFT.append(run(ev))
        await asyncio.sleep(0.05)
        return StopEvent(result="left")


class Apart(Workflow):
    """Runs the other one in a thread, in an event loop of its own."""

    @step
    def nest(self, ev: Told) -> StopEvent:
        async def run_apart() -> object:
            return await Inner(timeout=TIMEOUT).run(start_event=Told(kind=ev.kind))

        return StopEvent(result=asyncio.run(run_apart()))


awaits, leaves, apart = Awaits(timeout=None), Leaves(timeout=None), Apart(timeout=None)
