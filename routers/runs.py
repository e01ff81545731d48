"""Runs: their beginning."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.routing import request_response

from workflow_server.app.errors import (
    BodyTooLarge,
    EventTooLarge,
    HandlerRunning,
    InvalidContext,
    InvalidHandlerId,
    InvalidStartEvent,
    OtherWorkflow,
    OutcomeUnknown,
    RunStartsNothing,
    RunUnfinished,
    StateNotRestorable,
    TooManyRuns,
    WorkflowNotFound,
)
from workflow_server.app.handlers.registry import HandlerRegistry
from workflow_server.app.http_errors import ClientTooSlow, UnsupportedCoding
from workflow_server.routers.dependencies import (
    JsonRequest,
    JsonRoute,
    RegistryDep,
    TenantDep,
    ViewDep,
    WorkflowDep,
    get_principal,
    get_services,
    make_view,
    refuse_codings,
)
from workflow_server.routers.header_fields import declare
from workflow_server.routers.problems import add_answers, problems
from workflow_server.routers.responses import View, handler_response
from workflow_server.routers.rooms import Room, RoomDep
from workflow_server.schemas.handlers import Handler, RunRequest
from workflow_server.schemas.names import Name
from workflow_server.schemas.records import RunRecord

NAME = TypeAdapter(Name)
UNKNOWN_KEYS = {
    "type": "unknown_keys",
    "loc": ("body",),
    "msg": f"None of the keys is known; a run takes {', '.join(RunRequest.model_fields)}",
}


class RunRoute(JsonRoute):
    """A route that starts a run, with what its function declares found at once.

    The framework's own way to find it took a tenth of the time of a one-step run. Nothing that is
    declared is closed after the answer, so no place is kept for what would be.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.app = request_response(self.get_route_handler())

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's handler."""
        start: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint

        async def handle_run(request: Request) -> Response:
            refuse_codings(request)
            services = await get_services(request)
            tenant = get_principal(request).tenant
            return await start(
                workflow=services.catalog.find(_read_name(request)),
                registry=services.lifecycle.registry,
                tenant=tenant,
                room=Room(services, tenant, request),
                body=await _read_body(JsonRequest(request.scope, request.receive)),
                view=make_view(services),
            )

        return handle_run


def _read_name(request: Request) -> str:
    try:
        return NAME.validate_python(request.path_params["name"])
    except ValidationError as error:
        raise _malformed(error, "path", "name") from error


async def _read_body(request: JsonRequest) -> RunRequest:
    if not await request.body():
        return RunRequest()
    content = await request.json()
    try:
        body = RunRequest.model_validate(content, from_attributes=True)
    except ValidationError as error:
        raise _malformed(error, "body") from error
    body.note_size(len(await request.body()))
    if isinstance(body.start_event, str):
        await request.check_values(body.start_event)
    if content and not body.model_fields_set:
        raise RequestValidationError([UNKNOWN_KEYS])
    return body


def _malformed(error: ValidationError, *place: str) -> RequestValidationError:
    faults = [
        {**fault, "loc": (*place, *fault["loc"])} for fault in error.errors(include_url=False)
    ]
    return RequestValidationError(faults)


router = APIRouter(prefix="/workflows", tags=["workflows"], route_class=RunRoute)

RunBody = Annotated[RunRequest, Body(default_factory=RunRequest)]
RUN_ERRORS = (
    WorkflowNotFound,
    InvalidStartEvent,
    InvalidContext,
    InvalidHandlerId,
    HandlerRunning,
    OtherWorkflow,
    StateNotRestorable,
    BodyTooLarge,
    ClientTooSlow,
    EventTooLarge,
    TooManyRuns,
    UnsupportedCoding,
    OutcomeUnknown,
    RunStartsNothing,
)
LOCATED = {"headers": declare("Location")}


@router.post(
    "/{name}/run",
    response_model=Handler,
    summary="Run a workflow to its end",
    responses=add_answers(
        problems(*RUN_ERRORS, RunUnfinished),
        {
            200: {"description": "The run completed.", **LOCATED},
            500: {"model": Handler, "description": "The run failed or was cancelled.", **LOCATED},
        },
    ),
)
async def run_workflow(
    workflow: WorkflowDep,
    registry: RegistryDep,
    tenant: TenantDep,
    room: RoomDep,
    body: RunBody,
    view: ViewDep,
) -> Response:
    """Start a run and answer when it has ended.

    A client that hangs up changes nothing: the run goes on, and its handler can be asked for. So
    it does when the server stops before; then the answer is 503 `run_unfinished`, and its
    `Location` is that of the handler.
    """
    live = await registry.start_run(workflow, body, tenant=tenant)
    return _answer(await registry.wait_ended(live), registry, room, view, accepted=False)


@router.post(
    "/{name}/run-nowait",
    response_model=Handler,
    summary="Start a workflow",
    responses=add_answers(
        problems(*RUN_ERRORS), {200: {"description": "The run is accepted.", **LOCATED}}
    ),
)
async def run_workflow_nowait(
    workflow: WorkflowDep,
    registry: RegistryDep,
    tenant: TenantDep,
    room: RoomDep,
    body: RunBody,
    view: ViewDep,
) -> Response:
    """Start a run and answer at once, with the handler to ask for its events and its result."""
    live = await registry.start_run(workflow, body, tenant=tenant)
    return _answer(await live.wait_accepted(), registry, room, view, accepted=True)


def _answer(
    record: RunRecord, registry: HandlerRegistry, room: Room, view: View, *, accepted: bool
) -> Response:
    """Return the handler as it is in a record, which is read again where it waits for a slot."""
    key, run_id = record.key, record.run_id

    async def read() -> Response:
        async with room.reading():
            record = await registry.get(key, run_id=run_id)
            return handler_response(record, view, accepted=accepted)

    return room.send(handler_response(record, view, accepted=accepted), read)
