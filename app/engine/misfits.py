"""Misfits: why a stored run cannot go on, in the words of whoever wrote its workflow."""

from collections.abc import Iterable, Iterator

from workflows.context.context_types import SerializedContext, SerializedStepWorkerState
from workflows.runtime.types.ticks import TickAddEvent, TickStepResult, WorkflowTick

from workflow_server.app.engine.values.faults import explain
from workflow_server.schemas.records import Awaited

RESUMED = "The run could not be resumed"


class NotRecoverable(Exception):
    """The run can never go on; the sentence says why."""


class Misfit(NotRecoverable):
    """The run cannot go on with the workflows that are served now; the sentence says why."""


def not_served(workflow_name: str) -> Misfit:
    """Return why a run does not go on whose workflow is gone."""
    return Misfit(f"{RESUMED}: its workflow is no longer served as '{workflow_name}'.")


def newer_format() -> Misfit:
    """Return why a run does not go on that a later release has written."""
    return Misfit(f"{RESUMED}: a later release has stored it in a format that this one has not.")


def nobody_fits(workflow_name: str) -> Misfit:
    """Return why a run does not go on that none of the servers can have."""
    return Misfit(
        f"{RESUMED}: no server that is alive serves its workflow '{workflow_name}' with code that"
        " fits it."
    )


def step_gone(step: str, work: str) -> Misfit:
    """Return why a run does not go on that has work for a step which is gone."""
    return Misfit(f"{RESUMED}: its step '{step}' is gone; {work}.")


def unreadable(error: BaseException) -> Misfit:
    """Return why a run does not go on of which something cannot be read back."""
    return Misfit(f"{RESUMED}: what is stored of it does not fit the code; {explain(error)}.")


def cannot_follow(tick: WorkflowTick, steps: frozenset[str]) -> Misfit:
    """Return why a run does not go on whose steps would have gone another way."""
    match tick:
        case TickStepResult(step_id=step, event=event) if str(step) not in steps:
            work = f"it took {type(event).__name__} there, and what became of that cannot be told"
            return step_gone(str(step), work)
        case TickStepResult(step_id=step, event=event):
            place = f"its step '{step}' took {type(event).__name__}"
        case TickAddEvent(event=event):
            place = f"it took {type(event).__name__}"
        case _:
            place = "it went on after a pause"
    return Misfit(
        f"{RESUMED}: its steps are not those that it has been through; with those that there are,"
        f" it would have gone another way where {place}."
    )


def find_lost_wait(awaits: Iterable[Awaited], known: frozenset[str]) -> Misfit | None:
    """Return the first wait in a step that is gone, or None where each step is there."""
    for wait in awaits:
        if wait.step not in known:
            event = wait.event_class.rpartition(".")[2]
            return step_gone(wait.step, f"it waits there for {event}")
    return None


def find_lost_work(context: SerializedContext, known: frozenset[str]) -> Misfit | None:
    """Return the first work of a step that is gone, or None where each step is there."""
    for step, worker in context.workers.items():
        if step not in known and (work := next(_list_work(worker), None)) is not None:
            return step_gone(step, work)
    for delivery in context.deliveries:
        if delivery.step_id is not None and delivery.step_id not in known:
            return step_gone(delivery.step_id, "an event that was sent to it is on its way there")
    return None


def _list_work(worker: SerializedStepWorkerState) -> Iterator[str]:
    for waiter in worker.collected_waiters:
        name = waiter.waiting_for_event.strip('"').replace(":", ".").rpartition(".")[2]
        yield f"it waits there for {name}"
    if worker.in_progress:
        yield "it was at work there"
    if worker.queue:
        yield "an event waits there to be taken"
    if worker.collected_events or worker.static_collect_events:
        yield "it collects events there"
