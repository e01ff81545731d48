"""A run from its journal: the snapshot, and the ticks after it, through the engine's reducer."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json
from workflows.context.serializers import BaseSerializer, JsonSerializer
from workflows.runtime.control_loop.reduce import _reduce_tick
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
from app.engine.outcome import Outcome
from app.engine.served import ServedWorkflow
from app.engine.session import Delivery, RunInput
from app.engine.snapshots import Snapshot, Timer, wrap
from app.engine.state import TrackedState
from app.engine.waiters import open_waiters
from app.reads import Reads
from schemas.records import InboxRecord, Phase, RunRecord, SnapshotRecord, TickRecord

PAGE = 1_000


class NotRecoverable(Exception):
    """The run can never go on; the sentence says why."""


class Misfit(NotRecoverable):
    """The run cannot go on with the workflows that are served now; the sentence says why."""


@dataclass(frozen=True, slots=True)
class StoredJournal:
    """All that the store has of a run."""

    record: RunRecord
    snapshot: SnapshotRecord | None
    ticks: Sequence[TickRecord]
    state: bytes | None
    inbox: Sequence[InboxRecord]
    event_count: int


@dataclass(slots=True)
class Recovered:
    """A run as its journal left it; `ended` is set where the journal says that it had ended.

    `inbox` are the events that were sent to it and that it has not taken, by their numbers.
    `has_begun` is false for a run that the engine has not executed yet.
    """

    run_input: RunInput
    timers: list[Timer] = field(default_factory=list)
    inbox: dict[int, Delivery] = field(default_factory=dict)
    next_tick: int = 0
    has_begun: bool = True
    ended: Outcome | None = None


async def read_journal(record: RunRecord, reads: Reads) -> StoredJournal:
    """Return what the store has of a run; `StoreFailed` where it does not answer."""
    store, run_id = reads.store, record.run_id
    snapshot = await reads.ask(store.get_snapshot(run_id))
    ticks: list[TickRecord] = []
    after, is_last = snapshot.tick_sequence - 1 if snapshot else -1, False
    while not is_last:
        page = await reads.ask(store.read_ticks(run_id, after=after, limit=PAGE))
        ticks += page.ticks
        after, is_last = ticks[-1].sequence if ticks else after, page.is_last
    return StoredJournal(
        record=record,
        snapshot=snapshot,
        ticks=ticks,
        state=await reads.ask(store.get_state(run_id)),
        inbox=await reads.ask(store.read_inbox(run_id)),
        event_count=await reads.ask(store.count_events(run_id)),
    )


def recover(journal: StoredJournal, workflow: ServedWorkflow) -> Recovered:
    """Return the run that a journal describes.

    Raises `Misfit` where it does not fit the code of the workflow, and `NotRecoverable` where no
    code would make it go on.
    """
    reason = journal.record.not_resumable_because
    if reason is not None:
        raise NotRecoverable(f"The run could not be resumed: {reason}.")
    try:
        return _recover(journal, workflow)
    except NotRecoverable:
        raise
    except Exception as error:  # the classes that are built are the user's, and may raise anything
        reason = outcome.describe(error).partition("\n")[0]
        raise Misfit(
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
    recovered.inbox = {
        record.number: Delivery.decode(record.delivery, serializer) for record in journal.inbox
    }
    may_be_new = journal.record.phase in (Phase.QUEUED, Phase.HELD)
    recovered.has_begun = bool(recovered.next_tick or journal.event_count or not may_be_new)
    waiting = {waiter.id for waiter in open_waiters(run_input.broker)}
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
            raise Misfit(
                f"The run could not be resumed: the workflow no longer has the step '{step}',"
                " which has work to do."
            )
    broker = BrokerState.from_serialized(snapshot.context, workflow.workflow, serializer)
    for required in snapshot.requirements:
        for waiter in broker.workers[StepId.from_str(required.step)].collected_waiters:
            if waiter.waiter_id == required.waiter_id:
                waiter.requirements = wrap(required.fields)
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
            result.requirements.update(wrap(result.requirements))


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
