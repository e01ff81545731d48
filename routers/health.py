"""Health."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response

from workflow_server.app.errors import HostNotAllowed, ServiceError
from workflow_server.app.lifecycle import Lifecycle
from workflow_server.routers.dependencies import get_services
from workflow_server.routers.problems import ANYWHERE, Responses, add_answers, problems
from workflow_server.schemas.health import Health

router = APIRouter(tags=["health"])


def _answers(unhealthy: str, *errors: type[ServiceError]) -> Responses:
    answers: Responses = {503: {"model": Health, "description": unhealthy}}
    return add_answers(problems(*errors, every=ANYWHERE), answers)


@router.get(
    "/health",
    response_model=Health,
    summary="Ask whether the service can do its work",
    responses=_answers("Not started, or the store has failed.", HostNotAllowed),
)
async def get_health(request: Request, response: Response) -> Health:
    """Healthy means that the server is started and its store can be reached."""
    return _answer(response, await _ask(request, Lifecycle.check))


@router.get(
    "/livez",
    response_model=Health,
    summary="Ask whether the process answers",
    responses=problems(every=ANYWHERE),
)
async def get_liveness() -> Health:
    """Always healthy, as long as there is an answer; it asks nothing else."""
    return Health(status="healthy")


@router.get(
    "/readyz",
    response_model=Health,
    summary="Ask whether new runs are taken",
    responses=_answers("As /health, or the server is stopping."),
)
async def get_readiness(request: Request, response: Response) -> Health:
    """Ready means healthy, and not about to stop; earlier runs are resumed, or still being so."""
    return _answer(response, await _ask(request, Lifecycle.check_ready))


async def _ask(
    request: Request, question: Callable[[Lifecycle], Coroutine[Any, Any, bool]]
) -> bool:
    try:
        services = await get_services(request)
        return await question(services.lifecycle)
    except ServiceError:
        return False


def _answer(response: Response, healthy: bool) -> Health:
    response.status_code = 200 if healthy else 503
    return Health(status="healthy" if healthy else "unhealthy")
