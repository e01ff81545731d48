"""Records: what the journal hands to a store, and what a store hands back.

A record is frozen; a change makes a new one (`dataclasses.replace`). Times are aware UTC. JSON is
carried as the UTF-8 bytes that were serialized once, and is never parsed by a store.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


def handler_key(tenant: str, handler_id: str) -> str:
    """Return by what a handler is known inside: its id, behind its tenant's name where it has one.

    A tenant's name has no `/`, so no two handlers have the same key.
    """
    return f"{tenant}/{handler_id}" if tenant or "/" in handler_id else handler_id


def split_key(key: str) -> tuple[str, str]:
    """Return the tenant and the id of a handler's key."""
    tenant, slash, handler_id = key.partition("/")
    return (tenant, handler_id) if slash else ("", key)


class Status(StrEnum):
    """Where a run is in its life; all but `RUNNING` are final."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An open question of a run: an `InputRequiredEvent` that nobody has answered yet.

    `waiter_id` names the engine's waiter when the question was asked by `ctx.wait_for_event`; it
    is None for a question that a step returned or wrote to the stream.
    """

    sequence: int
    waiter_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """A run that waits for an event from outside, and nothing in it is being done.

    It must go on at `wake_at`, when a `wait_for_event` times out, and `timeout_left` seconds after
    `since`, when the workflow does; time while no server runs does not count for the latter.
    """

    since: datetime
    wake_at: datetime | None = None
    timeout_left: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run of a handler, and of a handler's runs the current one.

    `tenant` owns the handler, and is empty where nobody in particular does; a handler's id is its
    tenant's own.
    `handler_created_at` is the same in every run of a handler: with `handler_id` it is the
    position of the handler in listings. `start_event` and `result` are event envelopes.
    `event_count` is the number of events of an ended run, and 0 before. `unresumable` says why the
    run could not go on after a restart, and is None as long as it could. `resumes` counts how
    often it was resumed since a step of it finished last. `trace` is the place of the run's first
    span, as a W3C `traceparent`, where it was traced.
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
    unresumable: str | None = None
    idle: Idle | None = None
    resumes: int = 0
    tenant: str = ""
    trace: str | None = None

    @property
    def handler_key(self) -> str:
        """By what the handler is known inside."""
        return handler_key(self.tenant, self.handler_id)


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event of a run: its envelope as the bytes that go out, numbered 0, 1, 2, … in its run.

    `emitted_at` is when the run emitted it, in whole microseconds since the epoch, as there are too
    many events for a `datetime` each; None where it is not known.
    """

    run_id: str
    sequence: int
    envelope: bytes
    internal: bool
    emitted_at: int | None = None


@dataclass(frozen=True, slots=True)
class TickRecord:
    """A tick that the engine reduced, numbered 0, 1, 2, … in its run."""

    run_id: str
    sequence: int
    tick: bytes


@dataclass(frozen=True, slots=True)
class StateRecord:
    """The `ctx.store` of a run as its last finished step left it."""

    run_id: str
    state: bytes


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """The engine's state of a run before the tick numbered `tick_sequence`."""

    run_id: str
    tick_sequence: int
    snapshot: bytes


@dataclass(slots=True)
class Batch:
    """What one commit writes, all of it or nothing: the journals of many runs, in order.

    `runs` is keyed by run id, so that a run is written once a batch, as it was last.
    `purged` names handlers, by their keys, of which nothing may be left; they are removed after
    all the rest.
    """

    runs: dict[str, RunRecord] = field(default_factory=dict)
    events: list[EventRecord] = field(default_factory=list)
    ticks: list[TickRecord] = field(default_factory=list)
    states: dict[str, StateRecord] = field(default_factory=dict)
    snapshots: dict[str, SnapshotRecord] = field(default_factory=dict)
    purged: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class HandlerPosition:
    """The place of a handler in listings, newest first: a keyset cursor."""

    created_at: datetime
    handler_id: str


@dataclass(frozen=True, slots=True)
class RunPosition:
    """The place of a run among the runs of its handler, newest first: a keyset cursor."""

    started_at: datetime
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerQuery:
    """Which handlers of a tenant a listing asks for; empty filters let everything pass.

    An empty `tenant` asks for the handlers that have none. `waiting` lets only running ones with
    an open question pass.
    """

    statuses: frozenset[Status] = frozenset()
    workflow_names: frozenset[str] = frozenset()
    waiting: bool = False
    after: HandlerPosition | None = None
    limit: int
    tenant: str = ""
