"""Refusals of what clients ask of a handler, in sentences about its run."""

from typing import assert_never

from workflow_server.app.errors import (
    HandlerEnded,
    HandlerHeld,
    RunElsewhere,
    RunNotCurrent,
    StreamTaken,
)
from workflow_server.schemas.records import HandlerKey, Phase, RunRecord, Status
from workflow_server.stores.replicas import Owner

PERHAPS_PURGED = (
    "The store failed while this was removed: it may or may not be gone; ask again later."
)
NOT_PURGED = (
    "The run was stopped, and the store failed before the handler was removed; ask again later."
)


def elsewhere(key: HandlerKey, owner: Owner) -> RunElsewhere:
    """Return why nothing is done with a run that another server has."""
    return RunElsewhere(
        f"The run of the handler '{key.id}' is at another server, which cannot be reached now;"
        " nothing was done. Try again in a moment.",
        owner=owner,
    )


def taken(key: HandlerKey) -> StreamTaken:
    """Return why a run's shared reading position is not had."""
    return StreamTaken(
        f"Another reader without a cursor reads the events of '{key.id}'; give `after_sequence` to"
        " read them independently."
    )


def check_current(record: RunRecord, run_id: str | None, what: str) -> None:
    """Raise `RunNotCurrent` where a request names another run of the handler."""
    if run_id is not None and run_id != record.run_id:
        raise RunNotCurrent(
            f"The handler '{record.handler_id}' has another run by now, '{record.run_id}';"
            f" {what} '{run_id}'."
        )


def cannot_take(record: RunRecord) -> HandlerEnded | HandlerHeld:
    """Return why a run takes no events."""
    if record.phase is Phase.HELD:
        return HandlerHeld(
            f"The handler '{record.handler_id}' is held and takes no events now."
            f" {record.held_because}"
        )
    return HandlerEnded(f"The handler '{record.handler_id}' has ended: {how_it_ended(record)}.")


def how_it_ended(record: RunRecord) -> str:
    """Return the part of a sentence that says how a run has ended."""
    match record.status:
        case Status.RUNNING:
            return "it is running no more"
        case Status.COMPLETED:
            return "it completed"
        case Status.FAILED:
            return "it failed"
        case Status.CANCELLED:
            return "it was cancelled"
        case unreachable:
            assert_never(unreachable)
