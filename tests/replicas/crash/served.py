"""The servers that the harness disturbs, as a file that `workflow-server serve` takes."""

import os

from tests.durability.crash.workloads import KINDS
from tests.replicas.crash.poison import Poison
from workflow_server.app.server import WorkflowServer

server = WorkflowServer(
    workflow_store=os.environ["CRASH_STORE"],
    replicas=True,
    heartbeat=float(os.environ["CRASH_HEARTBEAT"]),
    stale_after=float(os.environ["CRASH_STALE_AFTER"]),
    max_resumes=1,
    idle_timeout=float(os.environ["CRASH_IDLE_TIMEOUT"]),
    sse_heartbeat_interval=2,
    shutdown_timeout=2,
)
for kind in KINDS:
    server.add_workflow(kind.__name__.lower(), kind(timeout=None))
server.add_workflow("poison", Poison(timeout=None))
