"""Writer of a run: its ticks, its state and its snapshots, encoded and put into the journal.

What is heavy is encoded beside the event loop. The steps of the run, and the tasks that they make,
wait at their next wait meanwhile, so that they change nothing in it; the other runs go on.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import StepWorkerResult
from workflows.runtime.types.ticks import TickAddEvent, TickStepResult, WorkflowTick

from workflow_server.app.engine.attempt import Attempt
from workflow_server.app.engine.codec import NotSerializable
from workflow_server.app.engine.heavy import are_heavy, is_heavy
from workflow_server.app.engine.recording import Journal
from workflow_server.app.engine.run_input import RunInput
from workflow_server.app.engine.snapshots import Timer
from workflow_server.app.engine.state import UNRESTORABLE, encode_if_faithful
from workflow_server.app.engine.state_writer import StateUpdate, StateWriter
from workflow_server.app.engine.tick_log import EncodedSnapshot, EncodedTick, TickLog
from workflow_server.app.engine.ticks import measure

EngineState = tuple[BrokerState, Sequence[Timer]]


@dataclass(slots=True)
class Beforehand:
    """A tick as it is to be put into the journal, and what has changed in the state by it.

    `too_large` is the size of an event's JSON that is larger than may be, or else 0.
    """

    tick: EncodedTick
    update: StateUpdate | NotSerializable | None
    too_large: int


class RunWriter:
    """Encodes what one run does, and puts it into the journal."""

    def __init__(self, journal: Journal, run_input: RunInput, *, max_event_size: int) -> None:
        self.log = TickLog(journal, run_input.codec, run_input.payloads)
        if run_input.prepared is not None:
            self.log.use(run_input.prepared)
        self._journal = journal
        self._codec = run_input.codec
        self._state = run_input.state
        self._state.write_with(StateWriter(run_input.codec))
        self._max_event_size = max_event_size
        self._lock = asyncio.Lock()  # held while something is encoded beside the loop
        self._is_between = False  # the engine's state has a tick, and the journal does not

    @property
    def is_looking(self) -> bool:
        """Return whether a thread looks at what the run holds; steps may not change it."""
        return self._lock.locked()

    @property
    def is_busy(self) -> bool:
        """Return whether a tick, or a snapshot, is on its way into the journal."""
        return self._is_between or self._lock.locked()

    async def wait(self) -> None:
        """Return when no thread looks at what the run holds."""
        if self._lock.locked():
            async with self._lock:
                pass

    # Ticks, with the state.

    async def encode(self, tick: WorkflowTick, attempt: Attempt | None) -> Beforehand:
        """Return the tick that is to be put next.

        Where the wait is cancelled, the run can only end: the engine's state has the tick already.
        """
        changes_much = type(tick) is TickStepResult and self._state.is_heavy(tick.invocation_id)
        if not (changes_much or self._lock.locked() or _is_heavy(tick)):
            return self._encode(tick, attempt)
        self._is_between = True
        async with self._lock:
            beforehand = await self._codec.beside.do(partial(self._encode, tick, attempt))
            return self._encode_torn(beforehand, tick, attempt)

    def _encode(self, tick: WorkflowTick, attempt: Attempt | None) -> Beforehand:
        beforehand = self._encode_tick(tick, attempt)
        if type(tick) is TickStepResult and self._state.end_step(tick.invocation_id):
            beforehand.update = self._encode_state()
        return beforehand

    def _encode_tick(self, tick: WorkflowTick, attempt: Attempt | None) -> Beforehand:
        encoded, too_large = self.log.encode(tick, attempt), 0
        if type(tick) is TickAddEvent and encoded.size > self._max_event_size:
            size = measure(tick.event, self._codec)
            too_large = size if size > self._max_event_size else 0
        return Beforehand(encoded, None, too_large)

    def _encode_torn(
        self, beforehand: Beforehand, tick: WorkflowTick, attempt: Attempt | None
    ) -> Beforehand:
        """Encode here, where nobody changes it, what changed while the thread looked at it.

        The steps of other runs do not wait, and runs may share a value.
        """
        if self.log.is_closed:
            return beforehand
        update = beforehand.update
        if _is_torn(beforehand.tick.fault):
            beforehand = self._encode_tick(tick, attempt)
        if _is_torn(update):
            self._state.touch()
            update = self._encode_state()
        beforehand.update = update
        return beforehand

    def put(self, beforehand: Beforehand) -> None:
        """Write down a tick; `NotSerializable` where that cannot be."""
        self._is_between = False
        self.log.put(beforehand.tick)

    def write_state(self) -> None:
        """Write down what has changed in the state; `NotSerializable` where that cannot be."""
        self.put_state(self._encode_state())

    def _encode_state(self) -> StateUpdate | NotSerializable | None:
        try:
            return self._state.update()
        except NotSerializable as fault:
            return fault

    def put_state(self, update: StateUpdate | NotSerializable | None) -> None:
        """Write down a change of the state; `NotSerializable` where that cannot be."""
        match update:
            case None:
                return
            case StateUpdate(document, is_whole=True):
                self._journal.set_state(document)
            case StateUpdate(document):
                self._journal.add_state_change(document)
            case fault:
                self._journal.set_state(UNRESTORABLE)
                raise fault

    # Snapshots.

    def _encode_snapshot(self, state: EngineState) -> EncodedSnapshot | None:
        encode = partial(encode_if_faithful, self._state, self._codec)
        return self.log.encode_snapshot(*state, encode)

    def write_snapshot(self, state: EngineState, encoded: EncodedSnapshot | None = None) -> bool:
        """Write down the engine's state whole; return false while that cannot be done.

        It is `encoded` already where it is large.
        """
        if self.is_busy:
            return False
        return self.log.put_snapshot(encoded or self._encode_snapshot(state))

    async def keep_snapshot(
        self, find_state: Callable[[], EngineState], may_write: Callable[[], bool]
    ) -> None:
        """Do the same, as a unit; a large snapshot is encoded beside the loop.

        The run's next tick waits for it, and nothing is written where by then nothing may be.
        """
        if not self.log.is_heavy:
            self._journal.open_unit()
            self.write_snapshot(find_state())
            self._journal.close_unit()
            return
        async with self._lock:
            if self._is_between or not may_write():
                return
            encoded: list[EncodedSnapshot | None] = []
            state = find_state()
            try:
                await self._codec.beside.do(lambda: encoded.append(self._encode_snapshot(state)))
            finally:  # also where the wait was cancelled: it has new numbers for large values
                if encoded and may_write():
                    self._journal.open_unit()
                    self.log.put_snapshot(encoded[0])
                    self._journal.close_unit()


def _is_torn(fault: object) -> bool:
    """Return whether a fault may be that a container changed while it was looked through."""
    return isinstance(fault, NotSerializable) and type(fault.__cause__) is RuntimeError


def _is_heavy(tick: WorkflowTick) -> bool:
    """Return whether a tick has heavy values; ticks of other kinds have small ones."""
    if type(tick) is TickAddEvent:
        return is_heavy(tick.event)
    if type(tick) is not TickStepResult:
        return False
    for each in tick.result:
        heavy = is_heavy(each.result) if type(each) is StepWorkerResult else are_heavy((each,))
        if heavy:
            return True
    return is_heavy(tick.event)
