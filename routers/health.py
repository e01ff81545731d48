"""Health."""

from fastapi import APIRouter, Request, Response

from app.errors import ServiceError
from routers.dependencies import get_services
from schemas.health import Health

router = APIRouter(tags=["health"])


@router.get(
    "/health",
    response_model=Health,
    summary="Ask whether the service can do its work",
    responses={503: {"model": Health, "description": "Not started, or the store has failed."}},
)
async def get_health(request: Request, response: Response) -> Health:
    """Healthy means that the server is started and its store can be reached."""
    try:
        services = await get_services(request)
        healthy = await services.registry.check()
    except ServiceError:
        healthy = False
    response.status_code = 200 if healthy else 503
    return Health(status="healthy" if healthy else "unhealthy")
