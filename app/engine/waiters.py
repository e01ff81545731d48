"""The waiters of `ctx.wait_for_event` in the engine's state of a run."""

from workflows.events import Event
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import AddWaiter, StepWorkerWaiter
from workflows.runtime.types.ticks import TickStepResult, WorkflowTick


def open_waiters(broker: BrokerState) -> list[StepWorkerWaiter[Event]]:
    """Return the waiters of `ctx.wait_for_event` that no event has resolved yet."""
    return [
        waiter
        for worker in broker.workers.values()
        for waiter in worker.collected_waiters
        if waiter.resolved_event is None and not waiter.timed_out
    ]


def waiter_of(event: Event, tick: WorkflowTick | None) -> str | None:
    """Return the id of the waiter that asked with this event, or None where a step did."""
    if isinstance(tick, TickStepResult):
        for result in tick.result:
            if isinstance(result, AddWaiter) and result.waiter_event is event:
                return result.waiter_id
    return None
