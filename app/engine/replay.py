"""A run from its journal: the snapshot, and the ticks after it, through the engine's reducer."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import from_json
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
)

from workflow_server.app.engine import outcome
from workflow_server.app.engine.outcome import Outcome
from workflow_server.app.engine.payloads import PayloadMissing, Payloads, has_payloads, put_back
from workflow_server.app.engine.run_input import Delivery, RunInput
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.snapshots import Timer, read_snapshot, wrap
from workflow_server.app.engine.state import TrackedState
from workflow_server.app.engine.state_documents import merge
from workflow_server.app.engine.tick_log import Written
from workflow_server.app.engine.ticks import decode_tick
from workflow_server.app.engine.values.codec import is_current
from workflow_server.app.engine.waiters import open_waiters
from workflow_server.app.reads import Reads
from workflow_server.schemas.records import (
    InboxRecord,
    PayloadRecord,
    Phase,
    RunRecord,
    SnapshotRecord,
    StoredState,
    TickRecord,
)

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
    payloads: Sequence[PayloadRecord]
    state: StoredState | None
    inbox: Sequence[InboxRecord]
    next_sequence: int


@dataclass(slots=True)
class Recovered:
    """A run as its journal left it; `ended` is set where the journal says that it had ended.

    `inbox` are the events that were sent to it and that it has not taken, by their numbers.
    `has_begun` is false for a run that the engine has not executed yet.
    """

    run_input: RunInput
    timers: list[Timer] = field(default_factory=list)
    written: Written = field(default_factory=Written)
    inbox: dict[int, Delivery] = field(default_factory=dict)
    next_tick: int = 0
    next_change: int = 0
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
    documents = [tick.tick for tick in ticks] + ([snapshot.snapshot] if snapshot else [])
    return StoredJournal(
        record=record,
        snapshot=snapshot,
        ticks=ticks,
        payloads=await _read_payloads(run_id, reads) if any(map(has_payloads, documents)) else (),
        state=await reads.ask(store.get_state(run_id)),
        inbox=await reads.ask(store.read_inbox(run_id)),
        next_sequence=await reads.ask(store.next_sequence(run_id)),
    )


async def _read_payloads(run_id: str, reads: Reads) -> Sequence[PayloadRecord]:
    payloads: list[PayloadRecord] = []
    after = -1
    while page := await reads.ask(reads.store.read_payloads(run_id, after=after, limit=PAGE)):
        payloads += page
        after = page[-1].number
    return payloads


def recover(journal: StoredJournal, workflow: ServedWorkflow) -> Recovered:
    """Return the run that a journal describes.

    Raises `Misfit` where it does not fit the code of the workflow, and `NotRecoverable` where no
    code would make it go on.
    """
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
    codec, older = workflow.codec, workflow.older_serializer
    run_input = RunInput(
        start_event=None,
        broker=BrokerState.from_workflow(workflow.workflow),
        state=TrackedState(workflow.state_class()),
        codec=codec,
    )
    recovered = Recovered(run_input, written=_written(journal))
    if journal.state is not None:
        state = merge(journal.state)
        run_input.state = TrackedState.decode(state, codec, older, resumes=True)
        recovered.next_change = journal.state.next_change
    journal = _complete(journal)
    if journal.snapshot is not None:
        _load_snapshot(recovered, journal.snapshot, workflow)
    _replay(recovered, journal, workflow)
    recovered.inbox = {
        record.number: Delivery.decode(record.delivery, codec, older) for record in journal.inbox
    }
    if not run_input.broker.is_running and recovered.ended is None:
        run_input.start_event = _start_event(journal.record, recovered.inbox, workflow)
    may_be_new = journal.record.phase in (Phase.QUEUED, Phase.HELD)
    has_events = journal.next_sequence > journal.record.first_sequence
    recovered.has_begun = bool(recovered.next_tick or has_events or not may_be_new)
    waiting = {waiter.id for waiter in open_waiters(run_input.broker)}
    recovered.timers = [timer for timer in recovered.timers if timer.tick.waiter_id in waiting]
    return recovered


def _written(journal: StoredJournal) -> Written:
    return Written(
        payloads=Payloads(journal.payloads),
        snapshot_bytes=len(journal.snapshot.snapshot) if journal.snapshot is not None else 0,
        ticks=len(journal.ticks),
        tick_bytes=sum(len(record.tick) for record in journal.ticks),
    )


def _complete(journal: StoredJournal) -> StoredJournal:
    """Return a journal whose ticks and snapshot are whole again."""
    payloads = {record.number: record.payload for record in journal.payloads}
    try:
        snapshot = journal.snapshot
        if snapshot is not None:
            snapshot = replace(snapshot, snapshot=put_back(snapshot.snapshot, payloads))
        ticks = [replace(tick, tick=put_back(tick.tick, payloads)) for tick in journal.ticks]
    except PayloadMissing as error:
        raise NotRecoverable(
            f"The run could not be resumed: its journal is damaged, for {error}."
        ) from error
    return replace(journal, snapshot=snapshot, ticks=ticks)


def _load_snapshot(recovered: Recovered, record: SnapshotRecord, workflow: ServedWorkflow) -> None:
    codec, older = workflow.codec, workflow.older_serializer
    snapshot = read_snapshot(record.snapshot, codec, older)
    serializer = codec if is_current(record.snapshot) else older
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
                waiter.requirements = required.restore()
    recovered.run_input.broker = broker
    recovered.timers = list(snapshot.timers)
    recovered.next_tick = record.tick_sequence


def _replay(recovered: Recovered, journal: StoredJournal, workflow: ServedWorkflow) -> None:
    broker = recovered.run_input.broker
    for record in journal.ticks:
        if record.sequence != recovered.next_tick:
            raise NotRecoverable(
                "The run could not be resumed: its journal is damaged, for tick"
                f" {recovered.next_tick} is missing."
            )
        tick = decode_tick(record.tick, workflow.codec, workflow.older_serializer)
        if isinstance(tick, TickStepResult) and not is_current(record.tick):
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


def _start_event(record: RunRecord, inbox: Mapping[int, Delivery], workflow: ServedWorkflow) -> Any:
    for delivery in inbox.values():
        if delivery.starts:
            return delivery.event
    if record.start_event is None:
        raise NotRecoverable("The run could not be resumed: its start event is missing.")
    return workflow.rebuild_start_event(from_json(record.start_event))
