"""Records of what a run waits for."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """An event that a step of a run waits for in `ctx.wait_for_event`.

    `event_class` is the module and name of its class, `requirements` a JSON object of the values
    that its fields must have, as clients may see them, and `due_at` when the wait times out.
    """

    waiter_id: str
    event_class: str
    step: str
    requirements: bytes = b"{}"
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """The wait of a run: since when, and what ends it if no event from outside does.

    It goes on at `wake_at`, when a `wait_for_event` times out, and `timeout_left` seconds after
    `since`, when the workflow does; time while no server runs does not count for the latter, so
    `uptime` has the store's uptime at `since`, in microseconds. It is None where a release before
    this field has written the run. The times are those of the store's clock.
    """

    since: datetime
    wake_at: datetime | None = None
    timeout_left: float | None = None
    uptime: int | None = None
