"""The waiters of `ctx.wait_for_event` in the engine's state of a run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json, to_jsonable_python
from workflows.events import Event
from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.results import AddWaiter
from workflows.runtime.types.ticks import TickStepResult, WorkflowTick

from workflow_server.app.engine.codec import qualified_name
from workflow_server.app.engine.outcome import clean_text
from workflow_server.app.engine.snapshots import Required, Timer
from workflow_server.schemas.records import Awaited

MAX_AWAITED = 100  # waiters of one run that its record names
MAX_REQUIRED_BYTES = 1_000  # of a required value that clients are shown
MASKED = "**********"  # as pydantic masks secrets


@dataclass(frozen=True, slots=True)
class Waiter:
    """A `ctx.wait_for_event` of a step that no event has resolved yet.

    `takes_subclasses` is whether the step takes events of subclasses, too.
    """

    id: str
    step: str
    event_class: type[Event]
    takes_subclasses: bool
    requirements: Mapping[str, Any]

    def is_for(self, event: Event) -> bool:
        """Return whether the event is of the class that the waiter waits for."""
        if self.takes_subclasses:
            return isinstance(event, self.event_class)
        return type(event) is self.event_class

    def find_unmet(self, event: Event) -> str | None:
        """Return the name of the first requirement that an event does not meet, or None."""
        for name, value in self.requirements.items():
            if getattr(event, name, None) != value:
                return name
        return None

    def takes(self, event: Event) -> bool:
        """Return whether the event resolves the waiter."""
        return self.is_for(event) and self.find_unmet(event) is None


def open_waiters(broker: BrokerState) -> list[Waiter]:
    """Return the waiters of a run that are open: neither resolved nor timed out."""
    return [
        Waiter(
            waiter.waiter_id,
            str(step),
            waiter.waiting_for_event,
            worker.config.accept_event_subclasses,
            waiter.requirements,
        )
        for step, worker in broker.workers.items()
        for waiter in worker.collected_waiters
        if waiter.resolved_event is None and not waiter.timed_out
    ]


def find_due(waiters: Iterable[Waiter], timers: Iterable[Timer]) -> Sequence[datetime | None]:
    """Return when each waiter times out; the engine has timers of waiters that are resolved too."""
    due = {(str(timer.tick.step_id), timer.tick.waiter_id): timer.at for timer in timers}
    times = (due.get((waiter.step, waiter.id)) for waiter in waiters)
    return [datetime.fromtimestamp(time, UTC) if time is not None else None for time in times]


def describe_waiters(waiters: Sequence[Waiter], timers: Iterable[Timer]) -> tuple[Awaited, ...]:
    """Return what the record of a run says of its waiters, the first of them where many wait."""
    described = waiters[:MAX_AWAITED]
    return tuple(
        Awaited(
            waiter_id=waiter.id,
            event_class=qualified_name(waiter.event_class),
            step=waiter.step,
            requirements=_show_requirements(waiter.requirements),
            due_at=due_at,
        )
        for waiter, due_at in zip(described, find_due(described, timers), strict=True)
    )


def _show_requirements(requirements: Mapping[str, Any]) -> bytes:
    shown = {clean_text(str(name)): _show_required(value) for name, value in requirements.items()}
    return to_json(shown, inf_nan_mode="null")


def _show_required(value: Any) -> Any:
    """Return a required value as clients may see it; one that cannot be shown is masked."""
    if isinstance(value, Required):
        value = value.value
    try:
        shown = to_jsonable_python(value, inf_nan_mode="null")
        is_short = len(to_json(shown)) <= MAX_REQUIRED_BYTES
    except BaseException:  # noqa: BLE001  # a serializer of the user's may raise anything
        return MASKED
    return shown if is_short else MASKED


def asker_of(event: Event, tick: WorkflowTick | None) -> tuple[str | None, str | None]:
    """Return the invocation that ends with this event, and the waiter that asks with it, if any."""
    if not isinstance(tick, TickStepResult):
        return None, None
    for result in tick.result:
        if isinstance(result, AddWaiter) and result.waiter_event is event:
            return tick.invocation_id, result.waiter_id
    return tick.invocation_id, None
