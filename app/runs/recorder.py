"""The engine's side of a run: what the engine does is written down here, as it does it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from workflows.events import (
    Event,
    InputRequiredEvent,
    InternalDispatchEvent,
    StopEvent,
    WorkflowIdleEvent,
)
from workflows.runtime.control_loop.runner import _ControlLoopRunner
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import AddWaiter, StepWorkerWaiter
from workflows.runtime.types.ticks import (
    TickAddEvent,
    TickIdleCheck,
    TickSessionStart,
    TickStepResult,
    WorkflowTick,
)

from app.engine.codec import NotSerializable, encode_event, encode_tick
from app.engine.outcome import clean_text
from app.engine.replay import Recovered, Timer, find_reruns, take_snapshot, timers_of
from app.engine.served import RunInput
from app.engine.state import UNRESTORABLE
from app.engine.tracing import RunTrace
from app.engine.waiters import open_waiters, waiter_of
from app.runs.journal import RunJournal
from app.runs.questions import OpenQuestions
from app.telemetry.logs import get_logger
from schemas.records import Idle
from schemas.times import to_micros

logger = get_logger(__name__)

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time, aware, in UTC."""
    return datetime.now(UTC)


SNAPSHOT_TICKS = 100  # after so many ticks a run's state is written whole, and they are dropped

# Ticks that leave an idle run idle: nothing has come in.
IDLE_TICKS = (TickIdleCheck, TickSessionStart)


class TranscriptReader(Protocol):
    """Who must know at once of what is written down."""

    def event_taken(self, event: Event) -> None:
        """An event from outside has reached the engine, in the unit that is open."""

    def step_ended(self, step: str, status: str, seconds: float) -> None:
        """An attempt of a step has ended, well or not."""

    def became_idle(self) -> None:
        """The run waits for an event from outside."""

    def went_on(self) -> None:
        """The run is idle no more."""

    def cannot_go_on(self, sentence: str) -> None:
        """The run must end as failed, for the reason that the sentence gives."""


class Transcript:
    """Writes into a run's journal what the engine tells, and knows where the run stands.

    `terminal` is the run's last event, once the engine has published it. It is held back until the
    outcome is known, and no event follows it.
    """

    def __init__(
        self,
        journal: RunJournal,
        run_input: RunInput,
        *,
        timeout: float | None,
        max_event_size: int,
        clock: Clock,
        reader: TranscriptReader,
    ) -> None:
        self.run_id = journal.record.run_id
        self.mailbox: asyncio.Queue[WorkflowTick] = asyncio.Queue()
        self.state = run_input.state
        self.runner: _ControlLoopRunner | None = None
        self.terminal: StopEvent | None = None
        self.trace: RunTrace | None = None
        self.questions = OpenQuestions(journal.record.questions)
        self.ticks_since_snapshot = 0
        self._broker = run_input.broker
        self._journal = journal
        self._serializer = run_input.serializer
        self._timeout = timeout
        self._max_event_size = max_event_size
        self._clock = clock
        self._reader = reader
        self._tick: WorkflowTick | None = None
        self._timers: Sequence[Timer] = ()
        self._awaited: dict[type[Event], None] = {}
        self._closed = False

    @property
    def awaited(self) -> Sequence[type[Event]]:
        """The events that steps of the run wait for, or have waited for."""
        return tuple(self._awaited)

    @property
    def waiters(self) -> Sequence[StepWorkerWaiter[Event]]:
        """The waiters of the run's steps that no event has resolved yet."""
        return open_waiters(self.runner.state) if self.runner is not None else ()

    def restore(self, recovered: Recovered) -> None:
        """Take over where the journal of the run ends."""
        self._timers = recovered.timers
        waiters = open_waiters(recovered.run_input.broker)
        self._awaited = dict.fromkeys(waiter.waiting_for_event for waiter in waiters)

    def close(self) -> None:
        """Write down nothing more: the run is ended from outside."""
        self._closed = True

    # What the engine calls.

    def begin(self, runner: _ControlLoopRunner) -> None:
        """Take the control loop that is about to run, and set its timers again."""
        self.runner = runner
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

    def _write(self, event: Event) -> None:
        if self.terminal is not None or self._closed:
            return
        if self._journal.is_open and isinstance(event, StopEvent):
            self.terminal = event
            return
        try:
            self.add_event(event)
        except NotSerializable as error:
            self._reader.cannot_go_on(f"An event could not be written to the stream: {error}.")

    def step_ended(self, step: str, status: str, seconds: float) -> None:
        """Pass on what became of an attempt of a step, and how many seconds it took."""
        self._reader.step_ended(step, status, seconds)

    def on_tick(self, tick: WorkflowTick) -> None:
        """Write down a tick, and with a step's result the state that the step left."""
        self._journal.open_unit()
        self._tick = tick
        self.ticks_since_snapshot += 1
        try:
            encoded = encode_tick(tick)
            self._journal.add_tick(encoded)
            if len(encoded) > self._max_event_size and isinstance(tick, TickAddEvent):
                self._check_size(tick.event)
        except NotSerializable as error:
            self._mark_unresumable(f"what a step took or gave cannot be stored: {error}")
        if isinstance(tick, TickStepResult):
            self._end_step(tick)
        elif isinstance(tick, TickAddEvent):
            self._reader.event_taken(tick.event)
        elif isinstance(tick, TickSessionStart):
            self._resume_steps()

    def after_tick(self) -> None:
        """Make what the tick caused ready to be committed, as one unit."""
        terminal, self.terminal = self.terminal, None
        if terminal is not None:
            # A stop event that was published into the stream, and did not end the run.
            self.add_event(terminal)
        if self.questions.questions:
            self.questions.drop_resolved(self.waiters)
            self.write_questions()
        if self._journal.record.idle is not None and not isinstance(self._tick, IDLE_TICKS):
            self._journal.set_record(replace(self._journal.record, idle=None))
            self._reader.went_on()
        if self.ticks_since_snapshot >= SNAPSHOT_TICKS and self.runner is not None:
            self.write_snapshot(self.runner.state)
        self._tick = None
        self._journal.close_unit()

    # What is written down.

    def add_event(self, event: Event) -> None:
        """Write down an event, and what it says of the run; `NotSerializable` if it cannot be."""
        internal = isinstance(event, InternalDispatchEvent)
        sequence = self._journal.add_event(
            encode_event(event, max_size=self._max_event_size),
            internal=internal,
            emitted_at=to_micros(self._clock()),
        )
        if isinstance(event, WorkflowIdleEvent):
            self._write_idle()
        elif isinstance(event, InputRequiredEvent):
            self.questions.ask(sequence, waiter_of(event, self._tick))
            self.write_questions()

    def write_questions(self) -> None:
        """Write down which questions are open."""
        record = self._journal.record
        if record.questions != self.questions.questions:
            questions = self.questions.questions
            self._journal.set_record(replace(record, questions=questions, updated_at=self._clock()))

    def write_state(self) -> None:
        """Write down the run's `ctx.store`."""
        try:
            self._journal.set_state(self.state.encode(self._serializer))
        except NotSerializable as error:
            self._journal.set_state(UNRESTORABLE)
            self._mark_unresumable(f"its state cannot be stored: {error}")

    def write_snapshot(self, broker: BrokerState) -> None:
        """Write down the engine's state whole, where that can be done."""
        timers = timers_of(self.runner) if self.runner else self._timers
        snapshot = take_snapshot(broker, self._serializer, timers)
        if snapshot is not None:
            self._journal.set_snapshot(snapshot)
            self.ticks_since_snapshot = 0

    def _check_size(self, event: Event) -> None:
        """End the run where an event that a step gave is too large."""
        try:
            encode_event(event, max_size=self._max_event_size)
        except NotSerializable as error:
            self._reader.cannot_go_on(f"An event is too large: {error}.")

    def _resume_steps(self) -> None:
        """Let the state know which step that runs again is which of those that were cut off."""
        if self.runner is None:
            return
        if self.state.rename_steps(find_reruns(self._broker, self.runner.state)):
            self.write_state()

    def _end_step(self, tick: TickStepResult) -> None:
        if self.state.end_step(tick.invocation_id):
            self.write_state()
        for result in tick.result:
            if isinstance(result, AddWaiter):
                self._awaited[result.event_type] = None
        if self._journal.record.resumes:
            self._journal.set_record(replace(self._journal.record, resumes=0))

    def _write_idle(self) -> None:
        if self.runner is None or self._journal.record.idle is not None:
            return
        wake_at = min((t.at for t in timers_of(self.runner)), default=None)
        spent = self.runner.state.elapsed_alive
        idle = Idle(
            since=self._clock(),
            wake_at=datetime.fromtimestamp(wake_at, UTC) if wake_at is not None else None,
            timeout_left=self._timeout - spent if self._timeout is not None else None,
        )
        self._journal.set_record(replace(self._journal.record, idle=idle))
        self._reader.became_idle()

    def _mark_unresumable(self, reason: str) -> None:
        if self._journal.record.unresumable is None:
            logger.warning("run cannot be resumed", run_id=self.run_id, reason=reason)
            reason = clean_text(reason)
            self._journal.set_record(replace(self._journal.record, unresumable=reason))
