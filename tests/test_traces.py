"""Traces arrive at a collector: a request, its run, and the run's steps, across restarts too."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import httpx
import pytest

from tests.support.backends import DURABLE, FRESH_URLS
from tests.support.calls import send, start, wait_ended
from tests.support.command import RunningServer, serving, write
from tests.support.streams import read_until
from tests.support.traces import Collector, collecting
from tests.support.waiting import DEADLINE, until

MARK = "XyzzyMark"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FLOWS = dedent("""
    import asyncio
    from pathlib import Path

    from workflows import Workflow, step
    from workflows.events import Event, HumanResponseEvent, InputRequiredEvent
    from workflows.events import StartEvent, StopEvent

    class Begin(StartEvent):
        text: str
        mode: str = ""

    class Middle(Event):
        text: str
        mode: str

    class Question(InputRequiredEvent):
        prompt: str

    class Answer(HumanResponseEvent):
        text: str

    class Flow(Workflow):
        @step
        async def first(self, ev: Begin) -> Middle:
            return Middle(text=ev.text, mode=ev.mode)

        @step
        async def second(self, ev: Middle) -> Question | StopEvent:
            while ev.mode == "hold" and not Path("go").exists():
                await asyncio.sleep(0.01)
            if ev.mode == "fail":
                raise ValueError(ev.text)
            if ev.mode == "ask":
                return Question(prompt=ev.text)
            return StopEvent(result=ev.text)

        @step
        async def third(self, ev: Answer) -> StopEvent:
            return StopEvent(result=ev.text)

    flow = Flow(timeout=None)
    """)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Yield a collector whose spans have nothing in them of what workflows carry."""
    with collecting() as collector:
        yield collector
    assert [body for body in collector.bodies if MARK.encode() in body] == []


@contextmanager
def tracing(folder: Path, collector: Collector, **variables: str) -> Iterator[RunningServer]:
    """Yield a server that sends what it traces at once."""
    write(folder / "flows.py", FLOWS)
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "20",
        "WORKFLOW_SERVER_STORE": f"sqlite:///{folder / 'runs.db'}",
        **variables,
    }
    with serving(folder, "flows.py", **variables) as server:
        yield server


def end(server: RunningServer) -> str:
    """End a server as SIGTERM does, and return what it has printed since it listened."""
    server.process.terminate()
    text, _ = server.process.communicate(timeout=DEADLINE)
    assert server.process.returncode == 0
    return text


async def call_flow(server: RunningServer, mode: str = "", **headers: str) -> httpx.Response:
    """Run the flow to its end."""
    async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE) as client:
        return await client.post(
            "/workflows/flow/run",
            json={"handler_id": "one", "start_event": {"text": MARK, "mode": mode}},
            headers=headers,
        )


async def test_a_request_its_run_and_the_steps_are_one_trace(
    tmp_path: Path, collector: Collector
) -> None:
    with tracing(tmp_path, collector) as server:
        response = await call_flow(server, traceparent=f"00-{TRACE}-{PARENT}-01")
        end(server)
    [request], [run] = collector.named("POST /workflows/{name}/run"), collector.named("run flow")
    [first], [second] = collector.named("step first"), collector.named("step second")
    assert {span.trace_id for span in collector.spans} == {TRACE}
    assert [span.parent_id for span in (request, run, first, second)] == [
        *(PARENT, request.span_id, run.span_id, run.span_id)
    ]
    ids = {
        "workflow.name": "flow",
        "workflow.handler_id": "one",
        "workflow.run_id": response.json()["run_id"],
        "workflow.status": "completed",
    }
    assert run.attributes == ids
    assert second.attributes == {**ids, "workflow.step": "second"}
    assert request.attributes["http.response.status_code"] == 200
    assert run.resource["service.name"] == "workflow-server"
    assert not any(span.failed for span in collector.spans)


async def test_a_step_that_fails_is_an_error_and_so_is_its_run(
    tmp_path: Path, collector: Collector
) -> None:
    with tracing(tmp_path, collector, OTEL_SERVICE_NAME="flows") as server:
        await call_flow(server, "fail")
        end(server)
    [first], [second] = collector.named("step first"), collector.named("step second")
    [run] = collector.named("run flow")
    assert [(span.failed, span.attributes["workflow.status"]) for span in (first, second, run)] == [
        *((False, "completed"), (True, "failed"), (True, "failed"))
    ]
    assert second.attributes["error.type"] == "ValueError"
    assert run.resource["service.name"] == "flows"


@pytest.mark.parametrize("backend", DURABLE)
async def test_a_run_that_goes_on_after_a_crash_is_linked_to_its_first_span(
    backend: str, tmp_path: Path, collector: Collector
) -> None:
    async with FRESH_URLS[backend](tmp_path) as url:
        with tracing(tmp_path, collector, WORKFLOW_SERVER_STORE=url) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE) as client:
                await start(client, "flow", "one", text=MARK, mode="hold")
                await until(lambda: bool(collector.named("step first")))
            server.process.kill()
            server.process.wait()
        (tmp_path / "go").touch()
        with tracing(tmp_path, collector, WORKFLOW_SERVER_STORE=url) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE) as client:
                ended = await wait_ended(client, "one")
            end(server)
    [first], [second] = collector.named("step first"), collector.named("step second")
    [resumed] = collector.named("run flow")
    # The first span of the run was lost with its process, but its place is known.
    assert resumed.links == ((first.trace_id, first.parent_id),)
    assert (resumed.parent_id, second.parent_id) == ("", resumed.span_id)
    assert resumed.trace_id != first.trace_id
    assert resumed.attributes["workflow.run_id"] == ended["run_id"]
    assert resumed.attributes["workflow.status"] == "completed"


async def test_a_run_that_an_event_brings_back_belongs_to_that_request_and_to_its_first_span(
    tmp_path: Path, collector: Collector
) -> None:
    with tracing(tmp_path, collector, WORKFLOW_SERVER_IDLE_TIMEOUT="0") as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE) as client:
            await start(client, "flow", "one", text=MARK, mode="ask")
            await read_until(client, "one", lambda frame: frame.type == "Question")
            await until(lambda: bool(collector.named("run flow")))
            await send(client, "one", "Answer", {"text": MARK})
            await wait_ended(client, "one")
        end(server)
    first, resumed = collector.named("run flow")
    [request] = collector.named("POST /events/{handler_id}")
    [third] = collector.named("step third")
    assert [run.attributes["workflow.status"] for run in (first, resumed)] == [
        *("suspended", "completed")
    ]
    assert (resumed.parent_id, resumed.links) == (request.span_id, (first.place,))
    assert third.parent_id == resumed.span_id


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_SAMPLER": "always_off"},
    ],
    ids=lambda variables: next(iter(variables)),
)
async def test_nothing_is_sent_where_the_variables_say_so(
    variables: dict[str, str], tmp_path: Path, collector: Collector
) -> None:
    with tracing(tmp_path, collector, **variables) as server:
        assert (await call_flow(server)).status_code == 200
        end(server)
    assert collector.bodies == []


async def test_probes_and_scrapes_are_not_traced(tmp_path: Path, collector: Collector) -> None:
    paths = ("/health", "/livez", "/readyz", "/metrics", "/workflows")
    with tracing(tmp_path, collector) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE) as client:
            assert [(await client.get(path)).status_code for path in paths] == [200] * 5
        end(server)
    assert [span.name for span in collector.spans] == ["GET /workflows"]


async def test_without_the_extra_the_server_serves_and_the_log_says_so(
    tmp_path: Path, collector: Collector
) -> None:
    write(
        tmp_path / "lacking" / "sitecustomize.py",
        "import sys",
        'sys.modules["opentelemetry.sdk"] = None',
    )
    lacking = {"PYTHONPATH": str(tmp_path / "lacking")}
    with tracing(tmp_path, collector, **lacking, WORKFLOW_SERVER_LOG_FORMAT="json") as server:
        assert (await call_flow(server)).status_code == 200
    [line] = [line for line in server.lines if "traces are not sent" in line]
    assert "pip install 'workflow-server[otel]'" in line


async def test_a_collector_that_is_not_there_holds_up_nothing(tmp_path: Path) -> None:
    with tracing(tmp_path, Collector("http://127.0.0.1:9")) as server:
        assert (await call_flow(server)).status_code == 200
        end(server)


async def test_a_provider_of_the_users_own_gets_the_spans(
    tmp_path: Path, collector: Collector
) -> None:
    own = dedent("""
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
        trace.set_tracer_provider(provider)
        """)
    write(tmp_path / "flows.py", own, FLOWS)
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    with serving(tmp_path, "flows.py", "--store", "memory:", **variables) as server:
        await call_flow(server)
        printed = end(server)
    assert '"name": "step second"' in printed
    assert collector.bodies == []


def test_nothing_of_the_sdk_is_imported_where_no_endpoint_is_named() -> None:
    program = dedent("""
        import sys

        from workflow_server.app.server import WorkflowServer
        from workflow_server.app.telemetry.traces import configure_traces

        configure_traces()
        WorkflowServer()
        wanted = ("opentelemetry.sdk", "opentelemetry.exporter", "google.protobuf", "requests")
        print([name for name in sys.modules if name.startswith(wanted)])
        """)
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("[]\n", "")
