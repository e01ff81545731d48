"""A run from its journal: the snapshot, and the ticks after it, through the engine's reducer."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pydantic_core import from_json
from workflows.context.serializers import BaseSerializer
from workflows.events import StopEvent
from workflows.runtime.control_loop.reduce import _reduce_tick
from workflows.runtime.types.commands import (
    CommandCompleteRun,
    CommandFailWorkflow,
    CommandHalt,
    CommandPublishEvent,
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
from workflow_server.app.engine.attempt import shorten
from workflow_server.app.engine.giving_way import GivingWay
from workflow_server.app.engine.heavy import LARGE, Beside
from workflow_server.app.engine.misfits import (
    RESUMED,
    NotRecoverable,
    cannot_follow,
    find_lost_wait,
    find_lost_work,
    unreadable,
)
from workflow_server.app.engine.outcome import Outcome
from workflow_server.app.engine.payloads import PayloadMissing, Payloads, has_payloads, put_back
from workflow_server.app.engine.run_input import Delivery, RunInput
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.snapshots import Timer, read_snapshot, wrap
from workflow_server.app.engine.state import TrackedState, encode_if_faithful
from workflow_server.app.engine.state_documents import merge
from workflow_server.app.engine.tick_log import Written, encode_snapshot
from workflow_server.app.engine.ticks import decode_tick
from workflow_server.app.engine.values.codec import Codec, is_current
from workflow_server.app.engine.waiters import open_waiters
from workflow_server.app.reads import Reads
from workflow_server.schemas.journals import SNAPSHOT, WHOLE
from workflow_server.schemas.records import (
    HistoryExtent,
    InboxRecord,
    PayloadRecord,
    Phase,
    RunRecord,
    SnapshotRecord,
    StoredState,
    TickRecord,
)

PAGE = 1_000
NO_HISTORY = HistoryExtent()


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
    history: HistoryExtent


@dataclass(frozen=True, slots=True)
class Kept:
    """The history of a run that the store has: its packs, and the ticks that follow them.

    `beginning` is what a run begins with that has no ticks yet, by its mark.
    """

    extent: HistoryExtent = NO_HISTORY
    ticks: Sequence[TickRecord] = ()
    beginning: Mapping[bytes, bytes] = field(default_factory=dict)


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
    kept: Kept = Kept()


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
        history=await reads.ask(store.get_history_extent(run_id))
        if record.keeps_history
        else NO_HISTORY,
    )


async def read_kept(record: RunRecord, reads: Reads) -> Kept:
    """Return the history of a run that is not brought back; what is damaged is left out."""
    if not record.keeps_history:
        return Kept()
    journal = await read_journal(record, reads)
    try:
        return _kept(await _complete(journal, Beside(), GivingWay()))
    except (NotRecoverable, ValueError, LookupError, TypeError):
        return Kept(journal.history)


def _kept(journal: StoredJournal) -> Kept:
    """Return the history of a journal whose ticks are whole."""
    if not journal.record.keeps_history:
        return Kept()
    first = journal.history.next_tick
    ticks = [record for record in journal.ticks if record.sequence >= first]
    if ticks:
        first = ticks[0].sequence
    elif journal.snapshot is not None:
        first = max(first, journal.snapshot.tick_sequence)
    extent = replace(journal.history, next_tick=first)
    if first == 0 and not ticks:
        beginning: dict[bytes, bytes] = {}
        if journal.state is not None:
            beginning[WHOLE] = merge(journal.state)
        if journal.snapshot is not None:
            beginning[SNAPSHOT] = journal.snapshot.snapshot
        return Kept(extent, beginning=beginning)
    return Kept(extent, [replace(record, tick=shorten(record.tick)) for record in ticks])


async def _read_payloads(run_id: str, reads: Reads) -> Sequence[PayloadRecord]:
    payloads: list[PayloadRecord] = []
    after = -1
    while page := await reads.ask(reads.store.read_payloads(run_id, after=after, limit=PAGE)):
        payloads += page
        after = page[-1].number
    return payloads


async def recover(journal: StoredJournal, workflow: ServedWorkflow) -> Recovered:
    """Return the run that a journal describes, and let others have their turns meanwhile.

    Raises `Misfit` where it does not fit the code of the workflow, and `NotRecoverable` where no
    code would make it go on.
    """
    try:
        return await _recover(journal, workflow, GivingWay())
    except NotRecoverable:
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # the server stops
        raise unreadable(error) from error
    except BaseException as error:  # the classes are the user's, and may raise anything
        raise unreadable(error) from error


async def _recover(
    journal: StoredJournal, workflow: ServedWorkflow, give_way: GivingWay
) -> Recovered:
    codec, older = workflow.codec, workflow.older_serializer
    beside = codec.beside
    run_input = RunInput(
        start_event=None,
        broker=BrokerState.from_workflow(workflow.workflow),
        state=TrackedState(workflow.state_class()),
        codec=codec,
    )
    size = sum(len(record.payload) for record in journal.payloads)
    recovered = Recovered(run_input, written=await beside.read(size, partial(_written, journal)))
    await give_way()
    if journal.state is not None:
        read = partial(_read_state, journal.state, codec, older)
        run_input.state = await beside.read(journal.state.size, read)
        recovered.next_change = journal.state.next_change
    journal = await _complete(journal, beside, give_way)
    recovered.kept = _kept(journal)
    if journal.snapshot is not None:
        load = partial(_load_snapshot, recovered, journal.snapshot, workflow)
        await beside.read(len(journal.snapshot.snapshot), load)
    await _replay(recovered, journal, workflow, give_way)
    for record in journal.inbox:
        await give_way()
        decode = partial(Delivery.decode, record.delivery, codec, older)
        recovered.inbox[record.number] = await beside.read(len(record.delivery), decode)
    if not run_input.broker.is_running and recovered.ended is None:
        find = partial(_start_event, journal.record, recovered.inbox, workflow)
        run_input.start_event = await beside.read(len(journal.record.start_event or b""), find)
    may_be_new = journal.record.phase in (Phase.QUEUED, Phase.HELD)
    has_events = journal.next_sequence > journal.record.first_sequence
    was_at_work = journal.record.begun or not may_be_new
    recovered.has_begun = bool(recovered.next_tick or has_events or was_at_work)
    waiting = {waiter.id for waiter in open_waiters(run_input.broker)}
    recovered.timers = [timer for timer in recovered.timers if timer.tick.waiter_id in waiting]
    return recovered


async def prepare_wait(recovered: Recovered, workflow: ServedWorkflow, waited: float) -> None:
    """Encode a large run as it is to be written down when it waits in memory again.

    `waited` are the seconds since it began to wait, which count for a timeout.
    """
    run_input, written = recovered.run_input, recovered.written
    if written.payloads.bytes + written.snapshot_bytes < LARGE:
        return
    broker = run_input.broker
    if workflow.timeout is not None:
        broker = replace(broker, elapsed_alive=broker.elapsed_alive + waited)
    encode_state = partial(encode_if_faithful, run_input.state, workflow.codec)
    encode = partial(
        encode_snapshot, broker, workflow.codec, recovered.timers, written.payloads, encode_state
    )
    run_input.snapshot = await workflow.codec.beside.do(encode)


def _written(journal: StoredJournal) -> Written:
    return Written(
        payloads=Payloads(journal.payloads),
        snapshot_bytes=len(journal.snapshot.snapshot) if journal.snapshot is not None else 0,
        ticks=len(journal.ticks),
        tick_bytes=sum(len(record.tick) for record in journal.ticks),
    )


def _read_state(state: StoredState, codec: Codec, older: BaseSerializer) -> TrackedState:
    return TrackedState.decode(merge(state), codec, older, resumes=True)


async def _complete(journal: StoredJournal, beside: Beside, give_way: GivingWay) -> StoredJournal:
    """Return a journal whose ticks and snapshot are whole again."""
    payloads = {record.number: record.payload for record in journal.payloads}
    try:
        snapshot = journal.snapshot
        if snapshot is not None:
            whole = await _put_back(snapshot.snapshot, payloads, beside)
            snapshot = replace(snapshot, snapshot=whole)
        ticks: list[TickRecord] = []
        for tick in journal.ticks:
            await give_way()
            ticks.append(replace(tick, tick=await _put_back(tick.tick, payloads, beside)))
    except PayloadMissing as error:
        raise NotRecoverable(f"{RESUMED}: its journal is damaged, for {error}.") from error
    await give_way()
    return replace(journal, snapshot=snapshot, ticks=ticks)


async def _put_back(document: bytes, payloads: Mapping[int, bytes], beside: Beside) -> bytes:
    """Return a document with its payloads; how large these are is not known before."""
    if not has_payloads(document):
        return document
    size = max(map(len, payloads.values()), default=0)
    return await beside.read(size, partial(put_back, document, payloads))


def _load_snapshot(recovered: Recovered, record: SnapshotRecord, workflow: ServedWorkflow) -> None:
    codec, older = workflow.codec, workflow.older_serializer
    snapshot = read_snapshot(record.snapshot, codec, older)
    serializer = codec if is_current(record.snapshot) else older
    lost = find_lost_work(snapshot.context, _steps_of(recovered.run_input.broker))
    if lost is not None:
        raise lost
    broker = BrokerState.from_serialized(snapshot.context, workflow.workflow, serializer)
    for required in snapshot.requirements:
        for waiter in broker.workers[StepId.from_str(required.step)].collected_waiters:
            if waiter.waiter_id == required.waiter_id:
                waiter.requirements = required.restore()
    recovered.run_input.broker = broker
    recovered.timers = list(snapshot.timers)
    recovered.next_tick = record.tick_sequence


def _steps_of(broker: BrokerState) -> frozenset[str]:
    return frozenset(map(str, broker.workers))


async def _replay(
    recovered: Recovered, journal: StoredJournal, workflow: ServedWorkflow, give_way: GivingWay
) -> None:
    broker = recovered.run_input.broker
    for record in journal.ticks:
        await give_way()
        if record.sequence != recovered.next_tick:
            raise NotRecoverable(f"{RESUMED}: its journal is damaged, for a part of it is missing.")
        decode = partial(decode_tick, record.tick, workflow.codec, workflow.older_serializer)
        tick = await workflow.codec.beside.read(len(record.tick), decode)
        if isinstance(tick, TickStepResult) and not is_current(record.tick):
            _restore_requirements(tick)
        now = getattr(tick, "stamped_at", None) or time.time()
        try:
            broker, commands = _reduce_tick(tick, broker, now, run_id=journal.record.run_id)
        except Exception as error:  # what the engine finds amiss has no class of its own
            steps = _steps_of(broker)
            lost = find_lost_wait(journal.record.awaits or (), steps)
            raise (lost or cannot_follow(tick, steps)) from error
        recovered.next_tick += 1
        recovered.timers += _timers(commands, now)
        recovered.ended = _ending(commands)
        if recovered.ended is not None and record is not journal.ticks[-1]:
            raise cannot_follow(tick, _steps_of(broker))  # it went on
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
    published: StopEvent | None = None
    for command in commands:
        match command:
            case CommandPublishEvent(event=StopEvent() as event):
                published = event
            case CommandCompleteRun(result=result):
                return outcome.completed(result)
            case CommandHalt(exception=error) | CommandFailWorkflow(exception=error):
                return outcome.failed(error, published)
            case _:
                continue
    return None


def _start_event(record: RunRecord, inbox: Mapping[int, Delivery], workflow: ServedWorkflow) -> Any:
    for delivery in inbox.values():
        if delivery.starts:
            return delivery.event
    if record.start_event is None:
        raise NotRecoverable(f"{RESUMED}: its start event is missing.")
    return workflow.rebuild_start_event(from_json(record.start_event))
