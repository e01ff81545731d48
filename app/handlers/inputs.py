"""Inputs of runs: from a start event, a context, or the state that an earlier run has left."""

from collections.abc import Callable
from functools import partial

from workflows.events import StartEvent

from workflow_server.app.engine.run_input import RunInput
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.state_documents import merge
from workflow_server.app.errors import OtherWorkflow, StateNotRestorable
from workflow_server.app.reads import Reads
from workflow_server.schemas.handlers import RunRequest
from workflow_server.schemas.records import RunRecord, StoredState


class RunInputs:
    """Makes the inputs of runs out of what clients ask for."""

    def __init__(self, reads: Reads, *, max_values: int) -> None:
        self._reads = reads
        self._max_values = max_values

    async def prepare(
        self, workflow: ServedWorkflow, request: RunRequest, previous: RunRecord | None
    ) -> RunInput:
        """Return the input of a run that follows another one of its handler, if any.

        Raises `OtherWorkflow`, `InvalidStartEvent`, `InvalidContext` or `StateNotRestorable`.
        """
        if previous is not None and previous.workflow_name != workflow.name:
            raise OtherWorkflow(
                f"The handler '{previous.handler_id}' belongs to the workflow"
                f" '{previous.workflow_name}'; choose another id."
            )
        data, kwargs, own_run = request.start_event, request.kwargs, workflow.own_run
        if own_run is not None:
            if request.context:
                read = partial(workflow.read_context, request.context)
                carried = await self._read_context(workflow, read, request.size)
            else:
                carried = await self._carry(workflow, None, previous)
            return await workflow.call_own_run(own_run, data, kwargs, carried)
        if request.context:
            read = partial(workflow.context_input, request.context, data=data, kwargs=kwargs)
            return await self._read_context(workflow, read, request.size)
        return await self._carry(workflow, workflow.read_start_event(data, kwargs), previous)

    async def _read_context(
        self, workflow: ServedWorkflow, read: Callable[..., RunInput], size: int
    ) -> RunInput:
        """Return what a client's context holds; a large one is read beside the event loop.

        The engine builds its events one by one, by calls that are short each.
        """
        read = partial(read, max_values=self._max_values)
        return await workflow.codec.beside.read(size, read)

    async def _carry(
        self, workflow: ServedWorkflow, start_event: StartEvent | None, previous: RunRecord | None
    ) -> RunInput:
        """Return the input of a run that starts from the state of an earlier run, if any."""
        if previous is None:
            return workflow.fresh_input(start_event)
        state = await self._reads.ask(self._reads.store.get_state(previous.run_id))
        if state is None:
            return workflow.fresh_input(start_event)
        build = partial(_continue, workflow, start_event, state)
        try:
            return await workflow.codec.beside.read(state.size, build)
        except Exception as error:  # the classes that are built are the user's
            raise StateNotRestorable(
                "The state that the handler's last run left cannot be restored."
            ) from error


def _continue(
    workflow: ServedWorkflow, start_event: StartEvent | None, state: StoredState
) -> RunInput:
    return workflow.continued_input(start_event, merge(state))
