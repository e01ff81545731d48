"""Serves the workflows with the peer: `python -m benchmarks.peer_server PORT [SQLITE_FILE]`.

Run in the peer's own environment, the only one that has it.
"""

import asyncio
import sys
from importlib import import_module

from workflows import Workflow

from benchmarks import workflows


def main(port: str, sqlite_file: str | None = None) -> None:
    """Serve on loopback until the process is ended, without a line of log for each request."""
    # Imported by its name, for the type checker has nothing to read it from.
    peer = import_module("llama_agents.server")
    store = peer.SqliteWorkflowStore(sqlite_file) if sqlite_file else peer.MemoryWorkflowStore()
    server = peer.WorkflowServer(workflow_store=store)
    for name, value in vars(workflows).items():
        if isinstance(value, Workflow):
            server.add_workflow(name, value)
    asyncio.run(server.serve("127.0.0.1", int(port), {"log_level": "warning"}))


if __name__ == "__main__":
    main(*sys.argv[1:])
