"""Servers of other packages: the workflows that they hold, read without running them."""

from collections.abc import Iterator
from typing import Any

from workflows import Workflow
from workflows.events import Event
from workflows.plugins.basic import basic_runtime

# The second has the first one's class since it has none of its own.
PEERS = ("llama_agents.server", "workflows.server")


def find_peer(value: object) -> str | None:
    """Return the package of another server's `WorkflowServer`, or None for any other value."""
    for parent in type(value).__mro__:
        if parent.__qualname__ == "WorkflowServer":
            for package in PEERS:
                if f"{parent.__module__}.".startswith(f"{package}."):
                    return package
    return None


def take_workflows(server: Any) -> Iterator[tuple[str, Workflow, tuple[type[Event], ...]]]:
    """Yield the workflows that another server holds: name, workflow, and additional events.

    Their runtime becomes the engine's own again, so that nothing of theirs goes through the server.
    A release before 0.8 does not tell of additional events.
    """
    additional = getattr(server, "additional_events", {})
    for name, workflow in server.get_workflows().items():
        workflow._switch_runtime(basic_runtime)
        yield name, workflow, tuple(additional.get(name, ()))
