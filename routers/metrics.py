"""Metrics."""

from fastapi import APIRouter, Response

from workflow_server.app.telemetry.metrics import CONTENT_TYPE
from workflow_server.routers.dependencies import MetricsDep
from workflow_server.routers.problems import problems

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
async def get_metrics(metrics: MetricsDep) -> Response:
    """Counters, gauges and histograms of this server, in the Prometheus text format."""
    return Response(metrics.render(), headers={"content-type": CONTENT_TYPE})
