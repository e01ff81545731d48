"""A workflow as it is served: what may be sent to it, and how its runs are started."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ValidationError
from workflows import Workflow
from workflows.context.pre_context import PreContext
from workflows.context.serializers import BaseSerializer, JsonSerializer
from workflows.context.state_store import DictState, infer_state_type
from workflows.errors import ContextSerdeError
from workflows.events import Event, StartEvent
from workflows.runtime.types.internal_state import BrokerState

from workflow_server.app.engine.adapters import JournalRuntime
from workflow_server.app.engine.awaitable import AwaitableEvents
from workflow_server.app.engine.codec import qualified_name
from workflow_server.app.engine.decoding import (
    ENVELOPE_KEYS,
    PYDANTIC_MARK,
    EventDecoder,
    as_object,
    counting_texts,
    declared_names,
    envelope_names,
    envelope_value,
)
from workflow_server.app.engine.event_schemas import describe
from workflow_server.app.engine.own_run import OwnRun
from workflow_server.app.engine.representation import find_description, represent
from workflow_server.app.engine.run_input import RunInput
from workflow_server.app.engine.run_parameters import has_own_run
from workflow_server.app.engine.state import TrackedState
from workflow_server.app.engine.values.codec import Codec
from workflow_server.app.engine.values.older import OlderSerializer
from workflow_server.app.errors import (
    BodyTooLarge,
    InvalidContext,
    InvalidEvent,
    InvalidStartEvent,
    UnknownStep,
)

# The names of a start event that is of no class of the workflow's.
UNTYPED = frozenset({StartEvent.__name__, qualified_name(StartEvent)})


@dataclass(frozen=True)
class ServedWorkflow:
    """A registered workflow under its name."""

    name: str
    workflow: Workflow
    additional_events: tuple[type[Event], ...] = ()
    keeps_history: bool = True
    runtime: JournalRuntime = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.workflow.validate()
        object.__setattr__(self, "runtime", JournalRuntime.install(self.workflow))

    @cached_property
    def events(self) -> tuple[type[Event], ...]:
        """The events that the workflow declares and those registered with it, in a fixed order."""
        declared = sorted(self.workflow.events, key=lambda c: (c.__name__, c.__module__))
        return tuple(dict.fromkeys([*declared, *self.additional_events]))

    @cached_property
    def decoder(self) -> EventDecoder:
        """Builds what clients send, of this workflow's classes alone."""
        *events, state_class = self._own_classes
        return EventDecoder(events, *([] if state_class is DictState else [state_class]))

    @property
    def _own_classes(self) -> Sequence[type[Any]]:
        """The classes that the workflow declares; its state's is the last."""
        workflow = self.workflow
        events = [*self.events, workflow.start_event_class, workflow.stop_event_class]
        return [*dict.fromkeys(events), self.state_class]

    @cached_property
    def codec(self) -> Codec:
        """Encodes and decodes what the workflow's runs hold."""
        return Codec(self._own_classes, self._own_serializer)

    @cached_property
    def older_serializer(self) -> BaseSerializer:
        """Decodes what the engine's serializer encoded before there was a codec."""
        return self._own_serializer or OlderSerializer(self.codec.classes)

    @cached_property
    def _own_serializer(self) -> BaseSerializer | None:
        """The serializer that the workflow was given, or None where it has the engine's."""
        serializer = self.runtime.get_serializer(self.workflow)
        return None if type(serializer) is JsonSerializer else serializer

    @cached_property
    def awaitable(self) -> AwaitableEvents:
        """The events that the workflow's runs can wait for."""
        return AwaitableEvents(self.workflow, self.decoder.event_classes)

    @cached_property
    def state_class(self) -> type[BaseModel]:
        """The class of the workflow's `ctx.store`."""
        return infer_state_type(self.workflow)

    @property
    def timeout(self) -> float | None:
        """The seconds that a run may be alive, or None for no limit."""
        return self.workflow._timeout

    @property
    def concurrent_runs(self) -> int | None:
        """The workflow's own limit of concurrent runs, or None where it has none."""
        return self.workflow._num_concurrent_runs

    @cached_property
    def own_run(self) -> OwnRun | None:
        """The `run()` of the workflow's own, or None where it has the engine's."""
        return OwnRun(self.workflow, self.decoder) if has_own_run(self.workflow) else None

    @property
    def start_model(self) -> type[BaseModel]:
        """The model of the fields that a run starts from."""
        if self.own_run is not None:
            return self.own_run.parameters.shown
        start_class: type[StartEvent] = self.workflow.start_event_class
        return start_class

    @cached_property
    def schemas(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The JSON Schemas of the start and the stop event."""
        return describe(self.start_model), describe(self.workflow.stop_event_class)

    @cached_property
    def event_schemas(self) -> tuple[dict[str, Any], ...]:
        """The JSON Schemas of the events."""
        return tuple(describe(event_class) for event_class in self.events)

    @cached_property
    def description(self) -> str | None:
        """The docstring of the workflow's class, or None where its author wrote none."""
        return find_description(self.workflow)

    @cached_property
    def representation(self) -> dict[str, Any]:
        """The workflow's steps and events as a graph."""
        return represent(self.workflow)

    def read_start_event(
        self, data: dict[str, Any] | str | None, kwargs: dict[str, Any] | None
    ) -> StartEvent:
        """Return the start event that a client sent; `InvalidStartEvent` says what is wrong.

        An object that is valid as the event's declared fields is taken as such, an envelope of
        the start event's type as an envelope, and anything else as fields again.
        """
        start_class: type[StartEvent] = self.workflow.start_event_class
        fields = _read_fields(data, kwargs)
        declared = self._declared_start_names
        if not self._is_envelope(fields, declared):
            return self._build_start(start_class, fields)
        if declared.issuperset(fields):
            try:
                return self._build_start(start_class, fields)
            except InvalidStartEvent:
                return self._read_start_envelope(start_class, fields)
        return self._read_start_envelope(start_class, fields)

    @cached_property
    def _declared_start_names(self) -> frozenset[str]:
        return declared_names(self.workflow.start_event_class)

    async def call_own_run(
        self,
        own_run: OwnRun,
        data: dict[str, Any] | str | None,
        kwargs: dict[str, Any] | None,
        carried: RunInput,
    ) -> RunInput:
        """Return the input of the run that the workflow's own `run()` starts."""
        start_class: type[StartEvent] = self.workflow.start_event_class
        event_class, parameters, names = start_class, own_run.parameters, own_run.parameters.names
        fields = _read_fields(data, kwargs)
        if self._is_envelope(fields, names) and not names.issuperset(fields):
            event_class, fields = self._open_start_envelope(start_class, fields)
        is_other = event_class is not start_class
        if is_other or (parameters.takes_start_event and not parameters.takes(fields)):
            return await own_run.begin(self._build_start(event_class, fields), carried)
        return await own_run.begin(fields, carried)

    def rebuild_start_event(self, envelope: dict[str, Any]) -> StartEvent:
        """Return the start event that was kept with a run."""
        name = envelope["qualified_name"]
        event_class = self.decoder.resolve(name, error=InvalidStartEvent)
        if not issubclass(event_class, StartEvent):
            raise InvalidStartEvent(f"{name} is no start event.")
        return self._build_start(event_class, envelope["value"])

    def _read_start_envelope(
        self, start_class: type[StartEvent], envelope: dict[str, Any]
    ) -> StartEvent:
        return self._build_start(*self._open_start_envelope(start_class, envelope))

    def _open_start_envelope(
        self, start_class: type[StartEvent], envelope: dict[str, Any]
    ) -> tuple[type[StartEvent], Any]:
        """Return the class of a start event, and its fields."""
        if not UNTYPED.isdisjoint(envelope_names(envelope)[:1]):
            # From Python clients that were given none; a class of this name is the start class.
            return start_class, envelope_value(envelope)
        event_class = self.decoder.resolve_envelope(envelope, error=InvalidStartEvent)
        if not issubclass(event_class, start_class):
            raise InvalidStartEvent(
                f"The workflow starts from {start_class.__name__}, not from {event_class.__name__}."
            )
        return event_class, envelope_value(envelope)

    def _is_envelope(self, fields: dict[str, Any], declared: frozenset[str]) -> bool:
        """Return whether an object is an envelope, and not the fields of a start event.

        A mark, or a class that is known with a value, makes it one. Of a class that is not known it
        is one where fields would otherwise be left to their defaults: no name of `declared`, those
        that the start takes, is given.
        """
        if fields.get(PYDANTIC_MARK) is True:
            return True
        if not envelope_names(fields) or not ("value" in fields or "data" in fields):
            return False
        if self._knows(fields):
            return True
        if ENVELOPE_KEYS.issuperset(fields) and isinstance(envelope_value(fields), dict):
            return True
        return bool(declared) and declared.isdisjoint(fields)

    def _knows(self, envelope: dict[str, Any]) -> bool:
        return not UNTYPED.isdisjoint(envelope_names(envelope)) or self.decoder.knows(envelope)

    def _build_start(self, event_class: type[StartEvent], fields: object) -> StartEvent:
        return self.decoder.build(
            event_class, fields, error=InvalidStartEvent, place=("body", "start_event")
        )

    def read_event(
        self, data: dict[str, Any] | str, *, awaited: Sequence[type[Event]] = ()
    ) -> Event:
        """Return the event that a client sent; `InvalidEvent` says what is wrong.

        `awaited` are the events that the run waits for now: by waiting it declares them.
        """
        envelope = as_object(data, what="event", error=InvalidEvent)
        if not (ENVELOPE_KEYS.issuperset(envelope) or "value" in envelope or "data" in envelope):
            raise InvalidEvent("The event needs its fields in `value`, beside `type`.")
        decoder = self.decoder
        if any(event_class not in decoder.event_classes for event_class in awaited):
            decoder = EventDecoder([*decoder.event_classes, *awaited], self.state_class)
        event_class = decoder.resolve_envelope(envelope, error=InvalidEvent)
        return decoder.build(
            event_class,
            envelope_value(envelope),
            error=InvalidEvent,
            place=("body", "event", "value"),
        )

    def check_step(self, step: str, event: Event) -> None:
        """Raise `UnknownStep` unless the step exists and takes the event."""
        if step not in self.workflow._get_steps():
            known = ", ".join(sorted(self.workflow._get_steps()))
            raise UnknownStep(f"The workflow has no step '{step:.100}'; it has {known}.")
        config = self.workflow._get_steps()[step]._step_config
        accepted = tuple(config.accepted_events)
        if type(event) in accepted or (
            config.accept_event_subclasses and isinstance(event, accepted)
        ):
            return
        raise UnknownStep(f"The step '{step}' does not take {type(event).__name__}.")

    def fresh_input(self, start_event: StartEvent | None) -> RunInput:
        """Return the input of a run that starts from nothing but its start event."""
        return RunInput(
            start_event=start_event,
            broker=BrokerState.from_workflow(self.workflow),
            state=TrackedState(self.state_class()),
            codec=self.codec,
        )

    def continued_input(self, start_event: StartEvent | None, state: bytes) -> RunInput:
        """Return the input of a run that starts with the state an earlier one left.

        Raises ValueError for a state that cannot be restored, or what a class of the user's does.
        """
        run_input = self.fresh_input(start_event)
        run_input.state = TrackedState.decode(state, self.codec, self.older_serializer)
        run_input.is_fresh = False
        return run_input

    def context_input(
        self,
        context: dict[str, Any],
        data: dict[str, Any] | str | None,
        kwargs: dict[str, Any] | None,
        *,
        max_values: int,
    ) -> RunInput:
        """Return the input of a run that starts from a client's context; see `read_context`."""
        run_input = self.read_context(context, max_values=max_values)
        if not run_input.broker.is_running:
            run_input.start_event = self.read_start_event(data, kwargs)
        return run_input

    def read_context(self, context: dict[str, Any], *, max_values: int) -> RunInput:
        """Return the input of a run from a client's serialized `Context`, with no start event.

        Raises `InvalidContext`, or `BodyTooLarge` where the JSON texts in it have more values than
        that. Nothing in it needs the event loop.
        """
        with counting_texts(max_values) as budget:
            try:
                return self._read_context(context)
            except InvalidContext as error:
                if budget.left < 0:
                    raise BodyTooLarge(
                        f"The context has more than {max_values} JSON values."
                    ) from error
                raise

    def _read_context(self, context: dict[str, Any]) -> RunInput:
        serializer, events = self.decoder.serializer, self.decoder.event_serializer
        try:
            pre: PreContext[Any] = PreContext(
                self.workflow, previous_context=context, serializer=events
            )
            broker = BrokerState.from_serialized(pre.init_snapshot, self.workflow, events)
            state = TrackedState(self.state_class())
            if pre.serialized_state:
                state = TrackedState.decode_payload(pre.serialized_state, serializer)
        except Exception as error:  # the classes that are built are the user's
            reason = _reason(error)
            raise InvalidContext(f"The context cannot be started from: {reason}.") from error
        if not issubclass(state.state_type, self.state_class):
            raise InvalidContext(
                f"The context's state must be of class {self.state_class.__name__}."
            )
        return RunInput(
            start_event=None,
            broker=broker,
            state=state,
            codec=self.codec,
            has_context=True,
            is_fresh=False,
        )


def _reason(error: Exception) -> str:
    """Return the first sentence of what the engine says of a context."""
    cause = error.__cause__ if isinstance(error, ContextSerdeError) else error
    text = cause.errors()[0]["msg"] if isinstance(cause, ValidationError) else str(cause or error)
    return text.partition("\n")[0].partition(". ")[0].rstrip(".")


def _read_fields(
    data: dict[str, Any] | str | None, kwargs: dict[str, Any] | None
) -> dict[str, Any]:
    """Return what a run is asked to start from: the `start_event`, or else the `kwargs`."""
    if data is None or data == "":  # "": from older Python clients that were given none
        return kwargs or {}
    return as_object(data, what="start_event", error=InvalidStartEvent)
