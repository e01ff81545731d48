"""The server that the crash harness kills, as a file that `workflow-server serve` takes."""

import os
from datetime import timedelta

from tests.durability.crash.client import HEARTBEAT
from tests.durability.crash.workloads import KINDS
from workflow_server.app.handlers import retention
from workflow_server.app.server import WorkflowServer

RETENTION = os.environ.get("CRASH_RETENTION")
if RETENTION:
    retention.PAUSE = 0.1

server = WorkflowServer(
    workflow_store=os.environ["CRASH_STORE"],
    max_resumes=1_000_000,
    idle_timeout=float(os.environ["CRASH_IDLE_TIMEOUT"]),
    sse_heartbeat_interval=HEARTBEAT,
    shutdown_timeout=2,
    retention=timedelta(seconds=float(RETENTION)) if RETENTION else None,
)
for kind in KINDS:
    server.add_workflow(kind.__name__.lower(), kind(timeout=None))
