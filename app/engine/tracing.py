"""Traces for OpenTelemetry: a span of a run while it is executed here, and of each of its steps.

They are made where the process has a tracer provider, the command line's or one of its own. A run
that goes on after it left memory gets another span, which is linked to its first: that one's place
is kept in the run's record. Spans carry ids, names and statuses, nothing of what workflows carry.
"""

from collections.abc import Awaitable

from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from workflows.runtime.types.results import StepWorkerOutput

from workflow_server.app.engine.outcome import judge_step
from workflow_server.schemas.records import RunRecord, Status

STATUS = "workflow.status"

tracer = trace.get_tracer("workflow-server")
propagator = TraceContextTextMapPropagator()


class RunTrace:
    """The span of a run, from its beginning here to its end here."""

    def __init__(self, record: RunRecord) -> None:
        self._attributes = {
            "workflow.name": record.workflow_name,
            "workflow.handler_id": record.handler_id,
            "workflow.run_id": record.run_id,
        }
        first = _read(record.trace) if record.trace is not None else None
        self._span = tracer.start_span(
            f"run {record.workflow_name}",
            attributes=self._attributes,
            links=[trace.Link(first)] if first is not None else (),
        )
        # Without what is left of the request, which the run outlives.
        self._context = trace.set_span_in_context(self._span, context.Context())

    @property
    def place(self) -> str | None:
        """The span's place in its trace, as the header `traceparent` would tell it."""
        carrier: dict[str, str] = {}
        propagator.inject(carrier, self._context)
        return carrier.get("traceparent")

    def enter(self) -> None:
        """Make the span the parent of all that the current task does."""
        context.attach(self._context)

    async def trace_step(
        self, step: str, work: Awaitable[list[StepWorkerOutput]]
    ) -> list[StepWorkerOutput]:
        """Return what a step gives, which was done in a span of its own."""
        span = tracer.start_span(
            f"step {step}", attributes={**self._attributes, "workflow.step": step}
        )
        with trace.use_span(
            span, end_on_exit=True, record_exception=False, set_status_on_exception=False
        ):
            span.set_attribute(STATUS, "cancelled")  # until it is known better
            outputs = await work
            status, error = judge_step(outputs)
            span.set_attribute(STATUS, status)
            if error is not None:
                # Its message may quote what the workflow carries.
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(trace.StatusCode.ERROR)
            return outputs

    def end(self, status: Status | None) -> None:
        """End the span; without a status the run goes on at another time."""
        self._span.set_attribute(STATUS, status.value if status is not None else "suspended")
        if status is Status.FAILED:
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()


def trace_run(record: RunRecord) -> RunTrace | None:
    """Begin the span of a run within the request that is served, or None where nobody traces."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    return RunTrace(record)


def _read(place: str) -> trace.SpanContext | None:
    found = propagator.extract({"traceparent": place}, context.Context())
    span_context = trace.get_current_span(found).get_span_context()
    return span_context if span_context.is_valid else None
