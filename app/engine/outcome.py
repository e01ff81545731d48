"""The outcome of a run: what the engine returned or raised, as status, sentence and event."""

from collections.abc import Sequence
from dataclasses import dataclass

from workflows.errors import WorkflowCancelledByUser, WorkflowTimeoutError
from workflows.events import (
    StopEvent,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
    WorkflowTimedOutEvent,
)
from workflows.runtime.types.results import AddWaiter, StepWorkerFailed, StepWorkerOutput

from workflow_server.app.engine.codec import NotSerializable, encode_event
from workflow_server.app.engine.loops import find_loop_remedy
from workflow_server.schemas.records import Status


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run: `envelope` is its terminal event, and its result where it completed."""

    status: Status
    envelope: bytes
    error: str | None = None


class RunFailed(Exception):
    """The service ended the run; the sentence says why."""


def completed(result: StopEvent, *, max_size: int | None = None) -> Outcome:
    """Return the outcome of a run that returned.

    A result that JSON cannot carry fails it, as does one of more than `max_size` bytes.
    """
    try:
        return Outcome(Status.COMPLETED, encode_event(result, max_size=max_size))
    except NotSerializable as error:
        return failed(RunFailed(f"The result cannot be returned: {error}."), None)


def failed(error: BaseException, published: StopEvent | None) -> Outcome:
    """Return the outcome of a run that raised, with the terminal event that the engine made.

    The service makes that event itself where the engine made none, or one that JSON cannot carry.
    """
    match error:
        case WorkflowCancelledByUser():
            return cancelled()
        case WorkflowTimeoutError() if isinstance(published, WorkflowTimedOutEvent):
            sentence = str(error)
        case RunFailed():
            sentence = str(error)
        case _ if isinstance(published, WorkflowFailedEvent):
            sentence = _describe_failure(published)
        case _:
            sentence = f"The run failed: {describe(error)}"
    return Outcome(Status.FAILED, _failure_envelope(sentence, published), clean_text(sentence))


def cancelled() -> Outcome:
    """Return the outcome of a cancelled run."""
    return Outcome(Status.CANCELLED, encode_event(WorkflowCancelledEvent()))


def judge_step(outputs: Sequence[StepWorkerOutput]) -> tuple[str, Exception | None]:
    """Return what became of an attempt of a step, and the exception where it failed."""
    status = "completed"
    for output in outputs:
        if isinstance(output, StepWorkerFailed):
            return "failed", output.exception
        if isinstance(output, AddWaiter):
            status = "waiting"
    return status, None


def clean_text(text: str) -> str:
    """Return a text without what a database or a client could not take: surrogates and NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def describe(error: BaseException) -> str:
    """Return class and message of an exception, whatever its `__str__` does."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001  # the exception is the user's, and its `__str__` may raise anything
        message = "(its message cannot be read)"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _describe_failure(event: WorkflowFailedEvent) -> str:
    attempts = f" after {event.attempts} attempts" if (event.attempts or 0) > 1 else ""
    sentence = f"Step '{event.step_name}' failed{attempts}: {describe(event.exception)}"
    remedy = find_loop_remedy(event.exception)
    return f"{sentence.rstrip('.')}. {remedy}" if remedy else sentence


def _failure_envelope(sentence: str, published: StopEvent | None) -> bytes:
    if published is not None:
        try:
            return encode_event(published)
        except NotSerializable:
            pass
    step = published.step_name if isinstance(published, WorkflowFailedEvent) else ""
    event = WorkflowFailedEvent(step_name=step, exception=RuntimeError(sentence))
    return encode_event(event)
