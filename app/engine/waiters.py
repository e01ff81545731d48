"""The waiters of `ctx.wait_for_event` in the engine's state of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflows.events import Event
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import AddWaiter
from workflows.runtime.types.ticks import TickStepResult, WorkflowTick


@dataclass(frozen=True, slots=True)
class Waiter:
    """A `ctx.wait_for_event` of a step that no event has resolved yet."""

    id: str
    event_class: type[Event]
    requirements: Mapping[str, Any]


def open_waiters(broker: BrokerState) -> list[Waiter]:
    """Return the waiters of a run that are open: neither resolved nor timed out."""
    return [
        Waiter(waiter.waiter_id, waiter.waiting_for_event, waiter.requirements)
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
