"""The places in steps at which questions are asked.

A step that waits runs again from its beginning with what it waited for; one that failed or was cut
off runs again, too. All that it writes up to where it was it writes again.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from workflows.events import HumanResponseEvent
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import (
    AddWaiter,
    DeleteWaiter,
    StepWorkerResult,
    StepWorkerStateContextVar,
)
from workflows.runtime.types.ticks import TickStepResult


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a step that runs.

    `invocation` is this execution of the step. `work` is what it works on: the same whenever the
    step runs again for it. `waits` is how many of its waits are behind it. `is_before_answer` is
    whether a wait that is over is still before it, so that it does what it has done already.
    """

    invocation: str
    work: str
    waits: int
    is_before_answer: bool


@dataclass(frozen=True, slots=True)
class StepEnd:
    """The end of an execution of a step, with `waits` behind it.

    `works` are those of its step, as in `Place`, that are not done, and `step` is what they begin
    with. `is_waiting` where the execution has come to a wait that is not over; `work` is that of
    this wait, and `waiter_id` its id, if its answer answers what the step has asked. `is_complete`
    where the step does not run again.
    """

    invocation: str | None
    step: str
    works: Collection[str]
    work: str | None
    waits: int
    is_waiting: bool
    waiter_id: str | None
    is_complete: bool


def find_place() -> Place | None:
    """Return where the step is that calls; None outside a step, or where it is not known."""
    step = StepWorkerStateContextVar.get(None)
    if step is None or step.sends.closed:
        return None
    state = step.state
    if state.invocation_id is None or state.work_item_id is None:
        return None
    over = {
        waiter.waiter_id
        for waiter in state.collected_waiters
        if waiter.work_item_id == state.work_item_id
        and (waiter.resolved_event is not None or waiter.timed_out)
    }
    behind = _waits_behind(step.returns.return_values)
    return Place(
        invocation=state.invocation_id,
        work=_name_work(state.invocation_id, state.step_name, state.work_item_id),
        waits=len(behind),
        is_before_answer=not over <= behind,
    )


def end_of(tick: TickStepResult, broker: BrokerState) -> StepEnd:
    """Return what a tick that is carried out says of the end of an execution."""
    added = next((result for result in tick.result if isinstance(result, AddWaiter)), None)
    worker, invocation = broker.workers[tick.step_id], tick.invocation_id or ""
    waiters = {waiter.waiter_id: waiter.work_item_id for waiter in worker.collected_waiters}
    begun = {execution.work_item_id for execution in worker.in_progress}
    queued = {attempt.work_item_id for attempt in worker.queue}
    items = {item for item in (*begun, *queued, *waiters.values()) if item is not None}
    work = waiters.get(added.waiter_id) if added is not None else None
    return StepEnd(
        invocation=tick.invocation_id,
        step=_name_work(invocation, tick.step_id, ""),
        works={_name_work(invocation, tick.step_id, item) for item in items},
        work=_name_work(invocation, tick.step_id, work) if work is not None else None,
        waits=len(_waits_behind(tick.result)),
        is_waiting=added is not None,
        waiter_id=added.waiter_id if added is not None and _is_answer(added, broker) else None,
        is_complete=any(isinstance(result, StepWorkerResult) for result in tick.result),
    )


def _name_work(invocation: str, step: object, work_item: str) -> str:
    return f"{invocation.rpartition('/')[0]}/{step} {work_item}"


def _waits_behind(results: Iterable[object]) -> set[str]:
    return {result.waiter_id for result in results if isinstance(result, DeleteWaiter)}


def _is_answer(waiter: AddWaiter[Any], broker: BrokerState) -> bool:
    """Return whether what is waited for answers questions: another step may take the answers."""
    return issubclass(waiter.event_type, HumanResponseEvent) or not any(
        isinstance(accepted, type) and issubclass(accepted, HumanResponseEvent)
        for step in broker.config.steps.values()
        for accepted in step.accepted_events
    )
