"""Workflows whose steps do what no step should: they outlive their cancellation, or end the loop.

Served as a file by servers in processes of their own, so it imports nothing of the tests.
"""

import _thread
import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

from llama_index_instrumentation.dispatcher import active_instrument_tags
from pydantic import BeforeValidator, computed_field
from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

PAUSE = 0.02  # seconds


class Told(StartEvent):
    """Start of a run that does something of a kind.

    What outlives its cancellation ends when the file `until` is there.
    """

    kind: str = ""
    until: str = ""


class Done(Event):
    """Deed that a step has done."""

    number: int


class Unruly(Exception):
    """Error that says nothing."""


class Odd(BaseException):
    """Error that is no Exception."""


async def swallow(ctx: Context, until: Path) -> None:
    """Pass over everything, and go on writing."""
    while not until.exists():
        try:
            await asyncio.sleep(PAUSE)
            ctx.write_event_to_stream(Done(number=1))
            await ctx.store.set("kept", "by a step that was cancelled")
        except BaseException:  # noqa: BLE001  # it is the fault that is tested
            pass


async def shield(ctx: Context, until: Path) -> None:
    """Wait for a shielded task, whatever comes."""
    work = asyncio.ensure_future(swallow(ctx, until))
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            continue


async def block_at_end(ctx: Context, until: Path) -> None:
    """Wait in the `finally` of a step that was cancelled."""
    try:
        await asyncio.sleep(0 if until.exists() else 3600)
    finally:
        await swallow(ctx, until)


async def generate(ctx: Context, until: Path) -> None:
    """Take what an async generator gives that heeds nothing."""

    async def numbers() -> AsyncIterator[int]:
        while not until.exists():
            try:
                await asyncio.sleep(PAUSE)
                yield 1
            except BaseException:  # noqa: BLE001  # it is the fault that is tested
                pass

    async for number in numbers():
        ctx.write_event_to_stream(Done(number=number))


async def wait_in_thread(ctx: Context, until: Path) -> None:
    """Wait for a thread that does not return."""

    def wait() -> None:
        while not until.exists():
            time.sleep(PAUSE)

    ctx.write_event_to_stream(Done(number=1))
    await asyncio.to_thread(wait)


STUBBORN: dict[str, Callable[[Context, Path], Awaitable[None]]] = {
    "swallow": swallow,
    "shield": shield,
    "block_at_end": block_at_end,
    "generate": generate,
    "wait_in_thread": wait_in_thread,
}


class Stubborn(Workflow):
    """Goes on when it is cancelled."""

    @step
    async def resist(self, ctx: Context, ev: Told) -> StopEvent:
        ctx.write_event_to_stream(Done(number=0))
        await STUBBORN[ev.kind](ctx, Path(ev.until))
        return StopEvent(result="not cancelled")


class Threaded(Workflow):
    """Has a step in a thread, which knows of no cancellation."""

    @step
    def resist(self, ctx: Context, ev: Told) -> StopEvent:
        Path(f"{ev.until}.begun").touch()
        while not Path(ev.until).exists():
            time.sleep(PAUSE)
        return StopEvent(result="not cancelled")


class First(Event):
    """Work of the first of two steps."""

    until: str


class Second(Event):
    """Work of the second of two steps."""


class Overtaken(Workflow):
    """Ends while another step of it goes on."""

    @step
    async def split(self, ctx: Context, ev: Told) -> First | Second | None:
        ctx.send_event(First(until=ev.until))
        ctx.send_event(Second())
        return None

    @step
    async def resist(self, ctx: Context, ev: First) -> StopEvent:
        await swallow(ctx, Path(ev.until))
        return StopEvent(result="too late")

    @step
    async def end(self, ev: Second) -> StopEvent:
        return StopEvent(result="ended")


class Asked(InputRequiredEvent):
    """Question of a run that waits."""


class Waits(Workflow):
    """Waits for an answer."""

    @step
    async def ask(self, ev: StartEvent) -> Asked:
        return Asked()

    @step
    async def take(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result="answered")


class Sleeps(Workflow):
    """Is well."""

    @step
    async def sleep(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Done(number=0))
        await asyncio.sleep(0.3)
        return StopEvent(result="slept")


# What ends the run of a step.


def raise_(error: BaseException) -> None:
    """Raise an error."""
    raise error


async def raise_later(error: BaseException) -> None:
    """Raise an error in a task."""
    await asyncio.sleep(0)
    raise error


async def cancel_itself() -> None:
    """Cancel the task that one is."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def cancel_itself_and_end() -> None:
    """Cancel the task that one is, with nothing left to wait for."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def await_cancelled() -> None:
    """Wait for what was cancelled."""
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def cancel_its_run() -> None:
    """Cancel the task in which the run is executed."""
    name = f"run {active_instrument_tags.get()['llamaindex.run_id']}"
    for task in asyncio.all_tasks():
        if task.get_name() == name:
            task.cancel()
    await asyncio.sleep(3600)


async def await_task() -> None:
    """Wait for a task that asks the process to end."""
    await asyncio.create_task(raise_later(SystemExit("in a task")))


async def await_group() -> None:
    """Wait for a group of tasks one of which asks the process to end."""
    async with asyncio.TaskGroup() as group:
        group.create_task(raise_later(KeyboardInterrupt()))
        group.create_task(asyncio.sleep(3600))


async def exhaust() -> None:
    """Call itself without end."""
    await exhaust()


async def fill() -> None:
    """Ask for more memory than there is."""
    bytes(1 << 60)


def plainly(error: type[BaseException]) -> Callable[[], Awaitable[None]]:
    """Return a step's work that raises an error."""

    async def work() -> None:
        raise error

    return work


async def raise_group() -> None:
    """Raise a group of errors that are no Exceptions."""
    raise BaseExceptionGroup("several", [KeyboardInterrupt(), Odd()])


FAILING: dict[str, Callable[[], Awaitable[None]]] = {
    "keyboard_interrupt": plainly(KeyboardInterrupt),
    "system_exit": plainly(SystemExit),
    "generator_exit": plainly(GeneratorExit),
    "odd": plainly(Odd),
    "cancelled": plainly(asyncio.CancelledError),
    "group": raise_group,
    "cancel_itself": cancel_itself,
    "cancel_itself_and_end": cancel_itself_and_end,
    "await_cancelled": await_cancelled,
    "cancel_its_run": cancel_its_run,
    "await_task": await_task,
    "await_group": await_group,
    "exhaust": exhaust,
    "fill": fill,
}


class Fails(Workflow):
    """Fails in a way that is not that of other errors."""

    @step
    async def fail(self, ctx: Context, ev: Told) -> StopEvent:
        ctx.write_event_to_stream(Done(number=0))
        await FAILING[ev.kind]()
        return StopEvent(result="did not fail")


class FailsInThread(Workflow):
    """Fails in a thread."""

    @step
    def fail(self, ev: Told) -> StopEvent:
        raise {"keyboard_interrupt": KeyboardInterrupt, "system_exit": SystemExit}[ev.kind]


class _Policy:
    def next(
        self, elapsed_time: float, attempts: int, error: Exception, *, seed: int | None = None
    ) -> float | None:
        """Ask the process to end."""
        raise KeyboardInterrupt


class FailsInPolicy(Workflow):
    """Fails where it is asked if it is tried again."""

    @step(retry_policy=_Policy())
    async def fail(self, ev: Told) -> StopEvent:
        raise Unruly


class Interrupting(StopEvent):
    """Result that asks the process to end when it is written."""

    @computed_field  # type: ignore[prop-decorator]  # pydantic's documented way
    @property
    def said(self) -> str:
        raise KeyboardInterrupt


class FailsInResult(Workflow):
    """Has a result that cannot be written."""

    @step
    async def fail(self, ev: Told) -> Interrupting:
        return Interrupting()


class Unequal:
    """Value that asks the process to end when it is compared or stored."""

    def __eq__(self, other: object) -> bool:
        raise SystemExit

    def __reduce__(self) -> Any:
        raise KeyboardInterrupt

    __hash__ = None  # type: ignore[assignment]  # it is not compared, so it is no key


class FailsInState(Workflow):
    """Has a state that cannot be written."""

    @step
    async def fail(self, ctx: Context, ev: Told) -> StopEvent:
        await ctx.store.set("it", Unequal())
        await ctx.store.set("it", Unequal())
        return StopEvent(result="ended")


# What a step leaves behind.


LEFT_TASKS: list[asyncio.Future[None]] = []


def leave_task() -> None:
    """Leave a task behind that asks the process to end."""
    LEFT_TASKS.append(asyncio.ensure_future(raise_later(KeyboardInterrupt())))


def leave_callback() -> None:
    """Leave a callback behind that asks the process to end."""
    asyncio.get_running_loop().call_soon(raise_, SystemExit("in a callback"))


def leave_timer() -> None:
    """Leave a timer behind that asks the process to end."""
    asyncio.get_running_loop().call_later(PAUSE, raise_, KeyboardInterrupt())


def leave_thread() -> None:
    """Leave a thread behind that asks the process to end."""
    threading.Thread(target=raise_, args=[KeyboardInterrupt()]).start()


def leave_exiting_thread() -> None:
    """Leave a thread behind that asks the process to end."""
    threading.Thread(target=raise_, args=[SystemExit(3)]).start()


def stop_loop() -> None:
    """Stop the event loop."""
    asyncio.get_running_loop().stop()


LEFT: dict[str, Callable[[], None]] = {
    "task": leave_task,
    "callback": leave_callback,
    "timer": leave_timer,
    "thread": leave_thread,
    "exiting_thread": leave_exiting_thread,
    "loop": stop_loop,
}


class Leaves(Workflow):
    """Leaves something behind."""

    @step
    async def leave(self, ev: Told) -> StopEvent:
        LEFT[ev.kind]()
        return StopEvent(result="left")


SIGNALS: dict[str, Callable[[], Any]] = {
    "raise_signal": lambda: signal.raise_signal(signal.SIGINT),
    "interrupt_main": _thread.interrupt_main,
    "interrupt_main_in_a_thread": lambda: run_in_thread(_thread.interrupt_main),
}


def run_in_thread(function: Callable[[], object]) -> None:
    """Return when a thread has called a function."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


class Signals(Workflow):
    """Sends its own process a signal."""

    @step
    async def signal(self, ctx: Context, ev: Told) -> StopEvent:
        ctx.write_event_to_stream(Done(number=0))
        SIGNALS[ev.kind]()
        await asyncio.sleep(0.3)
        return StopEvent(result="ended in order")


class CancelsAll(Workflow):
    """Cancels every task of the process."""

    @step
    async def cancel(self, ev: Told) -> StopEvent:
        for task in asyncio.all_tasks():
            task.cancel()
        return StopEvent(result="nobody is left")


class Blocks(Workflow):
    """Keeps the event loop."""

    @step
    async def block(self, ctx: Context, ev: Told) -> StopEvent:
        ctx.write_event_to_stream(Done(number=0))
        await asyncio.sleep(0.1)
        Path(ev.until).touch()
        time.sleep(3600)  # noqa: ASYNC251  # it is the fault that is tested
        return StopEvent(result="at last")


# What a request meets.


def _interrupt(value: str) -> str:
    if value == "leave":
        raise SystemExit
    if value == "interrupt":
        raise KeyboardInterrupt
    if value == "cancel":
        raise asyncio.CancelledError
    return value


class Checked(StartEvent):
    """Start event whose field is checked by code that asks the process to end."""

    text: Annotated[str, BeforeValidator(_interrupt)] = ""


class CheckedAnswer(HumanResponseEvent):
    """Answer whose field is checked by such code."""

    text: Annotated[str, BeforeValidator(_interrupt)] = ""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> Any:
        raise KeyboardInterrupt


class Checks(Workflow):
    """Checks what it is given."""

    @step
    async def ask(self, ev: Checked) -> Asked:
        return Asked()

    @step
    async def take(self, ev: CheckedAnswer) -> StopEvent:
        return StopEvent(result=ev.text)


stubborn = Stubborn(timeout=None)
threaded = Threaded(timeout=None)
threaded_single = Threaded(timeout=None, num_concurrent_runs=1)
threaded_hasty = Threaded(timeout=1.0, num_concurrent_runs=1)
hasty = Stubborn(timeout=1.0)
single = Stubborn(timeout=None, num_concurrent_runs=1)
overtaken = Overtaken(timeout=None)
waits = Waits(timeout=None)
sleeps = Sleeps()
fails = Fails()
fails_in_thread = FailsInThread()
fails_in_policy = FailsInPolicy()
fails_in_result = FailsInResult()
fails_in_state = FailsInState()
leaves = Leaves()
signals = Signals()
cancels_all = CancelsAll()
blocks = Blocks(timeout=None)
checks = Checks(timeout=None)
