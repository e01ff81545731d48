"""The journal and the recorder of a run, as a session of the engine sees them."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from workflows.events import Event

from workflow_server.app.engine.asking import Place, StepEnd
from workflow_server.app.engine.tick_log import Journal as TickJournal
from workflow_server.app.engine.waiters import Waiter
from workflow_server.schemas.records import Awaited


class Journal(TickJournal, Protocol):
    """The part of the run's journal that a session uses.

    `is_open` is whether a unit is open: the engine is carrying out what a tick caused.
    """

    is_open: bool

    @property
    def has_room(self) -> bool:
        """Return whether the uncommitted tail is within its bound."""

    @property
    def is_full(self) -> bool:
        """Return whether the uncommitted tail is as long as it may be where nobody waits."""

    async def wait_for_room(self) -> None:
        """Return when the uncommitted tail is within its bound again."""

    def open_unit(self) -> None:
        """Hold back what follows, to be committed together."""

    def close_unit(self) -> None:
        """Let what was held back be committed."""

    def set_state(self, state: bytes) -> None:
        """Write down the state that a step left."""

    def add_state_change(self, change: bytes) -> None:
        """Write down what has changed in it since."""


class Recorder(Protocol):
    """The listener of a session; called while a unit of the journal is open, if not said else."""

    @property
    def journal(self) -> Journal:
        """The run's journal."""

    def add_event(self, event: Event) -> int:
        """Write down an event, also outside a unit; `NotSerializable` if it cannot be."""

    def ask(self, event: Event, place: Place | None) -> None:
        """Write down an event that asks, written by a step at a place; as `add_event` else."""

    def ask_at_end(self, event: Event, invocation: str | None, waiter_id: str | None) -> None:
        """Write down an event that asks, with which a step has ended, or waits; as `add_event`."""

    def event_taken(self, event: Event) -> None:
        """An event from outside has reached the engine."""

    def has_asked(self, invocation: str | None) -> bool:
        """Say whether an attempt of a step has asked, or may wait for what one before it asked."""

    def asker_finished(self, end: StepEnd) -> None:
        """An attempt of a step that has asked has finished."""

    def step_finished(self) -> None:
        """An attempt of a step has finished, well or not."""

    def wait(self, *, wake_at: datetime | None, timeout_left: float | None) -> None:
        """The run waits for an event from outside, or for a timer."""

    def end_tick(self, list_waiters: Callable[[], Sequence[Waiter]], *, came_in: bool) -> None:
        """The tick is carried out; `came_in` is false where it was a mere look at the run."""

    def write_awaits(self, awaits: tuple[Awaited, ...]) -> None:
        """Write down what steps of the run wait for."""

    def mark_not_resumable(self, reason: str) -> None:
        """The run could not go on after a restart, for this reason."""

    def cannot_go_on(self, sentence: str) -> None:
        """The run must end as failed, for the reason that the sentence gives; also in no unit."""
