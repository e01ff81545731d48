"""Handlers: listed, inspected, cancelled."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BeforeValidator

from app.errors import HandlerNotFound, InvalidCursor, NothingToCancel, RunNotFound
from routers.dependencies import HandlerId, RegistryDep, RunId
from routers.problems import problems
from routers.responses import handler_response, list_response, result_response
from schemas.handlers import CancelResponse, Handler, HandlerList, HandlerResult
from schemas.records import HandlerPosition, HandlerQuery, Status

router = APIRouter(tags=["handlers"])

MAX_PAGE = 1_000
BY_STATUS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The run completed."},
    202: {"model": Handler, "description": "The run is running."},
    500: {"model": Handler, "description": "The run failed or was cancelled."},
}


def _drop_empty(values: list[str] | None) -> list[str]:
    """Pass over `status=`: so the published Python client says that it sets no filter."""
    return [value for value in values or () if value]


@router.get(
    "/handlers",
    response_model=HandlerList,
    summary="List handlers",
    responses=problems(InvalidCursor),
)
async def list_handlers(
    registry: RegistryDep,
    status: Annotated[
        list[Status] | None,
        BeforeValidator(_drop_empty),
        Query(description="Only handlers of these statuses; repeatable. Empty: no filter."),
    ] = None,
    workflow_name: Annotated[
        list[str] | None,
        BeforeValidator(_drop_empty),
        Query(description="Only handlers of these workflows; repeatable. Empty: no filter."),
    ] = None,
    waiting: Annotated[
        bool, Query(description="Only handlers whose run has a question that nobody has answered.")
    ] = False,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="The page's size.")] = MAX_PAGE,
    cursor: Annotated[
        str | None, Query(description="The `next_cursor` of the page before.")
    ] = None,
) -> Response:
    """A page of handlers, newest first; handlers that come meanwhile move no other one."""
    query = HandlerQuery(
        statuses=frozenset(status or ()),
        workflow_names=frozenset(workflow_name or ()),
        waiting=waiting,
        after=_read_cursor(cursor) if cursor else None,
        limit=limit,
    )
    page = await registry.list_handlers(query)
    return list_response(page.records, _write_cursor(page.next) if page.next else None)


@router.get(
    "/handlers/{handler_id}",
    response_model=Handler,
    summary="Get a handler",
    responses={**problems(HandlerNotFound, RunNotFound), **BY_STATUS},
)
async def get_handler(
    handler_id: HandlerId, registry: RegistryDep, run_id: RunId = None
) -> Response:
    """The handler and its current run, or an earlier one; the status code says how the run is."""
    return handler_response(await registry.get(handler_id, run_id=run_id))


@router.post(
    "/handlers/{handler_id}/cancel",
    response_model=CancelResponse,
    summary="Cancel a handler",
    responses=problems(HandlerNotFound, NothingToCancel),
)
async def cancel_handler(
    handler_id: HandlerId,
    registry: RegistryDep,
    purge: Annotated[
        bool, Query(description="Remove every trace of the handler, running or ended.")
    ] = False,
) -> CancelResponse:
    """Stop a running handler, and with `purge` remove every trace of it."""
    return CancelResponse(status=await registry.cancel(handler_id, purge=purge))


@router.get(
    "/results/{handler_id}",
    response_model=HandlerResult,
    summary="Get a handler with its result unwrapped",
    deprecated=True,
    responses={
        **problems(HandlerNotFound),
        **{code: {**answer, "model": HandlerResult} for code, answer in BY_STATUS.items()},
    },
)
async def get_result(handler_id: HandlerId, registry: RegistryDep) -> Response:
    """Use `GET /handlers/{handler_id}`, whose result says of which class it is."""
    return result_response(await registry.get(handler_id))


def _write_cursor(position: HandlerPosition) -> str:
    text = f"{position.created_at.isoformat()} {position.handler_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> HandlerPosition:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        created_at, _, handler_id = text.partition(" ")
        position = HandlerPosition(datetime.fromisoformat(created_at), handler_id)
    except (ValueError, binascii.Error) as error:
        raise InvalidCursor("The cursor is none that a listing gave as `next_cursor`.") from error
    if position.created_at.tzinfo is None:
        raise InvalidCursor("The cursor is none that a listing gave as `next_cursor`.")
    return position
