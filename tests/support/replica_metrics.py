"""The metrics that only a server among others has."""

from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.app.telemetry.replicas import ReplicaMetrics


def make_replica_metrics(metrics: Metrics | None = None) -> ReplicaMetrics:
    """Return the instruments of a server that knows of no other."""
    return ReplicaMetrics(
        metrics or Metrics(), count_servers=lambda _: 0.0, measure_silence=lambda: 0.0
    )


def render_replica_metrics() -> str:
    """Return the values of such a server in the Prometheus text format."""
    metrics = Metrics()
    make_replica_metrics(metrics).tell_incarnation(1)
    return metrics.render().decode()
