"""Records: what the journal hands to a store, and what a store hands back.

A record is frozen; a change makes a new one (`dataclasses.replace`). Times are aware UTC. JSON is
carried as the UTF-8 bytes that were serialized once, and is never parsed by a store.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

from workflow_server.schemas.journals import HistoryExtent as HistoryExtent
from workflow_server.schemas.journals import HistoryRecord as HistoryRecord
from workflow_server.schemas.journals import PayloadRecord as PayloadRecord
from workflow_server.schemas.journals import SnapshotRecord as SnapshotRecord
from workflow_server.schemas.journals import TickPage as TickPage
from workflow_server.schemas.journals import TickRecord as TickRecord
from workflow_server.schemas.waits import Awaited as Awaited
from workflow_server.schemas.waits import Idle as Idle

FIXED_SIZE = 100  # about what each question and each wait takes beside its text, in bytes


class HandlerKey(NamedTuple):
    """The identity of a handler: the tenant that owns it, and its id among that tenant's.

    `tenant` is empty where nobody in particular owns the handler.
    """

    tenant: str
    id: str


class EndedHandler(NamedTuple):
    """A handler as it ended: its key, and the run that is its current one and has ended.

    Once the handler runs again it is another one.
    """

    key: HandlerKey
    run_id: str


class Status(StrEnum):
    """Status of a run; all but `RUNNING` are final."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Phase(StrEnum):
    """Phase of a run: where it stands; `app.runs.phase` has the table of moves from one to another.

    `QUEUED` is accepted and has not begun. `WAITING` waits for an event from outside or a timer.
    `HELD` cannot go on now, for a reason that the record has, and is tried again at each start.
    """

    QUEUED = "queued"
    WORKING = "working"
    WAITING = "waiting"
    HELD = "held"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An open question of a run: an `InputRequiredEvent` that nobody has answered yet.

    `waiter_id` names the engine's waiter when the question was asked by `ctx.wait_for_event`; it
    is None for a question that a step returned or wrote to the stream. `text` is what it asks, cut
    where it is long, and None where no field of it is a text. `place` is where in a step it was
    asked, and `digest` what its envelope hashes to, as long as the step may run again and ask it
    again.
    """

    sequence: int
    waiter_id: str | None = None
    text: str | None = None
    place: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The exception that ended a run as failed; what it says of itself is the record's `error`.

    `type` is the name of its class, and `qualified_name` has the module before it. `step` and
    `attempts` are of the step that raised it for the last time, and None where no step did.
    `remedy` is a sentence that says what helps, where that is known.
    """

    type: str
    qualified_name: str
    step: str | None = None
    attempts: int | None = None
    remedy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """Description of an incarnation for others: of the server that it is a life of.

    `address` is the URL under which it is reached, and None where it does not know that itself.
    `workflows` are the names that it serves, in order. `state` is a word that a later release may
    have more of: `serving` takes new runs, and `draining` is about to stop. All is None, or empty,
    before the server has written it.

    Where many servers share a store, it says of each which `incarnation` it is, and how many
    seconds ago its last heartbeat was (`heartbeat_age`); a server does not write these.
    """

    address: str | None = None
    version: str | None = None
    workflows: tuple[str, ...] = ()
    state: str | None = None
    incarnation: int | None = None
    heartbeat_age: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockRecord:
    """The store's clock as it stood at a moment at which the wall clock said `wall`.

    `time` never goes back, and goes on evenly while a server runs. `uptime` counts the time that
    servers ran, and `began` is when the present one started to count. All are microseconds.
    """

    time: int
    wall: int
    uptime: int
    began: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run of a handler, and of a handler's runs the current one.

    `tenant` owns the handler, and is empty where nobody in particular does.
    `handler_created_at` is the same in every run of a handler: with `handler_id` it is the
    position of the handler in listings. `start_event` and `result` are event envelopes.
    `event_count` is the number of events of an ended run, and 0 before. `first_sequence` is the
    sequence of the run's first event; `next_sequence`, of an ended run, is where the next run of
    its handler counts on. `resumes` counts how often the run was resumed since a step of it
    finished last. `trace` is the place of the run's first span, as a W3C `traceparent`, where it
    was traced.

    `error` is what the exception said of itself that ended a failed run, and `failure` the rest of
    it; None where a release before that field has written the run. `keeps_history` is whether the
    run's ticks are kept after they were carried out.

    `questions` are the open ones, and `answered` those that steps which go on may ask again, or
    will wait for later.

    `phase` is where the run stands, and `status` what clients of the first contract know of that:
    a run that is not `ENDED` is running. `accepted` orders runs as they were accepted: a later one
    has a greater number. `slot` is whether the run holds a slot of its workflow. `idle` is kept
    while the run waits, and while it is held; `due_at` is when the first timer of a waiting run is
    due, or a little earlier. `held_because` says why the run is held. `not_resumable_because` says
    why the run could not go on after a restart, and is None as long as it could. `awaits` has the
    first of the events that steps of the run wait for, and is None where a release before this
    field has written the run.

    `epoch` counts how often the run changed hands, and only a claim changes it. `attempted` is true
    while an attempt to restore the run is committed, and nothing of it was written since. `strikes`
    counts the crashes in which the run alone was at work. `begun` is whether it was ever at work.
    """

    run_id: str
    handler_id: str
    handler_created_at: datetime
    current: bool = True
    workflow_name: str
    status: Status = Status.RUNNING
    started_at: datetime
    updated_at: datetime
    completed_at: datetime | None = None
    start_event: bytes | None = None
    result: bytes | None = None
    error: str | None = None
    event_count: int = 0
    questions: tuple[Question, ...] = ()
    awaits: tuple[Awaited, ...] | None = ()
    not_resumable_because: str | None = None
    idle: Idle | None = None
    resumes: int = 0
    tenant: str = ""
    trace: str | None = None
    phase: Phase = Phase.QUEUED
    accepted: int = 0
    slot: bool = False
    due_at: datetime | None = None
    held_because: str | None = None
    first_sequence: int = 0
    next_sequence: int = 0
    answered: tuple[Question, ...] = ()
    epoch: int = 0
    attempted: bool = False
    strikes: int = 0
    failure: Failure | None = None
    keeps_history: bool = False
    begun: bool = False

    @property
    def key(self) -> HandlerKey:
        """Return the identity of the run's handler."""
        return HandlerKey(self.tenant, self.handler_id)

    @property
    def size(self) -> int:
        """Return about how many bytes the run takes in a page of a listing."""
        questions = sum([FIXED_SIZE + len(question.text or "") for question in self.questions])
        awaits = sum([FIXED_SIZE + len(wait.requirements) for wait in self.awaits or ()])
        texts = self.error, self.held_because, self.not_resumable_because
        documents = len(self.start_event or b"") + len(self.result or b"")
        return documents + questions + awaits + sum([len(text or "") for text in texts])


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event of a run: its envelope as the bytes that go out, numbered without a gap.

    Numbers go on from run to run of a handler, so that each belongs to one event of the handler.

    `emitted_at` is when the run emitted it, in whole microseconds since the epoch, as there are too
    many events for a `datetime` each; None where it is not known.
    """

    run_id: str
    sequence: int
    envelope: bytes
    internal: bool
    emitted_at: int | None = None


@dataclass(frozen=True, slots=True)
class StateRecord:
    """The `ctx.store` of a run as a finished step left it.

    `first_change` is the number of the first change that is made to it; `replaces_changes` where
    there may be earlier ones, which are removed.
    """

    run_id: str
    state: bytes
    first_change: int = 0
    replaces_changes: bool = False


@dataclass(frozen=True, slots=True)
class StateChangeRecord:
    """A change that a finished step has made to the `ctx.store` of a run, numbered in its run."""

    run_id: str
    number: int
    change: bytes


@dataclass(frozen=True, slots=True)
class StoredState:
    """The `ctx.store` of a run: a state, and the changes that were made to it, in order.

    `next_change` is the number of the next one.
    """

    state: bytes
    changes: tuple[bytes, ...] = ()
    next_change: int = 0

    @property
    def size(self) -> int:
        """The bytes of all of it."""
        return len(self.state) + sum(map(len, self.changes))


@dataclass(frozen=True, slots=True)
class InboxRecord:
    """An event from outside for a run that has not begun, numbered 0, 1, 2, … in its run.

    `delivery` is the event and the step that shall take it, as the engine's side wrote them.
    """

    run_id: str
    number: int
    delivery: bytes


@dataclass(slots=True)
class Batch:
    """The records of one commit, all of it or nothing: the journals of many runs, in order.

    `runs` is keyed by run id, so that a run is written once a batch, as it was last. `dropped` has
    runs and the numbers of payloads that are removed, `cleared` runs whose payloads all are.
    `taken` has, by run id, the number of the last event of a run's inbox that the run has taken:
    it and those before it are removed. `finished` are runs that nobody resumes or retries: their
    ticks, snapshots and inboxes are removed, after all that the batch writes. `superseded`
    are runs that another run of their handler follows, which has a state of its own: their states
    are removed as well. `purged` names handlers as they ended, and `purged_runs` superseded runs,
    of which nothing may be left; they are removed last, a part with each batch that names them.
    `released` are runs of `runs` that leave memory without an end: no incarnation has them then.
    `forgotten` has, by run id, how many bytes of a run's history are left out: the packs that begin
    before that are removed. `clock` is the store's clock at this batch, where it is written.
    """

    runs: dict[str, RunRecord] = field(default_factory=dict)
    events: list[EventRecord] = field(default_factory=list)
    ticks: list[TickRecord] = field(default_factory=list)
    states: dict[str, StateRecord] = field(default_factory=dict)
    changes: list[StateChangeRecord] = field(default_factory=list)
    snapshots: dict[str, SnapshotRecord] = field(default_factory=dict)
    inbox: list[InboxRecord] = field(default_factory=list)
    payloads: list[PayloadRecord] = field(default_factory=list)
    histories: list[HistoryRecord] = field(default_factory=list)
    forgotten: dict[str, int] = field(default_factory=dict)
    dropped: list[tuple[str, int]] = field(default_factory=list)
    cleared: set[str] = field(default_factory=set)
    taken: dict[str, int] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    superseded: set[str] = field(default_factory=set)
    purged: list[EndedHandler] = field(default_factory=list)
    purged_runs: list[str] = field(default_factory=list)
    released: set[str] = field(default_factory=set)
    clock: ClockRecord | None = None


StoredRecord = (
    RunRecord
    | EventRecord
    | TickRecord
    | PayloadRecord
    | HistoryRecord
    | InboxRecord
    | StateRecord
    | StateChangeRecord
    | SnapshotRecord
)  # what a store has of a run


def list_values(record: StoredRecord) -> tuple[Any, ...]:
    """Return the values of a record, in the order of its fields."""
    kind: Any = type(record)  # which mypy does not take to be hashable
    return _values_of(kind)(record)


def list_documents(record: StoredRecord) -> list[bytes]:
    """Return the values of a record that are bytes, and may be large."""
    return [value for value in list_values(record) if isinstance(value, bytes)]


@cache
def _values_of(kind: type[Any]) -> Callable[[StoredRecord], tuple[Any, ...]]:
    return attrgetter(*(each.name for each in fields(kind)))


class UnfinishedRun(NamedTuple):
    """The place of a run among those of its phase, which is the order of acceptance."""

    accepted: int
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A run that may have ended a process: now, or at an earlier time.

    `was_present` is whether an incarnation that did not let go of it has it at work, or was
    restoring it (`attempted`). `resumes` and `strikes` are those of the run's record.
    """

    run_id: str
    accepted: int
    phase: Phase
    was_present: bool = False
    attempted: bool = False
    resumes: int = 0
    strikes: int = 0


class DueRun(NamedTuple):
    """The place of a waiting run among those that have a timer: the first due comes first.

    `due_at` is in whole microseconds since the epoch.
    """

    due_at: int
    run_id: str


@dataclass(frozen=True, slots=True)
class PhaseCount:
    """The number of running runs of a workflow in a phase, and of those that hold a slot."""

    phase: Phase
    workflow_name: str
    runs: int
    slots: int
