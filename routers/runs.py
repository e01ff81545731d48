"""Runs: their beginning."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from workflow_server.app.errors import (
    BodyTooLarge,
    ClientTooSlow,
    Draining,
    EventTooLarge,
    HandlerRunning,
    InvalidContext,
    InvalidHandlerId,
    InvalidStartEvent,
    OtherWorkflow,
    RunUnfinished,
    StateNotRestorable,
    TooManyRuns,
    UnsupportedCoding,
    WorkflowNotFound,
)
from workflow_server.routers.dependencies import (
    JsonRequest,
    JsonRoute,
    RegistryDep,
    TenantDep,
    WorkflowDep,
    get_principal,
    get_services,
    refuse_codings,
)
from workflow_server.routers.problems import problems
from workflow_server.routers.responses import handler_response
from workflow_server.schemas.handlers import Handler, RunRequest
from workflow_server.schemas.names import Name

NAME = TypeAdapter(Name)


class RunRoute(JsonRoute):
    """A route that starts a run, with what its function declares found at once.

    The framework's own way to find it took a tenth of the time of a one-step run.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's handler."""
        start: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint

        async def handle_run(request: Request) -> Response:
            refuse_codings(request)
            services = await get_services(request)
            return await start(
                workflow=services.catalog.find(_read_name(request)),
                registry=services.lifecycle.registry,
                tenant=get_principal(request).tenant,
                body=await _read_body(JsonRequest(request.scope, request.receive)),
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
    try:
        return RunRequest.model_validate(await request.json(), from_attributes=True)
    except ValidationError as error:
        raise _malformed(error, "body") from error


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
    Draining,
)


@router.post(
    "/{name}/run",
    response_model=Handler,
    summary="Run a workflow to its end",
    responses={
        **problems(*RUN_ERRORS, RunUnfinished),
        200: {"description": "The run completed."},
        500: {"model": Handler, "description": "The run failed or was cancelled."},
    },
)
async def run_workflow(
    workflow: WorkflowDep, registry: RegistryDep, tenant: TenantDep, body: RunBody
) -> Response:
    """Start a run and answer when it has ended.

    A client that hangs up changes nothing: the run goes on, and its handler can be asked for. So
    it does when the server stops before; then the answer is 503 `run_unfinished`, and its
    `Location` is that of the handler.
    """
    live = await registry.start_run(workflow, body, tenant=tenant)
    return handler_response(await live.wait_ended(), {workflow.name: workflow})


@router.post(
    "/{name}/run-nowait",
    response_model=Handler,
    summary="Start a workflow",
    responses=problems(*RUN_ERRORS),
)
async def run_workflow_nowait(
    workflow: WorkflowDep, registry: RegistryDep, tenant: TenantDep, body: RunBody
) -> Response:
    """Start a run and answer at once, with the handler to ask for its events and its result."""
    live = await registry.start_run(workflow, body, tenant=tenant)
    record = await live.wait_accepted()
    return handler_response(record, {workflow.name: workflow}, accepted=True)
