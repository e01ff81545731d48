"""The server that the crash harness kills, as a file that `workflow-server serve` takes."""

import os

from tests.durability.crash.workloads import KINDS
from workflow_server.app.server import WorkflowServer

server = WorkflowServer(
    workflow_store=os.environ["CRASH_STORE"],
    max_resumes=1_000_000,
    idle_timeout=float(os.environ["CRASH_IDLE_TIMEOUT"]),
    sse_heartbeat_interval=2,
    shutdown_timeout=2,
)
for kind in KINDS:
    server.add_workflow(kind.__name__.lower(), kind(timeout=None))
