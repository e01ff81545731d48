"""A session: the engine's execution of one run, from its beginning or resumption to its end.

It is the engine's side of a run. A recorder learns what the engine does, in terms of ours; what
comes from outside (a delivery, a request to cancel) goes to the engine as ticks.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from workflows.context.serializers import BaseSerializer
from workflows.events import Event, InputRequiredEvent, StartEvent, StopEvent, WorkflowIdleEvent
from workflows.runtime.control_loop.runner import _ControlLoopRunner
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import AddWaiter
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import (
    TickAddEvent,
    TickCancelRun,
    TickIdleCheck,
    TickSessionStart,
    TickStepResult,
    WorkflowTick,
    WorkflowTickAdapter,
)

from app.engine.codec import NotSerializable, encode_event, encode_tick
from app.engine.snapshots import Timer, find_reruns, take_snapshot, timers_of
from app.engine.state import UNRESTORABLE, TrackedState
from app.engine.tracing import RunTrace
from app.engine.waiters import Waiter, open_waiters, waiter_of
from app.errors import InvalidStartEvent

SNAPSHOT_TICKS = 100  # after so many ticks a run's state is written whole, and they are dropped

# Ticks that leave a waiting run waiting: nothing has come in.
IDLE_TICKS = (TickIdleCheck, TickSessionStart)

Clock = Callable[[], datetime]
StepCounter = Callable[[str, str, float], None]


def utc_now() -> datetime:
    """Return the time, aware, in UTC."""
    return datetime.now(UTC)


@dataclass(slots=True)
class RunInput:
    """The input of a run: its start event, the engine's state and `ctx.store`.

    `start_event` is None when the context was running. `has_context` says that the engine's state
    is one that a client gave.
    """

    start_event: StartEvent | None
    broker: BrokerState
    state: TrackedState
    serializer: BaseSerializer
    has_context: bool = False

    @property
    def start_envelope(self) -> bytes | None:
        """The start event as an envelope, to be kept with the run."""
        if self.start_event is None:
            return None
        try:
            return encode_event(self.start_event)
        except NotSerializable as error:
            raise InvalidStartEvent(f"The start event cannot be stored: {error}.") from error


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event from outside for a run, and the step that shall take it, or None for any step."""

    event: Event
    step: str | None

    def to_tick(self) -> TickAddEvent:
        """Return the tick that hands the event to the engine."""
        step_id = StepId.root(self.step) if self.step is not None else None
        return TickAddEvent(event=self.event, step_id=step_id)

    def encode(self) -> bytes:
        """Return the delivery as bytes to be kept; `NotSerializable` where it cannot be."""
        return encode_tick(self.to_tick())

    @classmethod
    def decode(cls, encoded: bytes, serializer: BaseSerializer) -> "Delivery":
        """Return the delivery that was kept; ValueError where its class no longer fits."""
        with serializer.validation_context():
            tick = WorkflowTickAdapter.validate_json(encoded)
        if not isinstance(tick, TickAddEvent):
            raise ValueError("what was kept for the run is no event")
        return cls(tick.event, str(tick.step_id) if tick.step_id is not None else None)


class Journal(Protocol):
    """The part of the run's journal that a session uses.

    `is_open` is whether a unit is open: the engine is carrying out what a tick caused.
    """

    is_open: bool

    @property
    def has_room(self) -> bool:
        """Return whether the uncommitted tail is within its bound."""

    async def wait_for_room(self) -> None:
        """Return when the uncommitted tail is within its bound again."""

    def open_unit(self) -> None:
        """Hold back what follows, to be committed together."""

    def add_tick(self, tick: bytes) -> None:
        """Write down a tick."""

    def set_state(self, state: bytes) -> None:
        """Write down the state that a step left."""

    def set_snapshot(self, snapshot: bytes) -> None:
        """Write down the engine's state before the next tick."""


class Recorder(Protocol):
    """The listener of a session; called while a unit of the journal is open, if not said else."""

    @property
    def journal(self) -> Journal:
        """The run's journal."""

    def add_event(self, event: Event) -> int:
        """Write down an event, also outside a unit; `NotSerializable` if it cannot be."""

    def add_question(self, event: Event, waiter_id: str | None) -> None:
        """Write down an event that asks, of a waiter if it is named; as `add_event` else."""

    def event_taken(self, event: Event) -> None:
        """An event from outside has reached the engine."""

    def step_finished(self) -> None:
        """An attempt of a step has finished, well or not."""

    def wait(self, *, wake_at: datetime | None, timeout_left: float | None) -> None:
        """The run waits for an event from outside, or for a timer."""

    def end_tick(self, list_waiters: Callable[[], Sequence[Waiter]], *, came_in: bool) -> None:
        """The tick is carried out; `came_in` is false where it was a mere look at the run."""

    def mark_not_resumable(self, reason: str) -> None:
        """The run could not go on after a restart, for this reason."""

    def cannot_go_on(self, sentence: str) -> None:
        """The run must end as failed, for the reason that the sentence gives; also in no unit."""


class Session:
    """The engine's side of a run.

    `terminal` is the run's last event, once the engine has published it. It is held back until the
    outcome is known, and no event follows it.

    It has two faces on one state: the run asks from outside, the engine's adapters tell what the
    engine does. Hence its number of methods.
    """

    def __init__(
        self,
        run_id: str,
        run_input: RunInput,
        *,
        recorder: Recorder,
        timeout: float | None,
        max_event_size: int,
        clock: Clock,
        count_step: StepCounter,
    ) -> None:
        self.run_id = run_id
        self.run_input = run_input
        self.mailbox: asyncio.Queue[WorkflowTick] = asyncio.Queue()
        self.state = run_input.state
        self.terminal: StopEvent | None = None
        self.trace: RunTrace | None = None
        self.count_step = count_step
        self._recorder = recorder
        self._journal = recorder.journal
        self._timeout = timeout
        self._max_event_size = max_event_size
        self._clock = clock
        self._runner: _ControlLoopRunner | None = None
        self._tick: WorkflowTick | None = None
        self._ticks_since_snapshot = 0
        self._timers: Sequence[Timer] = ()
        self._awaited: dict[type[Event], None] = {}
        self._closed = False

    # What is asked from outside.

    @property
    def awaited(self) -> Sequence[type[Event]]:
        """The events that steps of the run wait for, or have waited for."""
        return tuple(self._awaited)

    def list_waiters(self) -> Sequence[Waiter]:
        """Return the waiters of the run's steps that no event has resolved yet."""
        broker = self.run_input.broker if self._runner is None else self._runner.state
        return open_waiters(broker)

    def restore(self, timers: Sequence[Timer]) -> None:
        """Take over what the journal says of timers and waiters."""
        self._timers = timers
        self._awaited = dict.fromkeys(waiter.event_class for waiter in self.list_waiters())

    def deliver(self, delivery: Delivery) -> None:
        """Hand an event from outside to the engine."""
        self.mailbox.put_nowait(delivery.to_tick())

    def cancel(self) -> bool:
        """Ask the engine to cancel the run; return false where it does not execute it."""
        if self._runner is None:
            return False
        self.mailbox.put_nowait(TickCancelRun())
        return True

    def close(self) -> None:
        """Write down nothing more: the run is ended from outside, or leaves memory."""
        self._closed = True

    def end(self) -> None:
        """Let go of the engine's loop, which has ended."""
        self._runner = None

    def count_alive(self, seconds: float) -> float | None:
        """Count seconds in which the run was not in memory; return what the timeout has left."""
        if self._timeout is None:
            return None
        broker = self.run_input.broker
        broker.elapsed_alive += seconds
        return self._timeout - broker.elapsed_alive

    def write_state(self) -> None:
        """Write down the run's `ctx.store`."""
        try:
            self._journal.set_state(self.state.encode(self.run_input.serializer))
        except NotSerializable as error:
            self._journal.set_state(UNRESTORABLE)
            self._recorder.mark_not_resumable(f"its state cannot be stored: {error}")

    def write_snapshot(self) -> bool:
        """Write down the engine's state whole; return false while that cannot be done."""
        if self._runner is None:
            broker, timers = self.run_input.broker, self._timers
        else:
            broker, timers = self._runner.state, timers_of(self._runner)
        snapshot = take_snapshot(broker, self.run_input.serializer, timers)
        if snapshot is None:
            return False
        self._journal.set_snapshot(snapshot)
        self._ticks_since_snapshot = 0
        return True

    @property
    def is_in_snapshot(self) -> bool:
        """Return whether the last snapshot holds all that the engine has done."""
        return self._ticks_since_snapshot == 0

    # What the engine's adapters call.

    def begin(self, runner: _ControlLoopRunner) -> None:
        """Take the control loop that is about to run, and set its timers again."""
        self._runner = runner
        for timer in self._timers:
            runner.schedule_tick(timer.tick, timer.at)

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return self._clock().timestamp()

    async def write_event(self, event: Event) -> None:
        """Put an event into the stream; await room when too much is uncommitted.

        While a unit is open it is the engine itself that writes: then a stop event is the run's
        terminal event. A step's own stop event, of a nested workflow say, is one like any other.
        """
        self._write(event)
        if not self._journal.is_open:
            await self._journal.wait_for_room()

    def write_at_once(self, event: Event) -> bool:
        """Put an event into the stream, unless too much is uncommitted; say whether it is there."""
        if not self._journal.has_room:
            return False
        self._write(event)
        return True

    def on_tick(self, tick: WorkflowTick) -> None:
        """Write down a tick, and with a step's result the state that the step left."""
        self._journal.open_unit()
        self._tick = tick
        self._ticks_since_snapshot += 1
        try:
            encoded = encode_tick(tick)
            self._journal.add_tick(encoded)
            if len(encoded) > self._max_event_size and isinstance(tick, TickAddEvent):
                self._check_size(tick.event)
        except NotSerializable as error:
            self._recorder.mark_not_resumable(f"what a step took or gave cannot be stored: {error}")
        if isinstance(tick, TickStepResult):
            self._end_step(tick)
        elif isinstance(tick, TickAddEvent):
            self._recorder.event_taken(tick.event)
        elif isinstance(tick, TickSessionStart):
            self._resume_steps()

    def after_tick(self) -> None:
        """Make what the tick caused ready to be committed, as one unit."""
        terminal, self.terminal = self.terminal, None
        if terminal is not None:
            # A stop event that was published into the stream, and did not end the run.
            self._recorder.add_event(terminal)
        if self._ticks_since_snapshot >= SNAPSHOT_TICKS:
            self.write_snapshot()
        came_in = not isinstance(self._tick, IDLE_TICKS)
        self._tick = None
        self._recorder.end_tick(self.list_waiters, came_in=came_in)

    # What follows from it.

    def _write(self, event: Event) -> None:
        if self.terminal is not None or self._closed:
            return
        by_engine = self._journal.is_open
        if by_engine and isinstance(event, StopEvent):
            self.terminal = event
            return
        try:
            if isinstance(event, InputRequiredEvent):
                self._recorder.add_question(event, waiter_of(event, self._tick))
            else:
                self._recorder.add_event(event)
        except NotSerializable as error:
            self._recorder.cannot_go_on(f"An event could not be written to the stream: {error}.")
        if by_engine and isinstance(event, WorkflowIdleEvent):
            self._wait()

    def _wait(self) -> None:
        if self._runner is None:
            return
        wake_at = min((timer.at for timer in timers_of(self._runner)), default=None)
        spent = self._runner.state.elapsed_alive
        self._recorder.wait(
            wake_at=datetime.fromtimestamp(wake_at, UTC) if wake_at is not None else None,
            timeout_left=self._timeout - spent if self._timeout is not None else None,
        )

    def _end_step(self, tick: TickStepResult) -> None:
        if self.state.end_step(tick.invocation_id):
            self.write_state()
        for result in tick.result:
            if isinstance(result, AddWaiter):
                self._awaited[result.event_type] = None
        self._recorder.step_finished()

    def _resume_steps(self) -> None:
        """Let the state know which step that runs again is which of those that were cut off."""
        if self._runner is None:
            return
        reruns = find_reruns(self.run_input.broker, self._runner.state)
        if self.state.rename_steps(reruns):
            self.write_state()

    def _check_size(self, event: Event) -> None:
        """End the run where an event that a step gave is too large."""
        try:
            encode_event(event, max_size=self._max_event_size)
        except NotSerializable as error:
            self._recorder.cannot_go_on(f"An event is too large: {error}.")
