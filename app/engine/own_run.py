"""A workflow's own `run()`: called for what it does before the engine's begins.

Classes override `run()` to fill in defaults, to convert what callers give, and to set state. The
server calls it as a program would, and leaves it at the moment at which it starts the engine: the
run starts from what the engine would have started from.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from workflows import Context, Workflow
from workflows.context.pre_context import PreContext
from workflows.context.serializers import BaseSerializer
from workflows.errors import WorkflowRuntimeError
from workflows.events import StartEvent
from workflows.handler import WorkflowHandler
from workflows.runtime.types.internal_state import BrokerState

from workflow_server.app.engine.decoding import EventDecoder, describe_invalid, flatten
from workflow_server.app.engine.loops import find_loop_remedy
from workflow_server.app.engine.run_input import RunInput
from workflow_server.app.engine.run_parameters import RESERVED, RunParameters, read_parameters
from workflow_server.app.engine.state import TrackedState
from workflow_server.app.errors import InvalidStartEvent, RunStartsNothing
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.schemas.problems import Fault

logger = get_logger(__name__)

PLACE = ("body", "start_event")
# Raised by a `run()` that does not take what it is given.
REFUSALS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    WorkflowRuntimeError,
)


@dataclass(frozen=True, slots=True)
class Beginning:
    """Beginning of a run, as a `run()` hands it to the engine.

    `state` is the serialized `ctx.store` of a context that `run()` made, and `serializer` what
    reads it; empty where it made none, or set nothing there.
    """

    start_event: StartEvent | None
    broker: BrokerState
    state: dict[str, Any] | None = None
    serializer: BaseSerializer | None = None


class _Begun(BaseException):
    """Leaves a `run()` at its beginning; no Exception, for `run()` may catch those."""


@dataclass(eq=False)
class _Call:
    """One call of a workflow's `run()`."""

    workflow: Workflow
    beginning: Beginning | None = None

    def leave(self, beginning: Beginning) -> None:
        """Keep the beginning, and leave `run()`."""
        self.beginning = self.beginning or beginning
        raise _Begun


_call: ContextVar[_Call | None] = ContextVar("workflow_server_own_run", default=None)


@contextmanager
def leaving_own_run(workflow: Workflow, beginning: Beginning) -> Iterator[None]:
    """Leave the `run()` that was called for this beginning, or let the engine begin the run.

    A run of another workflow, which a `run()` starts too, begins as it would anywhere.
    """
    call = _call.get()
    if call is not None and call.workflow is workflow:
        call.leave(beginning)
    token = _call.set(None)
    try:
        yield
    finally:
        _call.reset(token)


class _CarriedContext(Context[Any]):
    """The context of a run that goes on from an earlier one, or from a client's context.

    It hands its state on as it is, where the engine would hand on a copy.
    """

    def __init__(self, workflow: Workflow, carried: RunInput, serializer: BaseSerializer) -> None:
        previous = carried.broker.to_serialized(serializer) if carried.has_context else None
        super().__init__(
            workflow, previous.model_dump(mode="python") if previous else None, serializer
        )
        assert isinstance(self._face, PreContext)
        self._face._store = carried.state

    def _workflow_run(
        self, workflow: Workflow, start_event: StartEvent | None, run_id: str | None = None
    ) -> WorkflowHandler:
        call, face = _call.get(), self._face
        if call is not None and call.workflow is workflow and isinstance(face, PreContext):
            broker = BrokerState.from_serialized(face.init_snapshot, workflow, face.serializer)
            call.leave(Beginning(start_event, broker))
        return super()._workflow_run(workflow, start_event, run_id)


class OwnRun:
    """The `run()` of one workflow."""

    def __init__(self, workflow: Workflow, decoder: EventDecoder) -> None:
        self.parameters: RunParameters = read_parameters(workflow)
        self._workflow = workflow
        self._decoder = decoder

    async def begin(self, given: StartEvent | dict[str, Any], carried: RunInput) -> RunInput:
        """Return the input of the run that `run()` starts.

        Raises `InvalidStartEvent` where it does not take what it is given, and `RunStartsNothing`
        where it starts no run of its workflow.
        """
        if isinstance(given, StartEvent):
            arguments: dict[str, Any] = {"start_event": given}
        else:
            arguments = self._convert(given)
        if not carried.is_fresh and self.parameters.takes_context:
            arguments["ctx"] = _CarriedContext(
                self._workflow, carried, self._decoder.event_serializer
            )
        return self._take(await self._call(arguments), carried)

    def _convert(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return a client's fields as the keywords of `run()`."""
        fields = flatten(
            self._workflow.start_event_class, given, error=InvalidStartEvent, place=PLACE
        )
        for name in sorted(RESERVED.intersection(fields)):
            fault = Fault(loc=[*PLACE, name], msg="Set by the server", type="extra_forbidden")
            raise InvalidStartEvent(f"'{name}' of run() cannot be set.", faults=[fault])
        model = self._decoder.validate(
            self.parameters.named, fields, error=InvalidStartEvent, place=PLACE
        )
        named = type(model).model_fields.items()
        values = {f.alias or "": getattr(model, n) for n, f in named if n in model.model_fields_set}
        return values | (model.model_extra or {})

    async def _call(self, arguments: dict[str, Any]) -> Beginning:
        call = _Call(self._workflow)
        token = _call.set(call)
        try:
            with self._decoder.serializer.validation_context():
                await _finish(self._workflow.run(**arguments))
        except _Begun:
            pass
        except REFUSALS as error:
            raise self._refusal(error) from error
        except (SystemExit, KeyboardInterrupt) as leaving:
            raise RunStartsNothing("The workflow's run() asked the process to end.") from leaving
        finally:
            _call.reset(token)
        if call.beginning is None:
            raise RunStartsNothing(
                "The workflow's own run() starts no run of this workflow, so there is nothing that"
                " the server could run."
            )
        return call.beginning

    def _refusal(self, error: Exception) -> InvalidStartEvent:
        name = self._workflow.start_event_class.__name__
        logger.info("run() refused a start", workflow=type(self._workflow).__qualname__)
        # The engine says of the fields of a start event no more than that they are wrong.
        invalid = error.__context__ if isinstance(error, WorkflowRuntimeError) else error
        if isinstance(invalid, ValidationError):
            return describe_invalid(invalid, name, error=InvalidStartEvent, place=PLACE)
        sentence = str(error).rstrip(".") or type(error).__name__
        detail = f"The workflow's run() refuses these fields: {sentence}. {find_loop_remedy(error)}"
        return InvalidStartEvent(detail.rstrip())

    def _take(self, beginning: Beginning, carried: RunInput) -> RunInput:
        """Put what `run()` starts from in the place of what the run would start from."""
        carried.start_event = beginning.start_event
        carried.is_from_json = False
        if beginning.state and beginning.serializer is not None:
            carried.state = TrackedState.decode_payload(beginning.state, beginning.serializer)
            carried.has_context = True
        elif carried.state.end_step(None):
            carried.has_context = True
        if beginning.broker != BrokerState.from_workflow(self._workflow):
            carried.broker = beginning.broker
            carried.has_context = True
        return carried


async def _finish(returned: object) -> None:
    """Let a `run()` that is a coroutine come to its beginning."""
    if isinstance(returned, WorkflowHandler):
        await returned.cancel_run()  # of another workflow, and nobody would ask for its end
    elif inspect.isawaitable(returned):
        await returned
