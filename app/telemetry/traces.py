"""The export of traces, to the OpenTelemetry collector that the `OTEL_*` variables name."""

import os
from collections.abc import Callable
from importlib.metadata import version
from threading import Thread

from opentelemetry import trace

from workflow_server.app.telemetry.logs import get_logger

logger = get_logger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
LAST_WORDS = 2.0  # seconds that the last spans get at the end of the process


def configure_traces() -> Callable[[], None]:
    """Send traces where the variables say so, and return what sends the last ones.

    A provider that the user's own code has made stays. Where traces cannot be sent, the log says
    why, and the server serves without them.
    """
    if not _is_wanted() or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return lambda: None
    protocol = next(filter(None, map(os.environ.get, PROTOCOLS)), PROTOCOL)
    if protocol != PROTOCOL:
        logger.warning("traces are not sent", reason=f"{protocol} is unknown, {PROTOCOL} is known")
        return lambda: None
    try:
        return _send()
    except ImportError:
        logger.warning("traces are not sent", reason="pip install 'workflow-server[otel]'")
        return lambda: None


def _is_wanted() -> bool:
    return (
        any(map(os.environ.get, ENDPOINTS))
        and os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"
        and os.environ.get("OTEL_TRACES_EXPORTER", "otlp").lower() != "none"
    )


def _send() -> Callable[[], None]:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({SERVICE_VERSION: version("workflow-server")})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "workflow-server"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)

    def finish() -> None:
        # In a thread: a collector that does not answer must not hold up the end of the process.
        last = Thread(target=provider.shutdown, name="traces", daemon=True)
        last.start()
        last.join(LAST_WORDS)

    return finish
