"""The peer, serving the workflows: `python -m benchmarks.peer_server SOURCE`, in its environment.

It reads the variables of our server; `SOURCE` is a file of this folder.
"""

import asyncio
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from workflows import Workflow

# Imported by their names, for the type checker has nothing to read them from.
peer = import_module("llama_agents.server")


def open_store(url: str) -> Any:
    """Return the peer's store that a URL names."""
    if url == "memory:":
        return peer.MemoryWorkflowStore()
    if url.startswith("sqlite:///"):
        return peer.SqliteWorkflowStore(url.removeprefix("sqlite:///"))
    # Not among the peer's public names.
    module = import_module("llama_agents.server._store.postgres_workflow_store")
    return module.PostgresWorkflowStore(url)


def main(source: str) -> None:
    """Serve on loopback until the process is ended, without a line of log for each request."""
    store = open_store(os.environ["WORKFLOW_SERVER_STORE"])
    idle_timeout = float(os.environ["WORKFLOW_SERVER_IDLE_TIMEOUT"])
    server = peer.WorkflowServer(workflow_store=store, idle_timeout=idle_timeout)
    for name, value in vars(import_module(f"benchmarks.{Path(source).stem}")).items():
        if isinstance(value, Workflow):
            server.add_workflow(name, value)
    port = int(os.environ["WORKFLOW_SERVER_PORT"])
    asyncio.run(server.serve("127.0.0.1", port, {"log_level": "warning"}))


if __name__ == "__main__":
    main(sys.argv[1])
