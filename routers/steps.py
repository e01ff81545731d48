"""Steps: what a run did, attempt by attempt."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from workflow_server.app.access import Scope
from workflow_server.app.errors import (
    HandlerNotFound,
    HistoryNotKept,
    RunNotFound,
    StepNotFound,
)
from workflow_server.routers.dependencies import (
    CatalogDep,
    HandlerKeyDep,
    RegistryDep,
    RunId,
    get_principal,
)
from workflow_server.routers.problems import problems
from workflow_server.routers.responses import step_state_response, steps_response
from workflow_server.routers.rooms import RoomDep
from workflow_server.schemas.steps import StepList, StepState

router = APIRouter(tags=["handlers"])

MAX_PAGE = 1_000
LAST_TICK = (1 << 63) - 1  # that a store can hold


@router.get(
    "/handlers/{handler_id}/steps",
    response_model=StepList,
    summary="List the steps of a run",
    responses=problems(HandlerNotFound, RunNotFound, HistoryNotKept),
)
async def list_steps(
    request: Request,
    key: HandlerKeyDep,
    registry: RegistryDep,
    catalog: CatalogDep,
    room: RoomDep,
    run_id: RunId = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="The page's size.")] = MAX_PAGE,
    cursor: Annotated[
        int | None,
        Query(ge=0, le=LAST_TICK, description="The `next_cursor` of the page before."),
    ] = None,
) -> Response:
    """Each attempt of each step that has ended, in the order in which the run took them.

    A page also ends at about 4 MiB. Up to 4 MiB of history are kept of a run, compressed; beyond
    that the first steps go, and `dropped` says so. Tracebacks need the scope `admin`, where access
    is restricted. Secrets are masked.
    """
    with_tracebacks = Scope.ADMIN in get_principal(request).scopes

    async def read() -> Response:
        async with room.reading():
            page = await registry.list_steps(
                key,
                catalog,
                run_id=run_id,
                after=-1 if cursor is None else cursor,
                limit=limit,
                with_tracebacks=with_tracebacks,
            )
            return steps_response(page)

    return await room.answer(read)


@router.get(
    "/handlers/{handler_id}/steps/{sequence}/state",
    response_model=StepState,
    summary="Get the state that a step has left",
    responses=problems(HandlerNotFound, RunNotFound, StepNotFound, HistoryNotKept),
)
async def get_step_state(
    key: HandlerKeyDep,
    registry: RegistryDep,
    catalog: CatalogDep,
    room: RoomDep,
    sequence: Annotated[
        int, Path(ge=0, le=LAST_TICK, description="The `sequence` of the step.", examples=[4])
    ],
    run_id: RunId = None,
) -> Response:
    """The state of the run (`ctx.store`) after an attempt of a step, and what that has changed.

    Steps that go on side by side write to one state: what is shown is what was kept when the step
    ended. A state of more than 1 MiB is not kept with the history. Secrets are masked.
    """

    async def read() -> Response:
        async with room.reading():
            report = await registry.get_step_state(key, catalog, run_id=run_id, sequence=sequence)
            return step_state_response(sequence, report)

    return await room.answer(read)
