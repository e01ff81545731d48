"""Records to the rows of SQL stores and back: the one mapping.

Times are microseconds since the epoch. A row that cannot be read becomes a failed run that says
so, and spoils nothing around it.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic_core import from_json

from workflow_server.schemas.records import (
    Awaited,
    ClockRecord,
    Failure,
    Idle,
    Phase,
    Question,
    RunRecord,
    ServerRecord,
    Status,
    Suspect,
)
from workflow_server.schemas.times import EPOCH, from_micros, to_micros
from workflow_server.stores.base import StoreError
from workflow_server.stores.documents import check_json

LATEST = to_micros(datetime.max.replace(tzinfo=UTC))
DAMAGED = "The stored record of this run is damaged and cannot be read."

_RUN_COLUMNS = (
    "run_id",
    "handler_id",
    "handler_created_at",
    "is_current",
    "workflow_name",
    "status",
    "started_at",
    "updated_at",
    "completed_at",
    "start_event",
    "result",
    "error",
    "event_count",
    "questions",
    "unresumable",
    "idle_since",
    "wake_at",
    "timeout_left",
    "resumes",
    "tenant",
    "trace",
    "phase",
    "accepted",
    "slot",
    "due_at",
    "held_because",
    "awaits",
    "first_sequence",
    "next_sequence",
    "answered",
    "idle_uptime",
    "epoch",
    "attempted",
    "strikes",
)
_LATER_COLUMNS = ("failure", "keeps_history", "begun")
RUN_COLUMNS = (*_RUN_COLUMNS, *_LATER_COLUMNS)
WRITTEN_RUN_COLUMNS = (*_RUN_COLUMNS, "owner", *_LATER_COLUMNS)  # as the table has them
DOCUMENTS = RUN_COLUMNS.index("start_event"), RUN_COLUMNS.index("result")
MORE = ("text", "place", "digest")  # parts of a question that earlier releases do not have
TICK_COLUMNS = ("run_id", "sequence", "tick", "beside")
STATE_COLUMNS = ("run_id", "state", "first_change")
CHANGE_COLUMNS = ("run_id", "number", "change")
SNAPSHOT_COLUMNS = ("run_id", "tick_sequence", "snapshot")
INBOX_COLUMNS = ("run_id", "number", "delivery")
CLOCK_COLUMNS = ("id", "time", "wall", "uptime", "began")
SERVER_COLUMNS = ("address", "version", "workflows", "state")
PAYLOAD_COLUMNS = ("run_id", "number", "payload")
HISTORY_COLUMNS = ("run_id", "first", "last", "bytes_until", "ticks")


def run_to_row(run: RunRecord, owner: int | None) -> tuple[Any, ...]:
    """Return a run, and who has it, as a row of `WRITTEN_RUN_COLUMNS`."""
    idle = run.idle
    return (
        run.run_id,
        run.handler_id,
        to_micros(run.handler_created_at),
        run.current,
        run.workflow_name,
        run.status.value,
        to_micros(run.started_at),
        to_micros(run.updated_at),
        _optional_micros(run.completed_at),
        run.start_event,
        run.result,
        run.error,
        run.event_count,
        _write_questions(run.questions),
        run.not_resumable_because,
        _optional_micros(idle.since) if idle else None,
        _optional_micros(idle.wake_at) if idle else None,
        idle.timeout_left if idle else None,
        run.resumes,
        run.tenant,
        run.trace,
        run.phase.value,
        run.accepted,
        run.slot,
        _optional_micros(run.due_at),
        run.held_because,
        _write_awaits(run.awaits) if run.awaits is not None else None,
        run.first_sequence,
        run.next_sequence,
        _write_questions(run.answered),
        idle.uptime if idle else None,
        run.epoch,
        run.attempted,
        run.strikes,
        owner,
        _write_failure(run.failure) if run.failure is not None else None,
        run.keeps_history,
        run.begun,
    )


def clock_to_row(clock: ClockRecord) -> tuple[int, ...]:
    """Return the store's clock as its one row, of `CLOCK_COLUMNS`."""
    return 1, clock.time, clock.wall, clock.uptime, clock.began


def row_to_clock(row: Sequence[Any]) -> ClockRecord:
    """Return the clock of a row of `CLOCK_COLUMNS`."""
    _, time, wall, uptime, began = row
    return ClockRecord(time=time, wall=wall, uptime=uptime, began=began)


def row_to_server(row: Sequence[Any]) -> ServerRecord:
    """Return the server of a row of `SERVER_COLUMNS`; its workflows may be an array of JSON."""
    address, version, workflows, state = row
    names = from_json(workflows) if isinstance(workflows, str) else workflows or ()
    return ServerRecord(address=address, version=version, workflows=tuple(names), state=state)


def documents_size(row: Sequence[Any]) -> int:
    """Return the bytes of the documents of a row of `RUN_COLUMNS`."""
    return sum([len(row[place] or b"") for place in DOCUMENTS])


def row_to_run(row: Sequence[Any]) -> RunRecord:
    """Return the run of a row of `RUN_COLUMNS`."""
    try:
        return _read_run(dict(zip(RUN_COLUMNS, row, strict=True)))
    except (ValueError, TypeError, OverflowError):
        return _damaged_run(dict(zip(RUN_COLUMNS, row, strict=True)))


def row_to_suspect(row: Sequence[Any]) -> Suspect:
    """Return the suspect of a row of `SUSPECT_COLUMNS`."""
    run_id, accepted, phase, was_present, attempted, resumes, strikes = row
    return Suspect(
        run_id=run_id,
        accepted=accepted,
        phase=Phase(phase),
        was_present=bool(was_present),
        attempted=bool(attempted),
        resumes=resumes,
        strikes=strikes,
    )


def _read_run(row: dict[str, Any]) -> RunRecord:
    for envelope in (row["result"], row["start_event"]):
        if envelope is not None:
            check_json(envelope)  # it goes into answers as it is, among others
    since = row["idle_since"]
    return RunRecord(
        run_id=row["run_id"],
        handler_id=row["handler_id"],
        handler_created_at=from_micros(row["handler_created_at"]),
        current=bool(row["is_current"]),
        workflow_name=row["workflow_name"],
        status=Status(row["status"]),
        started_at=from_micros(row["started_at"]),
        updated_at=from_micros(row["updated_at"]),
        completed_at=_optional_time(row["completed_at"]),
        start_event=row["start_event"],
        result=row["result"],
        error=row["error"],
        event_count=row["event_count"],
        questions=_read_questions(row["questions"]),
        not_resumable_because=row["unresumable"],
        idle=Idle(
            since=from_micros(since),
            wake_at=_optional_time(row["wake_at"]),
            timeout_left=row["timeout_left"],
            uptime=row["idle_uptime"],
        )
        if since is not None
        else None,
        resumes=row["resumes"],
        tenant=row["tenant"],
        trace=row["trace"],
        phase=Phase(row["phase"]),
        accepted=row["accepted"],
        slot=bool(row["slot"]),
        due_at=_optional_time(row["due_at"]),
        held_because=row["held_because"],
        awaits=_read_awaits(row["awaits"]) if row["awaits"] is not None else None,
        first_sequence=row["first_sequence"],
        next_sequence=row["next_sequence"],
        answered=_read_questions(row["answered"]),
        epoch=row["epoch"],
        attempted=bool(row["attempted"]),
        strikes=row["strikes"],
        failure=_read_failure(row["failure"]) if row["failure"] is not None else None,
        keeps_history=bool(row["keeps_history"]),
        begun=bool(row["begun"]),
    )


def _damaged_run(row: dict[str, Any]) -> RunRecord:
    created_at = row["handler_created_at"]
    in_range = isinstance(created_at, int) and 0 <= created_at < LATEST
    time = from_micros(created_at) if in_range else EPOCH
    return RunRecord(
        run_id=str(row["run_id"]),
        handler_id=str(row["handler_id"]),
        handler_created_at=time,
        current=bool(row["is_current"]),
        workflow_name=str(row["workflow_name"]),
        status=Status.FAILED,
        started_at=time,
        updated_at=time,
        completed_at=time,
        error=DAMAGED,
        failure=Failure(type="StoreError", qualified_name=f"{StoreError.__module__}.StoreError"),
        event_count=_whole(row["event_count"]),
        tenant=str(row["tenant"]),
        phase=Phase.ENDED,
        accepted=_whole(row["accepted"]),
        first_sequence=_whole(row["first_sequence"]),
        next_sequence=_whole(row["next_sequence"]),
        epoch=_whole(row["epoch"]),
    )


def _write_questions(questions: Sequence[Question]) -> str:
    if not questions:
        return "[]"
    return json.dumps([[q.sequence, q.waiter_id, q.text, q.place, q.digest] for q in questions])


def _read_questions(written: str) -> tuple[Question, ...]:
    """Return questions; those of earlier releases have no more than two parts."""
    if written == "[]":
        return ()
    return tuple(
        Question(sequence=sequence, waiter_id=waiter_id, **dict(zip(MORE, more, strict=False)))
        for sequence, waiter_id, *more in json.loads(written)
    )


def _write_awaits(awaits: Sequence[Awaited]) -> str:
    if not awaits:
        return "[]"
    rows = [
        [a.waiter_id, a.event_class, a.step, a.requirements.decode(), _optional_micros(a.due_at)]
        for a in awaits
    ]
    return json.dumps(rows)


def _read_awaits(text: str) -> tuple[Awaited, ...]:
    if text == "[]":
        return ()  # of most runs
    return tuple(
        Awaited(
            waiter_id=waiter_id,
            event_class=event_class,
            step=step,
            requirements=requirements.encode(),
            due_at=_optional_time(due_at),
        )
        for waiter_id, event_class, step, requirements, due_at in json.loads(text)
    )


def _write_failure(failure: Failure) -> str:
    return json.dumps(
        [
            failure.type,
            failure.qualified_name,
            failure.step,
            failure.attempts,
            failure.remedy,
        ]
    )


def _read_failure(text: str) -> Failure:
    kind, qualified_name, step, attempts, remedy = json.loads(text)
    return Failure(
        type=kind, qualified_name=qualified_name, step=step, attempts=attempts, remedy=remedy
    )


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _optional_micros(time: datetime | None) -> int | None:
    return to_micros(time) if time is not None else None


def _optional_time(micros: int | None) -> datetime | None:
    return from_micros(micros) if micros is not None else None
