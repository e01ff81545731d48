"""Serves the workflows on any free port, and says which one.

Called as `python -m tests.differential.serve MODULE`, where the module is that of a
`WorkflowServer`: the engine's own, as it was until 2.13, or ours.
"""

import socket
import sys
from importlib import import_module

import uvicorn

from tests.differential.flows import WORKFLOWS, Extra


def main() -> None:
    """Serve until a signal."""
    server = import_module(sys.argv[1]).WorkflowServer()
    for name, workflow in WORKFLOWS.items():
        server.add_workflow(name, workflow, additional_events=[Extra] if name == "ask" else None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        config = uvicorn.Config(server.app, log_level="error", timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
