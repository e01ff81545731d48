"""Handlers: listed, inspected, cancelled."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BeforeValidator

from workflow_server.app.errors import HandlerNotFound, InvalidCursor, NothingToCancel, RunNotFound
from workflow_server.routers.dependencies import (
    CatalogDep,
    HandlerKeyDep,
    PurgeDep,
    RegistryDep,
    RunId,
    TenantDep,
)
from workflow_server.routers.problems import problems
from workflow_server.routers.responses import full_response, list_response, result_response
from workflow_server.schemas.handlers import (
    CancelResponse,
    HandlerFields,
    HandlerInFull,
    HandlerList,
    HandlerResult,
    RunList,
)
from workflow_server.schemas.names import Name
from workflow_server.schemas.records import (
    HandlerPosition,
    HandlerQuery,
    Phase,
    RunPosition,
    Status,
)

router = APIRouter(tags=["handlers"])

MAX_PAGE = 1_000
MAX_NAMES = 100  # a store asks once for each, and SQLite takes 500 parts in a query
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="The page's size.")]
Cursor = Annotated[str | None, Query(description="The `next_cursor` of the page before.")]
BY_STATUS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The run completed."},
    202: {"description": "The run is running."},
    500: {"description": "The run failed or was cancelled."},
}


def _by_status(model: type[HandlerFields]) -> dict[int | str, dict[str, Any]]:
    return {code: {**answer, "model": model} for code, answer in BY_STATUS.items()}


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
    catalog: CatalogDep,
    tenant: TenantDep,
    status: Annotated[
        list[Status] | None,
        BeforeValidator(_drop_empty),
        Query(description="Only handlers of these statuses; repeatable. Empty: no filter."),
    ] = None,
    phase: Annotated[
        list[Phase] | None,
        Query(description="Only handlers whose run is in these phases; repeatable."),
    ] = None,
    workflow_name: Annotated[
        list[Name] | None,
        BeforeValidator(_drop_empty),
        Query(
            max_length=MAX_NAMES,
            description="Only handlers of these workflows; repeatable. Empty: no filter.",
        ),
    ] = None,
    waiting: Annotated[
        bool, Query(description="Only handlers whose run has a question that nobody has answered.")
    ] = False,
    limit: Limit = MAX_PAGE,
    cursor: Cursor = None,
) -> Response:
    """A page of handlers, newest first; handlers that come meanwhile move no other one."""
    query = HandlerQuery(
        tenant=tenant,
        statuses=frozenset(status or ()),
        phases=frozenset(phase or ()),
        workflow_names=frozenset(workflow_name or ()),
        waiting=waiting,
        after=HandlerPosition(*read_cursor(cursor)) if cursor else None,
        limit=limit,
    )
    page = await registry.list_handlers(query)
    position = page.next
    following = write_cursor(position.created_at, position.handler_id) if position else None
    return list_response(page.records, catalog, following, of="handlers")


@router.get(
    "/handlers/{handler_id}",
    response_model=HandlerInFull,
    summary="Get a handler",
    responses={**problems(HandlerNotFound, RunNotFound), **_by_status(HandlerInFull)},
)
async def get_handler(
    key: HandlerKeyDep, registry: RegistryDep, catalog: CatalogDep, run_id: RunId = None
) -> Response:
    """The handler and its current run, or an earlier one; the status code says how the run is."""
    return full_response(await registry.get(key, run_id=run_id), catalog)


@router.get(
    "/handlers/{handler_id}/runs",
    response_model=RunList,
    summary="List a handler's runs",
    responses=problems(HandlerNotFound, InvalidCursor),
)
async def list_runs(
    key: HandlerKeyDep,
    registry: RegistryDep,
    catalog: CatalogDep,
    limit: Limit = MAX_PAGE,
    cursor: Cursor = None,
) -> Response:
    """A page of the handler's runs, newest first, the current one among them.

    `run_id` reads one of them, its events too.
    """
    after = RunPosition(*read_cursor(cursor)) if cursor else None
    page = await registry.list_runs(key, after=after, limit=limit)
    following = write_cursor(page.next.started_at, page.next.run_id) if page.next else None
    return list_response(page.records, catalog, following, of="runs")


@router.post(
    "/handlers/{handler_id}/cancel",
    response_model=CancelResponse,
    summary="Cancel a handler",
    responses=problems(HandlerNotFound, NothingToCancel),
)
async def cancel_handler(
    key: HandlerKeyDep, registry: RegistryDep, purge: PurgeDep
) -> CancelResponse:
    """Stop a running handler, and with `purge` remove every trace of it."""
    return CancelResponse(status=await registry.cancel(key, purge=purge))


@router.get(
    "/results/{handler_id}",
    response_model=HandlerResult,
    summary="Get a handler with its result unwrapped",
    deprecated=True,
    responses={**problems(HandlerNotFound), **_by_status(HandlerResult)},
)
async def get_result(key: HandlerKeyDep, registry: RegistryDep, catalog: CatalogDep) -> Response:
    """Use `GET /handlers/{handler_id}`, whose result says of which class it is."""
    return result_response(await registry.get(key), catalog)


def write_cursor(time: datetime, identity: str) -> str:
    """Return a place in a listing as a cursor."""
    text = f"{time.isoformat()} {identity}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """Return the place that a cursor names; `InvalidCursor` where it names none."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        written, _, identity = text.partition(" ")
        time = datetime.fromisoformat(written)
    except (ValueError, binascii.Error) as error:
        raise InvalidCursor("The cursor is none that a listing gave as `next_cursor`.") from error
    if time.tzinfo is None:
        raise InvalidCursor("The cursor is none that a listing gave as `next_cursor`.")
    return time, identity
