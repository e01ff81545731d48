"""What an operator measures: counters and gauges of one server, for Prometheus.

Label values are bounded: the names of served workflows and of their steps, and the statuses.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from schemas.records import Batch, RunRecord

PREFIX = "workflow_server"
CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RUN_SECONDS = (0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
ROWS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)


class Metrics:
    """The instruments of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.runs_started = self._counter("runs_started", "Runs accepted.", "workflow")
        self.runs_ended = self._counter("runs_ended", "Runs ended.", "workflow", "status")
        self.run_seconds = Histogram(
            f"{PREFIX}_run_seconds",
            "Time from acceptance to end, in seconds.",
            ["workflow"],
            buckets=RUN_SECONDS,
            registry=self.registry,
        )
        self.steps = self._counter("steps", "Steps finished.", "workflow", "step")
        self.resumes = self._counter("resumes", "Runs resumed after a restart.")
        self.events = self._counter("events", "Events committed.")
        self.store_errors = self._counter("store_errors", "Commits that the store refused.")
        self.commit_seconds = self._histogram("commit_seconds", "Time of a commit.", SECONDS)
        self.commit_rows = self._histogram("commit_rows", "Records in a commit.", ROWS)
        self.loop_lag = self._histogram(
            "loop_lag_seconds", "How late the event loop wakes a timer.", SECONDS
        )
        self.readers = Gauge(f"{PREFIX}_readers", "Open event streams.", registry=self.registry)

    def observe(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is asked for when it is read."""
        gauge = Gauge(f"{PREFIX}_{name}", description, registry=self.registry)
        gauge.set_function(value)

    def count_commit(self, batch: Batch, seconds: float) -> None:
        """Count a commit that took some seconds."""
        self.commit_seconds.observe(seconds)
        rows = len(batch.runs) + len(batch.events) + len(batch.ticks)
        self.commit_rows.observe(rows + len(batch.states) + len(batch.snapshots))
        self.events.inc(len(batch.events))

    def count_end(self, record: RunRecord) -> None:
        """Count a run that has ended."""
        self.runs_ended.labels(record.workflow_name, record.status.value).inc()
        seconds = (record.updated_at - record.started_at).total_seconds()
        self.run_seconds.labels(record.workflow_name).observe(seconds)

    def render(self) -> bytes:
        """Return all values in the Prometheus text format."""
        rendered: bytes = generate_latest(self.registry)
        return rendered

    def _counter(self, name: str, description: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", description, labels, registry=self.registry)

    def _histogram(self, name: str, description: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", description, buckets=buckets, registry=self.registry)
