"""Direct steps: the engine's way to execute a step, without what it tells those who observe steps.

For each step the engine wraps the method anew, asks what kind of function it is, binds resources
that there are none of, and makes an event of what the step gave. Where nobody observes the
workflow, a step that takes events alone is executed here as the engine does it, without those.
"""

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags
from workflows import Context, Workflow
from workflows._event_summary import summarize_event
from workflows.decorators import StepConfig
from workflows.errors import WorkflowRuntimeError
from workflows.events import Event
from workflows.runtime.types.results import (
    InternalContextVar,
    RetryAttempt,
    Returns,
    StepWorkerContext,
    StepWorkerFailed,
    StepWorkerOutput,
    StepWorkerResult,
    StepWorkerState,
    StepWorkerStateContextVar,
    WaitingForEvent,
)
from workflows.runtime.types.step_function import StepWorkerFunction

from workflow_server.app.engine.shortcuts import is_observed, shorten_writing

# The tags that the engine gives a step.
INPUT_EVENT, INPUT_SUMMARY = "llamaindex.step.input_event", "llamaindex.step.input_summary"
TELLS = "workflows.runtime.types.step_function"  # the dispatcher of what steps give


def execute_directly(function: StepWorkerFunction) -> StepWorkerFunction:
    """Return a step that is executed here where it can be, and else by the engine's `function`."""

    # By this name and the parameter `step_name` `find_step` knows the frame of a step.
    async def wrapper(
        state: StepWorkerState,
        step_name: str,
        event: Event,
        workflow: Workflow,
        bound_events: dict[str, Event] | None = None,
        retry: RetryAttempt = RetryAttempt(),  # noqa: B008  # frozen, and the engine's default
    ) -> list[StepWorkerOutput]:
        step: Any = getattr(workflow, step_name, None)
        config = workflow._get_steps()[step_name]._step_config
        if not _is_plain(step, config) or _is_observed(workflow):
            return await function(state, step_name, event, workflow, bound_events, retry)
        context: Context[Any] = Context._create_internal(workflow=workflow)
        shorten_writing(context)
        given = Returns(return_values=[])
        execution = StepWorkerContext(event=event, state=state, returns=given, retry=retry)
        execution_token = StepWorkerStateContextVar.set(execution)
        context_token = InternalContextVar.set(weakref.ref(context))
        try:
            arguments: dict[str, Any] = {config.event_name: event}
            if bound_events is not None:
                arguments = dict(bound_events)
            if config.context_parameter:
                arguments[config.context_parameter] = context
            try:
                given.return_values.append(await _call(step, step_name, event, arguments))
            except WaitingForEvent as waiting:
                await asyncio.sleep(0)
                given.return_values.append(waiting.add)
            except Exception as error:  # noqa: BLE001  # the step is the user's
                given.return_values.append(StepWorkerFailed(exception=error, failed_at=time.time()))
            await context._finalize_step()
            return [*given.return_values, *execution.sends.entries]
        finally:
            execution.sends.closed = True
            with suppress(ValueError):  # of a step that is closed elsewhere than where it began
                InternalContextVar.reset(context_token)
                StepWorkerStateContextVar.reset(execution_token)

    return wrapper


def _is_plain(step: Any, config: StepConfig) -> bool:
    """Return whether a step is a coroutine that takes events alone, and gives one or none."""
    takes_more = config.resources or config.collection_param is not None
    return not (takes_more or config.is_fan_out) and asyncio.iscoroutinefunction(step)


def _is_observed(workflow: Workflow) -> bool:
    """Return whether anybody learns of the spans or of the events of a workflow's steps."""
    return is_observed(workflow._dispatcher) or is_observed(get_dispatcher(TELLS))


async def _call(
    step: Callable[..., Awaitable[Any]], name: str, event: Event, arguments: dict[str, Any]
) -> StepWorkerResult:
    """Return what a step gives, which has to be an event or nothing."""
    tags = {INPUT_EVENT: type(event).__name__, INPUT_SUMMARY: summarize_event(event)}
    with instrument_tags({**active_instrument_tags.get(), **tags}):
        result = await step(**arguments)
    if result is not None and not isinstance(result, Event):
        raise WorkflowRuntimeError(
            f"Step function {name} returned {type(result).__name__} instead of an Event instance."
        )
    return StepWorkerResult(result=result)
