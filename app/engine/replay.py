"""A run from its journal: the snapshot, and the ticks after it, through the engine's reducer."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json, to_jsonable_python
from workflows.context.context_types import SerializedContext
from workflows.context.serializers import BaseSerializer, JsonSerializer
from workflows.runtime.control_loop.reduce import _reduce_tick
from workflows.runtime.control_loop.runner import _ControlLoopRunner
from workflows.runtime.types.commands import (
    CommandCompleteRun,
    CommandFailWorkflow,
    CommandHalt,
    CommandScheduleWaiterTimeout,
    WorkflowCommand,
)
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import AddWaiter
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import (
    TickStepResult,
    TickWaiterTimeout,
    WorkflowTickAdapter,
)

from app.engine import outcome
from app.engine.codec import NotSerializable
from app.engine.outcome import Outcome
from app.engine.served import RunInput, ServedWorkflow
from app.engine.state import TrackedState
from app.engine.waiters import open_waiters
from schemas.records import RunRecord, SnapshotRecord, TickRecord
from stores.base import Store

PAGE = 1_000


class NotRecoverable(Exception):
    """The run cannot go on; the sentence says why."""


class Timer(BaseModel):
    """When a `wait_for_event` times out, in seconds since the epoch."""

    model_config = ConfigDict(frozen=True)

    at: float
    tick: TickWaiterTimeout


class Requirements(BaseModel):
    """What a `wait_for_event` requires of its event, as JSON."""

    step: str
    waiter_id: str
    fields: dict[str, Any]


class Snapshot(BaseModel):
    """The engine's state of a run, and what the engine does not keep in it of its waiters."""

    context: SerializedContext
    timers: list[Timer]
    requirements: list[Requirements] = Field(default_factory=list)


class Required:
    """A value that was required and went through JSON: it equals what has the same JSON."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        try:
            return bool(to_jsonable_python(other) == self.value)
        except (TypeError, ValueError):
            return False

    __hash__ = None  # type: ignore[assignment]  # as of any object that equals others


@dataclass(frozen=True, slots=True)
class StoredJournal:
    """What the store has of a run."""

    record: RunRecord
    snapshot: SnapshotRecord | None
    ticks: Sequence[TickRecord]
    state: bytes | None
    event_count: int


@dataclass(slots=True)
class Recovered:
    """A run as its journal left it; `ended` is set where the journal says that it had ended."""

    run_input: RunInput
    timers: list[Timer] = field(default_factory=list)
    next_tick: int = 0
    ended: Outcome | None = None


async def read_journal(record: RunRecord, store: Store) -> StoredJournal:
    """Return what the store has of a run."""
    snapshot = await store.get_snapshot(record.run_id)
    ticks: list[TickRecord] = []
    after = snapshot.tick_sequence - 1 if snapshot else -1
    while page := await store.read_ticks(record.run_id, after=after, limit=PAGE):
        ticks += page
        after = page[-1].sequence
    return StoredJournal(
        record=record,
        snapshot=snapshot,
        ticks=ticks,
        state=await store.get_state(record.run_id),
        event_count=await store.count_events(record.run_id),
    )


def recover(journal: StoredJournal, workflow: ServedWorkflow) -> Recovered:
    """Return the run that a journal describes; `NotRecoverable` where it cannot go on."""
    if journal.record.unresumable is not None:
        raise NotRecoverable(f"The run could not be resumed: {journal.record.unresumable}.")
    try:
        return _recover(journal, workflow)
    except NotRecoverable:
        raise
    except Exception as error:  # the classes that are built are the user's, and may raise anything
        reason = outcome.describe(error).partition("\n")[0]
        raise NotRecoverable(
            "The run could not be resumed: its journal does not fit the workflow's code"
            f" ({reason})."
        ) from error


def _recover(journal: StoredJournal, workflow: ServedWorkflow) -> Recovered:
    serializer = _serializer_of(workflow)
    run_input = RunInput(
        start_event=None,
        broker=BrokerState.from_workflow(workflow.workflow),
        state=TrackedState(workflow.state_class()),
        serializer=workflow.runtime.get_serializer(workflow.workflow),
    )
    recovered = Recovered(run_input)
    if journal.state is not None:
        run_input.state = TrackedState.decode(journal.state, serializer, resumes=True)
    if journal.snapshot is not None:
        _load_snapshot(recovered, journal.snapshot, workflow, serializer)
    _replay(recovered, journal, serializer)
    if not run_input.broker.is_running and recovered.ended is None:
        run_input.start_event = _start_event(journal.record, workflow)
    waiting = {waiter.waiter_id for waiter in open_waiters(run_input.broker)}
    recovered.timers = [timer for timer in recovered.timers if timer.tick.waiter_id in waiting]
    return recovered


def _load_snapshot(
    recovered: Recovered,
    record: SnapshotRecord,
    workflow: ServedWorkflow,
    serializer: BaseSerializer,
) -> None:
    with serializer.validation_context():
        snapshot = Snapshot.model_validate_json(record.snapshot)
    known = {str(step) for step in recovered.run_input.broker.workers}
    for step, worker in snapshot.context.workers.items():
        busy = worker.queue or worker.in_progress or worker.collected_waiters
        if busy and step not in known:
            raise NotRecoverable(
                f"The run could not be resumed: the workflow no longer has the step '{step}',"
                " which has work to do."
            )
    broker = BrokerState.from_serialized(snapshot.context, workflow.workflow, serializer)
    for required in snapshot.requirements:
        for waiter in broker.workers[StepId.from_str(required.step)].collected_waiters:
            if waiter.waiter_id == required.waiter_id:
                waiter.requirements = _wrap(required.fields)
    recovered.run_input.broker = broker
    recovered.timers = list(snapshot.timers)
    recovered.next_tick = record.tick_sequence


def _replay(recovered: Recovered, journal: StoredJournal, serializer: BaseSerializer) -> None:
    broker = recovered.run_input.broker
    for record in journal.ticks:
        if record.sequence != recovered.next_tick:
            raise NotRecoverable(
                "The run could not be resumed: its journal is damaged, for tick"
                f" {recovered.next_tick} is missing."
            )
        with serializer.validation_context():
            tick = WorkflowTickAdapter.validate_json(record.tick)
        if isinstance(tick, TickStepResult):
            _restore_requirements(tick)
        now = getattr(tick, "stamped_at", None) or time.time()
        broker, commands = _reduce_tick(tick, broker, now, run_id=journal.record.run_id)
        recovered.next_tick += 1
        recovered.timers += _timers(commands, now)
        recovered.ended = _ending(commands) or recovered.ended
    recovered.run_input.broker = broker


def _restore_requirements(tick: TickStepResult) -> None:
    for result in tick.result:
        if isinstance(result, AddWaiter):
            result.requirements.update(_wrap(result.requirements))


def _wrap(requirements: dict[str, Any]) -> dict[str, Any]:
    return {name: Required(value) for name, value in requirements.items()}


def _unwrap(requirements: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.value if isinstance(value, Required) else to_jsonable_python(value)
        for name, value in requirements.items()
    }


def _timers(commands: Iterable[WorkflowCommand], now: float) -> list[Timer]:
    return [
        Timer(
            at=now + command.timeout,
            tick=TickWaiterTimeout(step_id=command.step_id, waiter_id=command.waiter_id),
        )
        for command in commands
        if isinstance(command, CommandScheduleWaiterTimeout)
    ]


def _ending(commands: Iterable[WorkflowCommand]) -> Outcome | None:
    for command in commands:
        match command:
            case CommandCompleteRun(result=result):
                return outcome.completed(result)
            case CommandHalt(exception=error) | CommandFailWorkflow(exception=error):
                return outcome.failed(error, None)
            case _:
                continue
    return None


def _start_event(record: RunRecord, workflow: ServedWorkflow) -> Any:
    if record.start_event is None:
        raise NotRecoverable("The run could not be resumed: its start event is missing.")
    return workflow.rebuild_start_event(from_json(record.start_event))


def take_snapshot(
    broker: BrokerState, serializer: BaseSerializer, timers: Sequence[Timer]
) -> bytes | None:
    """Return a run's state as a snapshot, or None while it cannot be kept whole.

    The engine's own form does not say of a waiter that it has timed out.
    """
    for worker in broker.workers.values():
        if any(waiter.timed_out for waiter in worker.collected_waiters):
            return None
    try:
        snapshot = Snapshot(
            context=broker.to_serialized(serializer),
            timers=list(timers),
            requirements=[
                Requirements(
                    step=str(step),
                    waiter_id=waiter.waiter_id,
                    fields=_unwrap(waiter.requirements),
                )
                for step, worker in broker.workers.items()
                for waiter in worker.collected_waiters
                if waiter.requirements
            ],
        )
        return snapshot.model_dump_json().encode()
    except (TypeError, ValueError, RecursionError, NotSerializable):
        return None


def timers_of(runner: _ControlLoopRunner) -> list[Timer]:
    """Return the timers that an engine's runner has scheduled, or is about to carry out.

    The workflow's own timeout and retry delays are not among them: the engine schedules those anew.
    """
    due = [(0.0, 0, tick) for tick in runner.tick_buffer]
    return [
        Timer(at=at, tick=tick)
        for at, _, tick in [*due, *runner.scheduled_wakeups]
        if isinstance(tick, TickWaiterTimeout)
    ]


def find_reruns(before: BrokerState, after: BrokerState) -> dict[str, str]:
    """Return the new ids of the invocations that were cut off, by the ones they had before.

    When a session starts the engine runs them again, those of a step in reverse, and before what
    was in its queue. Which have no place, as the step has fewer workers now, are not among them.
    """
    return {
        old.invocation_id: new.invocation_id
        for step, worker in before.workers.items()
        for old, new in zip(
            reversed(worker.in_progress), after.workers[step].in_progress, strict=False
        )
        if old.invocation_id is not None and new.invocation_id is not None
    }


class _RecoverySerializer(JsonSerializer):
    """Builds the workflow's own classes from its table, and imports others as the engine does."""

    def __init__(self, workflow: ServedWorkflow) -> None:
        super().__init__()
        self._declared = workflow.decoder.serializer

    def resolve_class(self, qualified_name: str) -> type[Any]:
        try:
            return self._declared.resolve_class(qualified_name)
        except ValueError:
            return super().resolve_class(qualified_name)


def _serializer_of(workflow: ServedWorkflow) -> BaseSerializer:
    serializer = workflow.runtime.get_serializer(workflow.workflow)
    if type(serializer) is JsonSerializer:
        return _RecoverySerializer(workflow)
    return serializer
