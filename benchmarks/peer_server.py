"""Serves the workflows with the peer: `python -m benchmarks.peer_server PORT STORE IDLE_TIMEOUT`.

`STORE` is `memory:`, `sqlite:///FILE` or `postgresql://…`. Run in the peer's own environment, the
only one that has it.
"""

import asyncio
import sys
from importlib import import_module
from typing import Any

from workflows import Workflow

from benchmarks import workflows

# Imported by its name, for the type checker has nothing to read it from.
peer = import_module("llama_agents.server")


def open_store(url: str) -> Any:
    """Return the peer's store that a URL names."""
    match url.partition(":")[0]:
        case "memory":
            return peer.MemoryWorkflowStore()
        case "sqlite":
            return peer.SqliteWorkflowStore(url.removeprefix("sqlite:///"))
        case _:
            # Not among the peer's public names.
            module = import_module("llama_agents.server._store.postgres_workflow_store")
            return module.PostgresWorkflowStore(url)


def main(port: str, store: str, idle_timeout: str) -> None:
    """Serve on loopback until the process is ended, without a line of log for each request."""
    server = peer.WorkflowServer(workflow_store=open_store(store), idle_timeout=float(idle_timeout))
    for name, value in vars(workflows).items():
        if isinstance(value, Workflow):
            server.add_workflow(name, value)
    asyncio.run(server.serve("127.0.0.1", int(port), {"log_level": "warning"}))


if __name__ == "__main__":
    main(*sys.argv[1:])
