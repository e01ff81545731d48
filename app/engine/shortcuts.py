"""Shortcuts: work that the engine does for each run, step or event, done once for a workflow.

Each shortcut leaves what a workflow sees as it is, and was worth its lines in the benchmark: with
all three, a 100-event stream takes about half of the processor's time.
"""

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

from llama_index_instrumentation.dispatcher import Dispatcher
from llama_index_instrumentation.event_handlers import NullEventHandler
from llama_index_instrumentation.span_handlers import NullSpanHandler
from workflows import Workflow
from workflows.context.internal_context import InternalContext
from workflows.decorators import StepFunction
from workflows.events import Event
from workflows.runtime.types.plugin import InternalRunAdapter
from workflows.runtime.types.results import InternalContextVar

from workflow_server.app.engine.pace import MAX_SENT_AT_ONCE, TOO_MANY

Steps = dict[str, StepFunction[..., Any]]


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
        shorten_writing()
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
        events, spans = current.event_handlers, current.span_handlers
        if not all(isinstance(handler, NullEventHandler) for handler in events):
            return True
        if not all(isinstance(handler, NullSpanHandler) for handler in spans):
            return True
        current = current.parent if current.propagate else None
    return False


class _DirectContext(InternalContext[Any]):
    """The engine's context of a step, which writes events to the stream at once.

    The engine makes a task for each, and for each that is sent to a step. In a thread, where a step
    that is no coroutine runs, the engine's own way says what is wrong.
    """

    def write_event_to_stream(self, ev: Event | None) -> None:
        adapter = self._internal_adapter
        if ev is not None and isinstance(adapter, EventWriter) and _in_event_loop():
            adapter.write_at_once(ev)
        else:
            super().write_event_to_stream(ev)

    def send_event(self, message: Event, step: str | None = None) -> None:
        adapter = self._internal_adapter
        if len(self._workers) >= MAX_SENT_AT_ONCE and isinstance(adapter, EventWriter):
            adapter.refuse(TOO_MANY)
        super().send_event(message, step)


def shorten_writing() -> None:
    """Let the step that is about to run write events at once, where it is one of our runs.

    The engine has no way to bring a context of one's own, so this one changes its class.
    """
    find_context = InternalContextVar.get(None)
    context = find_context() if find_context is not None else None
    if context is None:
        return
    face = context._face
    if type(face) is InternalContext and isinstance(face._internal_adapter, EventWriter):
        face.__class__ = _DirectContext


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
