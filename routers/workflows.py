"""Workflows: what is served, and its runs' beginning."""

from typing import Annotated

from fastapi import APIRouter, Body, Response

from app.errors import (
    BodyTooLarge,
    ClientTooSlow,
    EventTooLarge,
    HandlerRunning,
    InvalidContext,
    InvalidHandlerId,
    InvalidStartEvent,
    OtherWorkflow,
    StateNotRestorable,
    TooManyRuns,
    UnsupportedCoding,
    WorkflowNotFound,
)
from routers.dependencies import CatalogDep, JsonRoute, RegistryDep, WorkflowDep
from routers.problems import problems
from routers.responses import handler_response
from schemas.handlers import Handler, RunRequest
from schemas.workflows import (
    WorkflowEvents,
    WorkflowList,
    WorkflowRepresentation,
    WorkflowSchema,
)

router = APIRouter(prefix="/workflows", tags=["workflows"], route_class=JsonRoute)

RunBody = Annotated[RunRequest, Body(default_factory=RunRequest)]
RUN_ERRORS = problems(
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
)


@router.get("", response_model=WorkflowList, summary="List the workflows", responses=problems())
async def list_workflows(catalog: CatalogDep) -> WorkflowList:
    """The names of the registered workflows."""
    return WorkflowList(workflows=list(catalog))


@router.get(
    "/{name}/schema",
    response_model=WorkflowSchema,
    summary="Get the schemas of the start and stop event",
    responses=problems(WorkflowNotFound),
)
async def get_workflow_schema(workflow: WorkflowDep) -> WorkflowSchema:
    """What the workflow starts from, and what it ends with, as JSON Schemas."""
    start, stop = workflow.schemas
    return WorkflowSchema(start=start, stop=stop)


@router.get(
    "/{name}/events",
    response_model=WorkflowEvents,
    summary="Get the schemas of all events",
    responses=problems(WorkflowNotFound),
)
async def get_workflow_events(workflow: WorkflowDep) -> WorkflowEvents:
    """The events of the workflow, and the additional ones registered with it."""
    return WorkflowEvents(events=list(workflow.event_schemas))


@router.get(
    "/{name}/representation",
    response_model=WorkflowRepresentation,
    summary="Get the workflow as a graph",
    responses=problems(WorkflowNotFound),
)
async def get_workflow_representation(workflow: WorkflowDep) -> WorkflowRepresentation:
    """The steps and events of the workflow as nodes and edges."""
    return WorkflowRepresentation(graph=workflow.representation)


@router.post(
    "/{name}/run",
    response_model=Handler,
    summary="Run a workflow to its end",
    responses={
        **RUN_ERRORS,
        200: {"description": "The run completed."},
        500: {"model": Handler, "description": "The run failed or was cancelled."},
    },
)
async def run_workflow(workflow: WorkflowDep, registry: RegistryDep, body: RunBody) -> Response:
    """Start a run and answer when it has ended.

    A client that hangs up changes nothing: the run goes on, and its handler can be asked for.
    """
    live = await registry.start_run(workflow, body)
    return handler_response(await live.wait_ended())


@router.post(
    "/{name}/run-nowait",
    response_model=Handler,
    summary="Start a workflow",
    responses=RUN_ERRORS,
)
async def run_workflow_nowait(
    workflow: WorkflowDep, registry: RegistryDep, body: RunBody
) -> Response:
    """Start a run and answer at once, with the handler to ask for its events and its result."""
    live = await registry.start_run(workflow, body)
    return handler_response(await live.wait_accepted(), accepted=True)
