"""Records to handlers on the wire: the one mapping.

A result is spliced into the answer as the bytes that were serialized when the run ended.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any, Literal, NamedTuple

from fastapi.responses import Response
from pydantic_core import to_json

from workflow_server.app.clocks import StoreClock
from workflow_server.app.engine.codec import unwrap_result
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.state_reports import StateReport
from workflow_server.app.errors import locate_handler
from workflow_server.app.handlers.awaiting import describe_awaits
from workflow_server.app.handlers.histories import StepPage
from workflow_server.routers.header_fields import declare
from workflow_server.routers.large_answers import answer_in_pieces
from workflow_server.routers.preconditions import UNCHANGED, Known, make_etag, unchanged_response
from workflow_server.routers.problems import Responses
from workflow_server.schemas.handlers import Handler, HandlerFields
from workflow_server.schemas.listings import ListedRuns
from workflow_server.schemas.records import Failure, RunRecord, Status
from workflow_server.stores.base import PAGE_OF_RUNS_BYTES

FIELDS = frozenset(Handler.model_fields)  # of a handler in a listing
NOT_KEPT = "no-store"  # by caches; a client may keep what it likes, with its tag
STATUS_CODES = {
    Status.RUNNING: 202,
    Status.COMPLETED: 200,
    Status.FAILED: 500,
    Status.CANCELLED: 500,
}
BY_STATUS = {
    200: "The run completed.",
    202: "The run is running.",
    500: "The run failed or was cancelled.",
}


def describe_handler(model: type[HandlerFields]) -> Responses:
    """Return the `responses` of a view of a handler for the OpenAPI document."""
    answers: Responses = {
        status: {"description": description, "model": model, "headers": declare("ETag")}
        for status, description in BY_STATUS.items()
    }
    return {**answers, **UNCHANGED}


class View(NamedTuple):
    """Context of a record on the wire: the workflows, and the clock that times are shown by."""

    workflows: Mapping[str, ServedWorkflow]
    clock: StoreClock


def handler_response(record: RunRecord, view: View, *, accepted: bool = False) -> Response:
    """Return a handler, with the status code that says how it is; 200 where it was `accepted`."""
    code = 200 if accepted else STATUS_CODES[record.status]
    fields = to_json(_describe(record, view, is_listed=False))
    headers = {"Location": locate_handler(record.handler_id)}
    return answer_in_pieces([*_with_result(fields, record.result), b"}"], code, headers)


def full_response(record: RunRecord, view: View, known: Known) -> Response:
    """Return a handler with what its run started from, or 304 where the client has that."""
    return _view(
        record,
        view,
        known,
        lambda fields: [
            *_with_result(fields, record.result),
            b',"start_event":',
            record.start_event or b"null",
        ],
    )


def result_response(record: RunRecord, view: View, known: Known) -> Response:
    """Return a handler whose result is unwrapped, as older clients read it, or 304."""
    result = record.result and unwrap_result(record.result)
    return _view(record, view, known, lambda fields: _with_result(fields, result))


def _view(
    record: RunRecord, view: View, known: Known, complete: Callable[[bytes], list[bytes]]
) -> Response:
    """Return a handler with its entity tag, or 304.

    The tag is of the fields that change. Of one run the start event never does, and the result only
    with its status; both may be large, and are not looked at.
    """
    fields, status = to_json(_describe(record, view, is_listed=False)), STATUS_CODES[record.status]
    headers = {"ETag": make_etag(fields), "Cache-Control": NOT_KEPT}
    if status < 300 and known.has(headers["ETag"]):  # RFC 9110, section 13.2.1
        return unchanged_response(headers)
    return answer_in_pieces([*complete(fields), b"}"], status, headers)


def list_response(
    page: ListedRuns,
    view: View,
    write_cursor: Callable[[RunRecord], str],
    *,
    of: Literal["handlers", "runs"],
    fields: Collection[str] = FIELDS,
) -> Response:
    """Return a page of handlers or runs, with some of their fields.

    It ends with the one that takes it to `PAGE_OF_RUNS_BYTES`, for what is stored of a run may be
    shorter than what is told of it.
    """
    parts = [b'{"%b":[' % of.encode()]
    size = count = 0
    for record in page.records:
        if size >= PAGE_OF_RUNS_BYTES:
            break
        handler = _list_parts(record, view, fields)
        parts += [b",", *handler] if count else handler
        size += sum([len(part) for part in handler])
        count += 1
    is_last = page.is_last and count == len(page.records)
    following = None if is_last else write_cursor(page.records[count - 1])
    parts.append(b'],"next_cursor":%b}' % to_json(following))
    return answer_in_pieces(parts)


def steps_response(page: StepPage) -> Response:
    """Return a page of steps, whose JSON is made already."""
    head = to_json({"run_id": page.run_id, "dropped": page.dropped})[:-1]
    following = to_json(str(page.next) if page.next is not None else None)
    steps = [part for step in page.steps for part in (b",", step)][1:]
    parts = [head, b',"steps":[', *steps, b'],"next_cursor":', following, b"}"]
    return answer_in_pieces(parts)


def step_state_response(sequence: int, report: StateReport) -> Response:
    """Return the state that a step has left, whose JSON is made already."""
    head = to_json({"sequence": sequence, "left_out": report.left_out})[:-1]
    state, changes = report.state or b"null", report.changes or b"null"
    return answer_in_pieces([head, b',"state":', state, b',"changes":', changes, b"}"])


def _list_parts(record: RunRecord, view: View, fields: Collection[str]) -> list[bytes]:
    """Return a handler of a listing in pieces, so that a large result is copied once."""
    described = _describe(record, view, is_listed=True)
    documents = {"result": record.result, "start_event": record.start_event}
    parts = [to_json({name: value for name, value in described.items() if name in fields})[:-1]]
    for name, document in documents.items():
        if name in fields:
            comma = b"," if len(parts[-1]) > 1 or len(parts) > 1 else b""
            parts += [comma + b'"%b":' % name.encode(), document or b"null"]
    return [*parts, b"}"]


def _with_result(fields: bytes, result: bytes | None) -> list[bytes]:
    """Return a handler with its result in pieces, up to its last brace."""
    return [fields[:-1], b',"result":', result or b"null"]


def _describe(record: RunRecord, view: View, *, is_listed: bool) -> dict[str, Any]:
    awaits, questions = describe_awaits(record, *view, is_listed=is_listed)
    return {
        "handler_id": record.handler_id,
        "workflow_name": record.workflow_name,
        "run_id": record.run_id,
        "status": record.status,
        "started_at": record.started_at.isoformat(),
        "updated_at": record.updated_at.isoformat(),
        "completed_at": record.completed_at.isoformat() if record.completed_at else None,
        "error": record.error,
        "failure": _failure(record.failure, record.error) if record.failure else None,
        "phase": record.phase,
        "held_because": record.held_because,
        "resumable": record.not_resumable_because is None,
        "not_resumable_because": record.not_resumable_because,
        "awaits": awaits,
        "questions": questions,
    }


def _failure(failure: Failure, message: str | None) -> dict[str, Any]:
    return {**asdict(failure), "message": message}
