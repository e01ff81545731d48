"""Workflows: what is served."""

from fastapi import APIRouter

from workflow_server.app.errors import WorkflowNotFound
from workflow_server.routers.dependencies import CatalogDep, WorkflowDep
from workflow_server.routers.problems import problems
from workflow_server.schemas.workflows import (
    WorkflowEvents,
    WorkflowList,
    WorkflowRepresentation,
    WorkflowSchema,
)

router = APIRouter(prefix="/workflows", tags=["workflows"])


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
    """The JSON Schemas of the workflow's start event and stop event."""
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
