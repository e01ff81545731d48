"""A step that keeps the event loop is named in the log."""

import logging
import time

import pytest
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.support.calls import run
from tests.support.live import make_client, serving
from workflow_server.app.server import WorkflowServer


class Blocker(Workflow):
    """Computes without an `await` until the watchdog has noticed."""

    def __init__(self, log: pytest.LogCaptureFixture) -> None:
        super().__init__()
        self.log = log

    @step
    async def compute(self, ev: StartEvent) -> StopEvent:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not self.log.records:
            pass
        return StopEvent(result="done")


async def test_a_step_that_blocks_the_event_loop_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="workflow_server.app.telemetry.watchdog")
    server = WorkflowServer()
    server.add_workflow("blocker", Blocker(caplog))
    async with (
        serving(server) as base_url,
        make_client(base_url) as client,
    ):
        handler = await run(client, "blocker")
    [record] = [r for r in caplog.records if r.name == "workflow_server.app.telemetry.watchdog"]
    told = record.getMessage(), vars(record)["step"], vars(record)["run_id"]
    assert told == ("event loop blocked", "compute", handler["run_id"])
