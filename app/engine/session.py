"""A session: the engine's execution of one run, from its beginning or resumption to its end.

It is the engine's side of a run. A recorder learns what the engine does, in terms of ours; what
comes from outside (a delivery, a request to cancel) goes to the engine as ticks.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NoReturn

from workflows.events import Event, InputRequiredEvent, StopEvent, WorkflowIdleEvent
from workflows.runtime.control_loop.reduce import _reduce_tick
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import AddWaiter
from workflows.runtime.types.ticks import (
    TickAddEvent,
    TickCancelRun,
    TickIdleCheck,
    TickSessionStart,
    TickStepResult,
    TickTimeout,
    WorkflowTick,
)

from workflow_server.app.clocks import MICROS, StoreClock
from workflow_server.app.engine.asking import end_of, find_place
from workflow_server.app.engine.attempt import Attempt, note_attempt
from workflow_server.app.engine.codec import NotSerializable
from workflow_server.app.engine.pace import TOO_MUCH, TooMuchAtOnce
from workflow_server.app.engine.recording import Recorder
from workflow_server.app.engine.run_input import Delivery, RunInput
from workflow_server.app.engine.run_writer import EngineState, RunWriter
from workflow_server.app.engine.snapshots import Timer, find_reruns, timers_of
from workflow_server.app.engine.step_threads import StepThreads
from workflow_server.app.engine.steps import CutOffSteps, Runner
from workflow_server.app.engine.tick_log import EncodedSnapshot, Written
from workflow_server.app.engine.tracing import RunTrace
from workflow_server.app.engine.waiters import (
    Waiter,
    asker_of,
    describe_waiters,
    find_due,
    open_waiters,
)
from workflow_server.schemas.records import Awaited, ClockRecord

# Ticks that leave a waiting run waiting: nothing has come in.
IDLE_TICKS = (TickIdleCheck, TickSessionStart)

ENDLESS = 1e15  # seconds of a timeout that is only counted

StepCounter = Callable[[str, str, float], None]


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
        clock: StoreClock,
        count_step: StepCounter,
    ) -> None:
        self.run_id = run_id
        self.run_input = run_input
        self.mailbox: asyncio.Queue[WorkflowTick] = asyncio.Queue()
        self.state = run_input.state
        self.terminal: StopEvent | None = None
        self.trace: RunTrace | None = None
        self.cut_off = CutOffSteps()
        self.threads = StepThreads()
        self.count_step = count_step
        self._recorder = recorder
        self._journal = recorder.journal
        self._timeout = timeout
        self._max_event_size = max_event_size
        self._clock = clock
        self._runner: Runner | None = None
        self._tick: WorkflowTick | None = None
        self._writer = RunWriter(self._journal, run_input, max_event_size=max_event_size)
        self._log = self._writer.log
        self._timers: Sequence[Timer] = ()
        self._awaited: dict[type[Event], None] = {}
        self._attempts: dict[str | None, Attempt] = {}
        self._has_waiters = self._may_wait = run_input.has_context  # it may
        self._described: list[tuple[str, str]] | None = None
        self._closed = False

    # What is asked from outside.

    @property
    def awaited(self) -> Sequence[type[Event]]:
        """The events that steps of the run wait for, or have waited for."""
        return tuple(self._awaited)

    def list_waiters(self) -> Sequence[Waiter]:
        """Return the waiters of the run's steps that no event has resolved yet."""
        return open_waiters(self._broker)

    @property
    def _broker(self) -> BrokerState:
        return self.run_input.broker if self._runner is None else self._runner.state

    def describe_awaits(self) -> tuple[Awaited, ...]:
        """Return what the record says of the run's waiters."""
        timers = self._timers if self._runner is None else timers_of(self._runner)
        return describe_waiters(self.list_waiters(), timers)

    def restore(self, timers: Sequence[Timer], written: Written, *, may_wait: bool) -> None:
        """Take over what the journal says of timers and waiters, and what it has.

        `may_wait` is whether the run may be idle.
        """
        self._may_wait, self._timers = may_wait, timers
        self._log.restore(written)
        self._awaited = dict.fromkeys(waiter.event_class for waiter in self.list_waiters())
        self._has_waiters = bool(self._awaited)

    def deliver(self, delivery: Delivery) -> None:
        """Hand an event from outside to the engine."""
        if delivery.prepared is not None:
            self._log.use(delivery.prepared)
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

    def count_last_life(self, life: ClockRecord) -> None:
        """Count the time in which the run was at work before the server ended.

        The engine counts up to its last tick; the rest is written down as a tick that counts.
        """
        broker = self.run_input.broker
        stamp = broker.last_alive_stamp
        if self._timeout is None or stamp is None:
            return
        left_out = life.time / MICROS - max(stamp, life.began / MICROS)
        if left_out > 0:
            tick = TickTimeout(timeout=ENDLESS, stamped_at=stamp + left_out)
            self.run_input.broker, _ = _reduce_tick(tick, broker, stamp)
            self._log.add(tick)

    def write_state(self) -> None:
        """Write down what has changed in the run's `ctx.store`."""
        try:
            self._writer.write_state()
        except NotSerializable as error:
            self.mark_not_resumable(f"its state cannot be stored: {error}")

    def write_snapshot(self, encoded: EncodedSnapshot | None = None) -> bool:
        """Write down the engine's state whole; return false while that cannot be done.

        It is `encoded` already where it is large.
        """
        return self._writer.write_snapshot(self._find_state(), encoded)

    async def keep_snapshot(self) -> None:
        """Write down the engine's state whole, as a unit; the run waits while a large one is."""
        await self._writer.keep_snapshot(self._find_state, lambda: not self._closed)

    @property
    def is_busy(self) -> bool:
        """Return whether a tick, or a snapshot, is on its way into the journal."""
        return self._writer.is_busy

    def _find_state(self) -> EngineState:
        if self._runner is None:
            return self.run_input.broker, self._timers
        return self._runner.state, timers_of(self._runner)

    def mark_not_resumable(self, reason: str) -> None:
        """Write down why the run could not go on after a restart; its ticks are not kept then."""
        self._log.close()
        self._recorder.mark_not_resumable(reason)

    @property
    def is_in_snapshot(self) -> bool:
        """Return whether nothing was done since the last snapshot, or since the run came back."""
        return self._log.is_in_snapshot

    @property
    def is_whole(self) -> bool:
        """Return whether later code need follow nothing that the run has been through."""
        return self._log.is_whole

    # What the engine's adapters call.

    def begin(self, runner: Runner) -> None:
        """Take the control loop that is about to run, and set its timers again."""
        self._runner, runner.cut_off = runner, self.cut_off
        for timer in self._timers:
            runner.schedule_tick(timer.tick, timer.at)

    def now(self) -> float:
        """Return the time of the store's clock in seconds since the epoch."""
        return self._clock.now()

    async def write_event(self, event: Event) -> None:
        """Put an event into the stream; await room when too much is uncommitted.

        While a unit is open it is the engine itself that writes: then a stop event is the run's
        terminal event. A step's own stop event, of a nested workflow say, is one like any other.
        """
        self._write(event)
        if not self._journal.is_open:
            await self._journal.wait_for_room()

    def write_at_once(self, event: Event) -> None:
        """Put an event into the stream, for a step, which waits for room at its next wait.

        One that never waits gets `TooMuchAtOnce`: the store can be given nothing meanwhile.
        """
        if self._journal.is_full:
            self.refuse(TOO_MUCH)
        self._write(event)

    def refuse(self, sentence: str) -> NoReturn:
        """End the run for what a step does without a wait, and let the step know why."""
        self._recorder.cannot_go_on(sentence)
        raise TooMuchAtOnce(sentence)

    async def take_tick(self, tick: WorkflowTick) -> None:
        """Write down a tick, and with a step's result the state that the step left."""
        beforehand = await self._writer.encode(tick, self._take_attempt(tick))
        self._journal.open_unit()
        self._tick = tick
        try:
            self._writer.put(beforehand)
        except NotSerializable as error:
            self.mark_not_resumable(f"what a step took or gave cannot be stored: {error}")
        try:
            self._writer.put_state(beforehand.update)
        except NotSerializable as error:
            self.mark_not_resumable(f"its state cannot be stored: {error}")
        if isinstance(tick, TickStepResult):
            self._end_step(tick)
        elif isinstance(tick, TickAddEvent):
            if beforehand.too_large:
                self._refuse_large(tick.event, beforehand.too_large)
            self._recorder.event_taken(tick.event)
        elif isinstance(tick, TickSessionStart):
            self._resume_steps()

    def note_attempt(
        self, invocation: str | None, number: int, seconds: float, error: BaseException | None
    ) -> None:
        """Note how an attempt of a step has ended, for the tick that the engine makes of it."""
        if self._journal.keeps_history:
            self._attempts[invocation] = note_attempt(number, seconds, error)

    @property
    def has_room(self) -> bool:
        """Return whether steps may go on: not while a thread looks at what they could change.

        Nor while more is uncommitted than may be.
        """
        return self._journal.has_room and not self._writer.is_looking

    async def wait_for_room(self) -> None:
        """Return when the run has room again."""
        await self._journal.wait_for_room()
        while self._writer.is_looking:  # perhaps since the wait above
            await self._writer.wait()
            await self._journal.wait_for_room()

    def after_tick(self) -> None:
        """Make what the tick caused ready to be committed, as one unit."""
        terminal, self.terminal = self.terminal, None
        if terminal is not None:
            # A stop event that was published into the stream, and did not end the run.
            self._recorder.add_event(terminal)
        if self._log.is_snapshot_due and not self._log.is_heavy:
            self.write_snapshot()
        came_in = not isinstance(self._tick, IDLE_TICKS)
        self._tick = None
        if self._has_waiters:
            self._write_awaits()
        self._recorder.end_tick(self.list_waiters, came_in=came_in)

    @property
    def owes_snapshot(self) -> bool:
        """Return whether it is time for a snapshot, which is too large to be encoded at once."""
        return self._log.is_snapshot_due and not self._closed

    # What follows from it.

    def _write(self, event: Event) -> None:
        if self.terminal is not None or self._closed:
            return
        by_engine = self._journal.is_open
        if by_engine and isinstance(event, StopEvent):
            self.terminal = event
            return
        try:
            if isinstance(event, InputRequiredEvent) and by_engine:
                self._recorder.ask_at_end(event, *asker_of(event, self._tick))
            elif isinstance(event, InputRequiredEvent):
                self._recorder.ask(event, find_place())
            else:
                self._recorder.add_event(event)
        except NotSerializable as error:
            self._recorder.cannot_go_on(f"An event could not be written to the stream: {error}.")
        if by_engine and isinstance(event, WorkflowIdleEvent):
            self._wait()

    def _take_attempt(self, tick: WorkflowTick) -> Attempt | None:
        """Return what was noted of the attempt whose result a tick is."""
        if isinstance(tick, TickStepResult):
            return self._attempts.pop(tick.invocation_id, None)
        return None

    def _write_awaits(self) -> None:
        """Write down what the run waits for, where that has changed."""
        waiters = [(waiter.step, waiter.id) for waiter in self.list_waiters()]
        if waiters != self._described:
            self._described = waiters
            self._has_waiters = bool(waiters)
            self._recorder.write_awaits(self.describe_awaits())

    def _wait(self) -> None:
        if self._runner is None:
            return
        due = find_due(self.list_waiters(), timers_of(self._runner))
        spent = self._runner.state.elapsed_alive
        self._recorder.wait(
            wake_at=min(filter(None, due), default=None),
            timeout_left=self._timeout - spent if self._timeout is not None else None,
        )

    def _end_step(self, tick: TickStepResult) -> None:
        for result in tick.result:
            if isinstance(result, AddWaiter):
                self._awaited[result.event_type] = None
                self._has_waiters, self._described = True, None
        if self._recorder.has_asked(tick.invocation_id):
            self._recorder.asker_finished(end_of(tick, self._broker))
        self._recorder.step_finished()

    def _resume_steps(self) -> None:
        """Let the state know which step that runs again is which of those that were cut off."""
        if self._runner is None:
            return
        if self._may_wait:
            self.mailbox.put_nowait(TickIdleCheck())  # else the engine looks only after work
        reruns = find_reruns(self.run_input.broker, self._runner.state)
        if self.state.rename_steps(reruns):
            self.state.touch()
            self.write_state()

    def _refuse_large(self, event: Event, size: int) -> None:
        """End the run, a step of which gave an event that is too large."""
        self._recorder.cannot_go_on(
            f"An event is too large: {type(event).__name__} has {size} bytes of JSON, and"
            f" {self._max_event_size} are allowed."
        )
