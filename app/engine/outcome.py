"""The outcome of a run: what the engine returned or raised, as status, sentence and event."""

from collections.abc import Sequence
from dataclasses import dataclass

from workflows.errors import WorkflowCancelledByUser
from workflows.events import (
    StopEvent,
    WorkflowCancelledEvent,
    WorkflowFailedEvent,
)
from workflows.runtime.types.results import AddWaiter, StepWorkerFailed, StepWorkerOutput

from workflow_server.app.engine.codec import NotSerializable, encode_event
from workflow_server.app.engine.loops import find_loop_remedy
from workflow_server.schemas.records import Failure, Status


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run: `envelope` is its terminal event, and its result where it completed.

    `error` is what the exception says that ended a failed run, and `failure` the rest of it.
    """

    status: Status
    envelope: bytes
    error: str | None = None
    failure: Failure | None = None


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
    if isinstance(error, WorkflowCancelledByUser):
        return cancelled()
    step = attempts = None
    if isinstance(published, WorkflowFailedEvent):
        # Where nothing can make a run go on, the engine names no step.
        step, attempts = published.step_name or None, published.attempts
        error = published.exception
    return Outcome(
        Status.FAILED,
        _failure_envelope(error, published),
        say(error),
        describe_failure(error, step=step, attempts=attempts),
    )


def describe_failure(
    error: BaseException, *, step: str | None = None, attempts: int | None = None
) -> Failure:
    """Return what a record says of the exception that ended a run."""
    kind = type(error)
    return Failure(
        type=clean_text(kind.__name__),
        qualified_name=clean_text(f"{kind.__module__}.{kind.__qualname__}"),
        step=clean_text(step) if step is not None else None,
        attempts=attempts,
        remedy=find_loop_remedy(error) or None,
    )


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


def say(error: BaseException) -> str:
    """Return what an exception says of itself, whatever its `__str__` does."""
    try:
        return clean_text(str(error))
    except BaseException:  # noqa: BLE001  # the exception is the user's, and its `__str__` may raise anything
        return "(its message cannot be read)"


def describe(error: BaseException) -> str:
    """Return class and message of an exception, whatever its `__str__` does."""
    message = say(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _failure_envelope(error: BaseException, published: StopEvent | None) -> bytes:
    if published is not None:
        try:
            return encode_event(published)
        except NotSerializable:
            pass
    step = published.step_name if isinstance(published, WorkflowFailedEvent) else ""
    sentence = say(error) if isinstance(error, RunFailed) else describe(error)
    event = WorkflowFailedEvent(step_name=step, exception=RuntimeError(sentence))
    return encode_event(event)
