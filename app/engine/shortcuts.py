"""Shortcuts: work that the engine does for each run, step or event, done once for a workflow.

Each shortcut leaves what a workflow sees as it is, and was worth its lines in the benchmark: with
all of them, a 100-event stream takes less than half of the processor's time.
"""

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

from llama_index_instrumentation.dispatcher import Dispatcher
from llama_index_instrumentation.event_handlers import NullEventHandler
from llama_index_instrumentation.span_handlers import NullSpanHandler
from pydantic._internal import _fields as pydantic_fields
from pydantic.fields import ModelPrivateAttr
from pydantic_core import PydanticUndefined
from workflows import Context, Workflow
from workflows.context.internal_context import InternalContext
from workflows.decorators import StepFunction
from workflows.events import Event
from workflows.runtime.types.plugin import InternalRunAdapter
from workflows.runtime.types.results import InternalContextVar

from workflow_server.app.engine.pace import MAX_SENT_AT_ONCE, TOO_MANY

Steps = dict[str, StepFunction[..., Any]]

LOOKS = hasattr(ModelPrivateAttr, "default_factory_takes_validated_data")  # pydantic, since 2.13


class EventWriter(InternalRunAdapter):
    """An adapter that takes an event for the stream at once."""

    def write_at_once(self, event: Event) -> None:
        """Write an event to the stream; `TooMuchAtOnce` past what a step writes without a wait."""
        raise TypeError(f"{type(self).__name__} does not write at once.")

    def refuse(self, sentence: str) -> NoReturn:
        """End the run as failed, for the reason that the sentence gives, and raise that too."""
        raise TypeError(f"{type(self).__name__} does not refuse.")


def take_shortcuts(workflow: Workflow) -> None:
    """Let a workflow that is served take all of them."""
    remember_steps(workflow)
    know_dict()
    for event_class in workflow.events:
        shorten_making(event_class)
    workflow._dispatcher = SpanSaver(workflow._dispatcher)  # type: ignore[assignment]  # as good as one, for the engine


def remember_steps(workflow: Workflow) -> None:
    """Let the workflow look for its steps once, and again when one was added to its class.

    The engine looks through all members of the workflow for each step that it executes. At that
    moment the step's context is made, and not used yet, so it is also where that gets its shortcut.
    """
    find_steps = workflow._get_steps
    found: tuple[int, Steps] | None = None

    def get_steps() -> Steps:
        nonlocal found
        find_context = InternalContextVar.get(None)
        context = find_context() if find_context is not None else None
        if context is not None:
            shorten_writing(context)
        version = type(workflow)._step_functions_version
        if found is None or found[0] != version:
            found = version, find_steps()
        return dict(found[1])

    workflow._get_steps = get_steps  # type: ignore[method-assign]  # the engine has no way to say it


class SpanSaver:
    """A workflow's dispatcher that makes no spans while nobody has asked for any.

    For each step the engine binds arguments, makes an id and copies a context for a span.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def span(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function in a span, or as it is where nobody would learn of the span."""
        return self._dispatcher.span(func) if is_observed(self._dispatcher) else func

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dispatcher, name)


def is_observed(dispatcher: Dispatcher) -> bool:
    """Return whether anything observes a dispatcher, or one that it passes spans and events to."""
    current: Dispatcher | None = dispatcher
    while current is not None:
        for handler in (*current.event_handlers, *current.span_handlers):
            if not isinstance(handler, NullEventHandler | NullSpanHandler):
                return True
        current = current.parent if current.propagate else None
    return False


def know_dict() -> None:
    """Let pydantic know, in the whole process, that `dict` as a default factory takes nothing.

    It reads the signature of `dict` twice to make any event, three of which the engine makes for
    each step; what it finds is always the same. The engine's classes stay as they are.
    """
    ask = getattr(pydantic_fields, "takes_validated_data_argument", None)
    if ask is None or hasattr(ask, "knows_dict"):
        return

    def takes_validated_data(default_factory: Callable[..., Any]) -> bool:
        return default_factory is not dict and ask(default_factory)

    takes_validated_data.knows_dict = True  # type: ignore[attr-defined]
    pydantic_fields.takes_validated_data_argument = takes_validated_data  # type: ignore[assignment]


class _FreshDict(ModelPrivateAttr):
    """The default `dict` of a private attribute, made without a look at what `dict` takes.

    pydantic reads the signature of the factory twice for each instance; that is most of what it
    takes to make a small event.
    """

    __slots__ = ()
    default_factory_takes_validated_data = False

    def get_default(
        self, *, call_default_factory: bool = False, validated_data: dict[str, Any] | None = None
    ) -> Any:
        """Return an empty dict, or that there is no value without the factory."""
        return {} if call_default_factory else PydanticUndefined


def shorten_making(event_class: type) -> None:
    """Let the events of a class that is not the engine's own be made sooner.

    Nothing is done for a class that is none of events, whose objects are refused elsewhere.
    """
    attributes: dict[str, ModelPrivateAttr] = getattr(event_class, "__private_attributes__", {})
    extras = attributes.get("_data")
    is_plain = type(extras) is ModelPrivateAttr and extras.default_factory is dict
    if LOOKS and is_plain and event_class.__module__.partition(".")[0] != "workflows":
        attributes["_data"] = _FreshDict(default_factory=dict)


class _DirectContext(InternalContext[Any]):
    """The engine's context of a step, which writes events to the stream at once.

    The engine makes a task for each, and for each that is sent to a step. In a thread, where a step
    that is no coroutine runs, the engine's own way says what is wrong.
    """

    def write_event_to_stream(self, ev: Event | None) -> None:
        adapter = self._internal_adapter
        if ev is not None and isinstance(adapter, EventWriter) and _in_event_loop():
            shorten_making(type(ev))  # a class that the workflow does not declare, perhaps
            adapter.write_at_once(ev)
        else:
            super().write_event_to_stream(ev)

    def send_event(self, message: Event, step: str | None = None) -> None:
        adapter = self._internal_adapter
        if len(self._workers) >= MAX_SENT_AT_ONCE and isinstance(adapter, EventWriter):
            adapter.refuse(TOO_MANY)
        super().send_event(message, step)


def shorten_writing(context: Context[Any]) -> None:
    """Let the step that is about to run write events at once, where it is one of our runs.

    The engine has no way to bring a context of one's own, so this one changes its class.
    """
    face = context._face
    if type(face) is InternalContext and isinstance(face._internal_adapter, EventWriter):
        face.__class__ = _DirectContext


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
