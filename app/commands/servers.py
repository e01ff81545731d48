"""From what the sources hold to the server that serves it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workflows.errors import WorkflowValidationError

from workflow_server.app.access import make_access
from workflow_server.app.commands.errors import UsageError
from workflow_server.app.loader import LoadedSources
from workflow_server.app.settings import Settings

if TYPE_CHECKING:
    from workflow_server.app.server import WorkflowServer


def make_server(loaded: LoadedSources, settings: Settings) -> "WorkflowServer":
    """Return the user's own server, or one that is set as the settings say, with the workflows."""
    # Here, so that a mistake in a source is told before the web framework is imported.
    from workflow_server.app.server import WorkflowServer

    server = loaded.server
    if not isinstance(server, WorkflowServer):
        server = WorkflowServer(
            workflow_store=settings.store, access=make_access(settings), settings=settings
        )
    for item in loaded.workflows:
        with _blaming(item.origin):
            server.add_workflow(item.name, item.workflow, item.additional_events)
    return server


@contextmanager
def _blaming(origin: str) -> Iterator[None]:
    """Turn a refusal of a workflow into one that names its file."""
    try:
        yield
    except (ValueError, WorkflowValidationError) as error:
        raise UsageError(f"{origin} cannot be served: {error}") from error
