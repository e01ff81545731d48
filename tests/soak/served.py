"""The server that is soaked, as a file that `workflow-server serve` takes."""

import asyncio
import gc
import os
from datetime import timedelta

from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.support.workflows import add_all
from workflow_server.app.handlers import retention
from workflow_server.app.server import WorkflowServer

# A day in minutes: idle runs leave memory at once, and ended ones the store soon.
retention.PAUSE = 2.0


class Census(Workflow):
    """Counts what only the process itself can see."""

    @step
    async def count(self, ev: StartEvent) -> StopEvent:
        gc.collect()
        return StopEvent(result={"tasks": len(asyncio.all_tasks())})


server = WorkflowServer(
    workflow_store=os.environ["SOAK_STORE"],
    idle_timeout=0.3,
    retention=timedelta(seconds=10),
    sse_heartbeat_interval=0.5,
    shutdown_timeout=5,
)
add_all(server)
server.add_workflow("census", Census())
