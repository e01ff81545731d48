"""The phases of a run, and the one table of its moves from one to another.

Every change of a record's phase is one of the functions here, which leave the record consistent:
what belongs to a phase is set with it, and what belonged to the one before is gone.
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from workflow_server.app.telemetry.logs import get_logger
from workflow_server.schemas.records import Idle, Phase, RunRecord, Status

logger = get_logger(__name__)

MOVES: Mapping[Phase, frozenset[Phase]] = {
    Phase.QUEUED: frozenset({Phase.WORKING, Phase.HELD, Phase.ENDED}),
    # Back to the queue: after a restart that leaves fewer slots than runs were at work.
    Phase.WORKING: frozenset({Phase.WORKING, Phase.WAITING, Phase.QUEUED, Phase.HELD, Phase.ENDED}),
    Phase.WAITING: frozenset({Phase.WAITING, Phase.WORKING, Phase.HELD, Phase.ENDED}),
    # Held on: for another reason than before.
    Phase.HELD: frozenset(Phase),
    Phase.ENDED: frozenset(),
}


def acquit(record: RunRecord) -> RunRecord:
    """Return the record of a run that is no suspect any more: it has come further, or waits."""
    return replace(record, attempted=False, resumes=0, strikes=0)


def waits_on(before: RunRecord, after: RunRecord) -> bool:
    """Return whether a run only waits on: clients see nothing of what has changed between."""
    own = {"attempted", "resumes", "strikes", "idle", "due_at"}
    return replace(after, **{name: getattr(before, name) for name in own}) == before


def queue(record: RunRecord) -> RunRecord:
    """Return the record of a run that waits for a slot."""
    return _move(
        record,
        Phase.QUEUED,
        slot=False,
        idle=None,
        due_at=None,
        held_because=None,
        attempted=False,
    )


def work(record: RunRecord, **changes: Any) -> RunRecord:
    """Return the record of a run that has a slot and goes on.

    That it was attempted stays written of a suspect of a crash, until it is well.
    """
    attempted = record.resumes > 0
    return _move(
        record,
        Phase.WORKING,
        slot=True,
        idle=None,
        due_at=None,
        held_because=None,
        attempted=attempted,
        begun=True,
        **changes,
    )


def wait(record: RunRecord, idle: Idle, *, due_at: datetime | None, slot: bool) -> RunRecord:
    """Return the record of a run that waits; `slot` is whether it keeps that of its workflow."""
    return _move(record, Phase.WAITING, slot=slot, idle=idle, due_at=due_at, held_because=None)


def hold(record: RunRecord, because: str, *, now: datetime) -> RunRecord:
    """Return the record of a run that cannot go on now."""
    return _move(record, Phase.HELD, slot=False, due_at=None, held_because=because, updated_at=now)


def end(record: RunRecord, status: Status, *, now: datetime, **changes: Any) -> RunRecord:
    """Return the record of a run that has ended."""
    return _move(
        record,
        Phase.ENDED,
        status=status,
        updated_at=now,
        completed_at=max(now, record.started_at),
        slot=False,
        idle=None,
        due_at=None,
        held_because=None,
        attempted=False,
        questions=(),
        awaits=(),
        answered=(),
        **changes,
    )


def _move(record: RunRecord, phase: Phase, **changes: Any) -> RunRecord:
    """Return the record in a phase; a move that the table does not have is reported."""
    if phase not in MOVES[record.phase]:
        defect = f"A run was moved from {record.phase} to {phase}, which is no move of a run."
        logger.error("defect", run_id=record.run_id, defect=defect)
        # An error in tests, where warnings are errors; in production the run goes on.
        warnings.warn(defect, RuntimeWarning, stacklevel=3)
    return replace(record, phase=phase, **changes)
