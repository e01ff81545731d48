"""The workflows that are served, under their names."""

from collections.abc import Iterator, Mapping, Sequence

from workflows import Workflow
from workflows.events import Event

from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.errors import WorkflowNotFound
from workflow_server.schemas.names import DOTS, MAX_NAME_LENGTH


class Catalog(Mapping[str, ServedWorkflow]):
    """Registered workflows; one may be added while the server runs."""

    def __init__(self) -> None:
        self._served: dict[str, ServedWorkflow] = {}

    def add(
        self,
        name: str,
        workflow: Workflow,
        additional_events: Sequence[type[Event]] = (),
        *,
        keep_history: bool = True,
    ) -> None:
        """Register a workflow under a name.

        Raises ValueError for a name that is taken, or that no URL could hold as one segment, and
        the engine's `WorkflowValidationError` for a workflow that cannot run.
        """
        if name in self._served:
            raise ValueError(f"A workflow is registered as '{name}' already; choose another name.")
        if (
            not name
            or len(name) > MAX_NAME_LENGTH
            or "/" in name
            or name in DOTS
            or not name.isprintable()
        ):
            raise ValueError(
                f"'{name}' cannot be a workflow's name: it must be 1 to {MAX_NAME_LENGTH}"
                " printable characters without '/', and not '.' or '..'."
            )
        self._served[name] = ServedWorkflow(name, workflow, tuple(additional_events), keep_history)

    def find(self, name: str) -> ServedWorkflow:
        """Return the workflow of a name; `WorkflowNotFound` where there is none."""
        try:
            return self._served[name]
        except KeyError:
            raise WorkflowNotFound(f"No workflow is registered as '{name}'.") from None

    def __getitem__(self, name: str) -> ServedWorkflow:
        return self._served[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._served)

    def __len__(self) -> int:
        return len(self._served)
