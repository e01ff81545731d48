"""Attempts of steps as clients see them, from the ticks that a run's history has.

What a tick holds is built again of the classes of the workflow, so that its events go out as they
do in the stream, with their secrets masked. Where that cannot be, the rest is told.
"""

from collections.abc import Iterable
from typing import Any

from pydantic_core import from_json, to_json
from workflows.events import Event
from workflows.runtime.types.results import StepWorkerResult
from workflows.runtime.types.ticks import TickStepResult

from workflow_server.app.engine.attempt import KEY, Attempt, read_attempt
from workflow_server.app.engine.codec import NotSerializable, encode_event
from workflow_server.app.engine.payloads import MARK
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.ticks import decode_tick
from workflow_server.app.json_size import building_values
from workflow_server.schemas.times import from_micros

LARGE = "The values are too large to be kept, or could not be written."
NOT_SERVED = "The workflow is not served."
NOT_READABLE = "The values do not fit the code of the workflow."


def describe_step(
    sequence: int,
    tick: bytes,
    workflow: ServedWorkflow | None,
    *,
    with_traceback: bool,
    changed_state: bool,
) -> bytes | None:
    """Return the attempt of a step whose result a tick is, as JSON; None for any other tick."""
    if b'"step_result"' not in tick:
        return None
    with building_values(tick):
        tree = from_json(tick)
    if tree.get("type") != "step_result":
        return None
    attempt = read_attempt(tree.get(KEY))
    values, left_out = _read_values(tick, tree, workflow)
    fields = {
        "sequence": sequence,
        "step": tree.get("step_id") or tree.get("step_name"),
        "worker": tree["worker_id"],
        "attempt": attempt.number if attempt else None,
        "status": _status_of(tree["result"]),
        "started_at": _time(attempt.began_at) if attempt else None,
        "ended_at": _time(attempt.ended_at) if attempt else None,
        "error": _error(attempt, tree["result"], with_traceback=with_traceback),
        "changed_state": changed_state,
        "left_out": left_out,
    }
    taken, given = (None, ()) if values is None else (values.event, _outputs(values))
    parts = to_json(fields)[:-1], b',"input":', _envelope(taken), b',"output":['
    return b"".join((*parts, b",".join(map(_envelope, given)), b"]}"))


def is_step(tick: bytes) -> bool:
    """Return whether a tick, also one without its large values, is the result of a step."""
    with building_values(tick):
        tree = from_json(tick) if b'"step_result"' in tick else {}
    return bool(tree.get(MARK, tree).get("type") == "step_result")


def _read_values(
    tick: bytes, tree: dict[str, Any], workflow: ServedWorkflow | None
) -> tuple[TickStepResult | None, str | None]:
    """Return the tick with its events, or None and why they are left out."""
    if tree.get("is_brief"):
        return None, LARGE
    if workflow is None:
        return None, NOT_SERVED
    try:
        decoded = decode_tick(tick, workflow.codec, workflow.older_serializer)
    except BaseException:  # noqa: BLE001  # the classes are the user's, and may raise anything
        return None, NOT_READABLE
    assert isinstance(decoded, TickStepResult)  # its type was looked at
    return decoded, None


def _outputs(tick: TickStepResult) -> Iterable[Event]:
    yield from (sent.event for sent in tick.sends)
    for result in tick.result:
        if isinstance(result, StepWorkerResult) and result.result is not None:
            yield result.result


def _envelope(event: Event | None) -> bytes:
    if event is None:
        return b"null"
    try:
        return encode_event(event)
    except NotSerializable:
        return b"null"


def _status_of(results: Iterable[dict[str, Any]]) -> str:
    kinds = {result["type"] for result in results}
    if "failed" in kinds:
        return "failed"
    return "waiting" if "add_waiter" in kinds else "completed"


def _error(
    attempt: Attempt | None, results: Iterable[dict[str, Any]], *, with_traceback: bool
) -> dict[str, Any] | None:
    if attempt is None or attempt.error is None:
        return None
    decisions = (result.get("retry_decision") or {} for result in results)
    return {
        "type": attempt.error.type,
        "qualified_name": attempt.error.qualified_name,
        "message": attempt.error.message,
        "retry_in": next((d["delay"] for d in decisions if d.get("delay") is not None), None),
        "traceback": attempt.error.traceback if with_traceback else None,
    }


def _time(micros: int) -> str:
    return from_micros(micros).isoformat()
