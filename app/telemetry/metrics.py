"""Metrics for operators: counters and gauges of one server, for Prometheus.

Label values are bounded: names of served workflows, of their steps and of routes, and statuses.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from workflow_server.schemas.records import Batch, RunRecord, Status

PREFIX = "workflow_server"
CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STEP_SECONDS = (0.001, 0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 3600)
REQUEST_SECONDS = (*SECONDS, 60.0, 600.0)  # one that waits for the end of a run takes its time
RUN_SECONDS = (0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
ENDS = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
ROWS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)


class _Runs(NamedTuple):
    """The instruments of one workflow's runs."""

    started: Counter
    ended: dict[Status, Counter]
    seconds: Histogram


class Metrics:
    """The instruments of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.runs_started = self.add_counter("runs_started", "Runs accepted.", "workflow")
        self.runs_ended = self.add_counter("runs_ended", "Runs ended.", "workflow", "status")
        self.run_seconds = Histogram(
            f"{PREFIX}_run_seconds",
            "Time from acceptance to end, in seconds.",
            ["workflow"],
            buckets=RUN_SECONDS,
            registry=self.registry,
        )
        self.steps = self.add_counter("steps", "Attempts of steps.", "workflow", "step", "status")
        self.step_seconds = Histogram(
            f"{PREFIX}_step_seconds",
            "Time of an attempt of a step, in seconds.",
            ["workflow", "step"],
            buckets=STEP_SECONDS,
            registry=self.registry,
        )
        self.resumes = self.add_counter("resumes", "Runs resumed after a restart.")
        self.events = self.add_counter("events", "Events committed.")
        self.store_errors = self.add_counter("store_errors", "What the store refused.", "operation")
        self.commit_errors = self.store_errors.labels("commit")
        self.read_errors = self.store_errors.labels("read")
        self.commit_seconds = self._histogram("commit_seconds", "Time of a commit.", SECONDS)
        self.commit_rows = self._histogram("commit_rows", "Records in a commit.", ROWS)
        self.loop_lag = self._histogram(
            "loop_lag_seconds", "How late the event loop wakes a timer.", SECONDS
        )
        self.request_seconds = Histogram(
            f"{PREFIX}_http_request_seconds",
            "Time until a response begins, in seconds.",
            ["method", "route", "status"],
            buckets=REQUEST_SECONDS,
            registry=self.registry,
        )
        self.background_work = Counter(
            f"{PREFIX}_background_work",
            "Times that work beside the runs was done.",
            ["work", "status"],
            registry=self.registry,
        )
        # What `labels` would look for again each time, behind a lock.
        self._runs: dict[str, _Runs] = {}
        self._steps: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self._requests: dict[tuple[str, str, int], Histogram] = {}
        self.readers = Gauge(f"{PREFIX}_readers", "Open event streams.", registry=self.registry)

    def add_counter(self, name: str, description: str, *labels: str) -> Counter:
        """Add a counter and return it."""
        return Counter(f"{PREFIX}_{name}", description, labels, registry=self.registry)

    def observe(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is asked for when it is read."""
        gauge = Gauge(f"{PREFIX}_{name}", description, registry=self.registry)
        gauge.set_function(value)

    def observe_each(
        self, name: str, description: str, label: str, values: Mapping[str, Callable[[], float]]
    ) -> None:
        """Add a gauge with a value for each of some labels, asked for when it is read."""
        gauge = Gauge(f"{PREFIX}_{name}", description, [label], registry=self.registry)
        for member, value in values.items():
            gauge.labels(member).set_function(value)

    def count_commit(self, batch: Batch, seconds: float) -> None:
        """Count a commit that took some seconds."""
        self.commit_seconds.observe(seconds)
        rows = len(batch.runs) + len(batch.events) + len(batch.ticks)
        self.commit_rows.observe(rows + len(batch.states) + len(batch.snapshots))
        self.events.inc(len(batch.events))

    def count_start(self, workflow: str) -> None:
        """Count a run that was accepted."""
        self._of(workflow).started.inc()

    def step_counter(self, workflow: str) -> Callable[[str, str, float], None]:
        """Return what counts attempts of a workflow's steps: by step, status and seconds."""
        return partial(self.count_step, workflow)

    def count_step(self, workflow: str, step: str, status: str, seconds: float) -> None:
        """Count an attempt of a step that took some seconds."""
        key = workflow, step, status
        if key not in self._steps:
            counter = self.steps.labels(*key)
            self._steps[key] = counter, self.step_seconds.labels(workflow, step)
        counter, histogram = self._steps[key]
        counter.inc()
        histogram.observe(seconds)

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request whose response began after some seconds."""
        key = method, route, status // 100
        if key not in self._requests:
            labels = method, route, f"{status // 100}xx"
            self._requests[key] = self.request_seconds.labels(*labels)
        self._requests[key].observe(seconds)

    def count_end(self, record: RunRecord) -> None:
        """Count a run that has ended."""
        runs = self._of(record.workflow_name)
        runs.ended[record.status].inc()
        runs.seconds.observe((record.updated_at - record.started_at).total_seconds())

    def render(self) -> bytes:
        """Return all values in the Prometheus text format."""
        rendered: bytes = generate_latest(self.registry)
        return rendered

    def _of(self, workflow: str) -> _Runs:
        if workflow not in self._runs:
            self._runs[workflow] = _Runs(
                self.runs_started.labels(workflow),
                # Of each end, or the first failure of all would be no increase.
                {end: self.runs_ended.labels(workflow, end.value) for end in ENDS},
                self.run_seconds.labels(workflow),
            )
        return self._runs[workflow]

    def _histogram(self, name: str, description: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", description, buckets=buckets, registry=self.registry)
