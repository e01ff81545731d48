"""Metrics."""

from fastapi import APIRouter, Response

from routers.dependencies import RegistryDep
from routers.problems import problems

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    response_class=Response,
    summary="Read the metrics",
    responses={
        **problems(),
        200: {
            "description": "All metrics, as Prometheus reads them.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
    },
)
async def get_metrics(registry: RegistryDep) -> Response:
    """Counters, gauges and histograms of this server, in the Prometheus text format."""
    content, content_type = registry.render_metrics()
    return Response(content, headers={"content-type": content_type})
