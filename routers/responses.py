"""Records to handlers on the wire: the one mapping.

A result is spliced into the answer as the bytes that were serialized when the run ended.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import Response
from pydantic_core import from_json, to_json

from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.handlers.awaiting import describe_awaits
from workflow_server.schemas.records import RunRecord, Status

JSON = "application/json"
STATUS_CODES = {
    Status.RUNNING: 202,
    Status.COMPLETED: 200,
    Status.FAILED: 500,
    Status.CANCELLED: 500,
}


Workflows = Mapping[str, ServedWorkflow]


def handler_response(
    record: RunRecord, workflows: Workflows, *, accepted: bool = False
) -> Response:
    """Return a handler, with the status code that says how it is; 200 where it was `accepted`."""
    code = 200 if accepted else STATUS_CODES[record.status]
    body = _handler(record, record.result, workflows)
    return Response(body, status_code=code, media_type=JSON)


def full_response(record: RunRecord, workflows: Workflows) -> Response:
    """Return a handler with what its run started from."""
    handler = _handler(record, record.result, workflows)
    body = handler[:-1] + b',"start_event":' + (record.start_event or b"null") + b"}"
    return Response(body, status_code=STATUS_CODES[record.status], media_type=JSON)


def result_response(record: RunRecord, workflows: Workflows) -> Response:
    """Return a handler whose result is unwrapped, as older clients read it."""
    return Response(
        _handler(record, _unwrapped(record.result), workflows),
        status_code=STATUS_CODES[record.status],
        media_type=JSON,
    )


def list_response(
    records: Sequence[RunRecord], workflows: Workflows, next_cursor: str | None, *, of: str
) -> Response:
    """Return a page of handlers, or `of` runs."""
    handlers = b",".join(
        _handler(record, record.result, workflows, is_listed=True) for record in records
    )
    body = b'{"%b":[%b],"next_cursor":%b}' % (of.encode(), handlers, to_json(next_cursor))
    return Response(body, media_type=JSON)


def _handler(
    record: RunRecord, result: bytes | None, workflows: Workflows, *, is_listed: bool = False
) -> bytes:
    awaits, questions = describe_awaits(record, workflows, is_listed=is_listed)
    fields = to_json(
        {
            "handler_id": record.handler_id,
            "workflow_name": record.workflow_name,
            "run_id": record.run_id,
            "status": record.status,
            "started_at": record.started_at.isoformat(),
            "updated_at": record.updated_at.isoformat(),
            "completed_at": record.completed_at.isoformat() if record.completed_at else None,
            "error": record.error,
            "phase": record.phase,
            "held_because": record.held_because,
            "resumable": record.not_resumable_because is None,
            "not_resumable_because": record.not_resumable_because,
            "awaits": awaits,
            "questions": questions,
        }
    )
    return fields[:-1] + b',"result":' + (result or b"null") + b"}"


def _unwrapped(envelope: bytes | None) -> bytes | None:
    if envelope is None:
        return None
    event: dict[str, Any] = from_json(envelope)
    value = event["value"]
    if event["type"] == "StopEvent" and event["types"] is None:
        value = value.get("result")
    return to_json(value)
