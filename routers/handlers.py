"""Handlers: listed, inspected, cancelled."""

import base64
import binascii
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, BeforeValidator

from workflow_server.app.errors import (
    HandlerNotFound,
    InvalidCursor,
    NothingToCancel,
    OutcomeUnknown,
    RunElsewhere,
    RunNotCurrent,
    RunNotFound,
    UnknownField,
)
from workflow_server.routers.dependencies import (
    CurrentRunId,
    HandlerKeyDep,
    PurgeDep,
    RegistryDep,
    RunId,
    TenantDep,
    ViewDep,
)
from workflow_server.routers.preconditions import KnownDep
from workflow_server.routers.problems import add_answers, problems
from workflow_server.routers.responses import (
    FIELDS,
    describe_handler,
    full_response,
    list_response,
)
from workflow_server.routers.rooms import RoomDep
from workflow_server.schemas.handlers import CancelResponse, HandlerInFull, HandlerList, RunList
from workflow_server.schemas.listings import (
    ALL_DOCUMENTS,
    HandlerPosition,
    HandlerQuery,
    RunPosition,
)
from workflow_server.schemas.names import Name
from workflow_server.schemas.records import (
    Phase,
    RunRecord,
    Status,
)

router = APIRouter(tags=["handlers"])

# A plus sign that no client has escaped arrives as a space. From one T no look goes past the next,
# or a long text of them would keep the event loop for seconds.
BROKEN_OFFSET = re.compile(r"(T[^T ]*) (\d\d:?\d\d)")
NUMBER = re.compile(r"\s*[-+.\d]+(e[-+]?\d+)?\s*", re.IGNORECASE)


def _read_time(value: object) -> object:
    """Return a time as it was meant where the plus sign of its offset has become a space.

    A number is refused, which pydantic would take for seconds, or for milliseconds, by its size.
    """
    if not isinstance(value, str):
        return value
    if NUMBER.fullmatch(value):
        raise ValueError("give a time as ISO 8601 writes it, with its offset from UTC")
    return BROKEN_OFFSET.sub(r"\1+\2", value)


MAX_PAGE = 1_000
MAX_NAMES = 100  # a store asks once for each, and SQLite takes 500 parts in a query
MAX_FIELDS = 100
LISTED_FIELDS = frozenset(HandlerInFull.model_fields)
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="The page's size.")]
Cursor = Annotated[str | None, Query(description="The `next_cursor` of the page before.")]
Fields = Annotated[
    list[Name] | None,
    Query(
        max_length=MAX_FIELDS,
        description="The fields that each handler has in the answer, besides its `handler_id`:"
        " repeated, or with commas between them. `start_event` comes where it is named. Without"
        " `result` and `start_event` a page takes far less memory and time.",
        examples=[["status,started_at"]],
    ),
]
Time = Annotated[AwareDatetime, BeforeValidator(_read_time)]


def _drop_empty(values: list[str] | None) -> list[str]:
    """Pass over `status=`: so the published Python client says that it sets no filter."""
    return [value.strip() for value in values or () if value.strip()]


@router.get(
    "/handlers",
    response_model=HandlerList,
    summary="List handlers",
    responses=problems(InvalidCursor, UnknownField),
)
async def list_handlers(
    registry: RegistryDep,
    view: ViewDep,
    tenant: TenantDep,
    room: RoomDep,
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
    started_after: Annotated[
        Time | None,
        Query(description="Only handlers whose current run began after this time."),
    ] = None,
    started_before: Annotated[
        Time | None,
        Query(description="Only handlers whose current run began before this time."),
    ] = None,
    handler_id_prefix: Annotated[
        Name, Query(description="Only handlers whose ids begin so.", examples=["order-"])
    ] = "",
    order: Annotated[
        Literal["newest", "oldest"],
        Query(description="Which handlers come first, by when they came to be."),
    ] = "newest",
    fields: Fields = None,
    limit: Limit = MAX_PAGE,
    cursor: Cursor = None,
) -> Response:
    """A page of handlers, newest first; handlers that come meanwhile move no other one.

    A page also ends at about 4 MiB. Where `next_cursor` is not null, there are more.
    """
    names = read_fields(fields)
    query = HandlerQuery(
        tenant=tenant,
        statuses=frozenset(status or ()),
        phases=frozenset(phase or ()),
        workflow_names=frozenset(workflow_name or ()),
        waiting=waiting,
        started_after=started_after,
        started_before=started_before,
        handler_id_prefix=handler_id_prefix,
        oldest_first=order == "oldest",
        documents=ALL_DOCUMENTS & names,
        after=HandlerPosition(*read_cursor(cursor)) if cursor else None,
        limit=limit,
    )

    async def read() -> Response:
        page = await registry.list_handlers(query)
        return list_response(page, view, _place_of_handler, of="handlers", fields=names)

    return await room.answer(read)


@router.get(
    "/handlers/{handler_id}",
    response_model=HandlerInFull,
    summary="Get a handler",
    responses=add_answers(problems(HandlerNotFound, RunNotFound), describe_handler(HandlerInFull)),
)
async def get_handler(
    key: HandlerKeyDep,
    registry: RegistryDep,
    view: ViewDep,
    known: KnownDep,
    room: RoomDep,
    run_id: RunId = None,
) -> Response:
    """The handler and its current run, or an earlier one; the status code says how the run is."""

    async def read() -> Response:
        async with room.reading():
            return full_response(await registry.get(key, run_id=run_id), view, known)

    return await room.answer(read)


@router.get(
    "/handlers/{handler_id}/runs",
    response_model=RunList,
    summary="List a handler's runs",
    responses=problems(HandlerNotFound, InvalidCursor, UnknownField),
)
async def list_runs(
    key: HandlerKeyDep,
    registry: RegistryDep,
    view: ViewDep,
    room: RoomDep,
    fields: Fields = None,
    limit: Limit = MAX_PAGE,
    cursor: Cursor = None,
) -> Response:
    """A page of the handler's runs, newest first, the current one among them.

    `run_id` reads one of them, its events too. A page also ends at about 4 MiB.
    """
    after = RunPosition(*read_cursor(cursor)) if cursor else None
    names = read_fields(fields)
    documents = ALL_DOCUMENTS & names

    async def read() -> Response:
        page = await registry.list_runs(key, after=after, limit=limit, documents=documents)
        return list_response(page, view, _place_of_run, of="runs", fields=names)

    return await room.answer(read)


@router.post(
    "/handlers/{handler_id}/cancel",
    response_model=CancelResponse,
    summary="Cancel a handler",
    responses=problems(
        HandlerNotFound, NothingToCancel, RunNotCurrent, RunElsewhere, OutcomeUnknown
    ),
)
async def cancel_handler(
    key: HandlerKeyDep, registry: RegistryDep, purge: PurgeDep, run_id: CurrentRunId = None
) -> CancelResponse:
    """Stop a running handler, and with `purge` remove every trace of it.

    With `run_id` it is refused where the handler runs again meanwhile. A step that goes on for five
    seconds after its cancellation is left to itself: nothing of what it does is kept, and it keeps
    its slot until it ends.
    """
    return CancelResponse(status=await registry.cancel(key, purge=purge, run_id=run_id))


def read_fields(fields: Sequence[str] | None) -> frozenset[str]:
    """Return the fields that are asked for, given one by one or with commas between them.

    The id of the handler is always among them. `UnknownField` for a name that no field has.
    """
    names = {name.strip() for part in fields or () for name in part.split(",")} - {""}
    if not names:
        return FIELDS
    for name in sorted(names - LISTED_FIELDS):
        raise UnknownField(
            f"A handler has no field '{name}'; its fields are {', '.join(sorted(LISTED_FIELDS))}."
        )
    return frozenset(names | {"handler_id"})


def _place_of_handler(record: RunRecord) -> str:
    return write_cursor(record.handler_created_at, record.handler_id)


def _place_of_run(record: RunRecord) -> str:
    return write_cursor(record.started_at, record.run_id)


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
