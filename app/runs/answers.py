"""Events from outside on their way into a run: accepted, and not yet known to the engine."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from workflows.events import Event

from workflow_server.app.engine.run_input import Delivery
from workflow_server.app.errors import HandlerRunning, OutcomeUnknown, RunUnfinished
from workflow_server.schemas.records import HandlerKey

MAX_COMING = 10_000  # events from outside that a run has not taken yet
MAX_COMING_BYTES = 16 << 20  # of their JSON
UNKNOWN = (
    "The store failed while this was written: it may or may not have been taken. Ask for the"
    " handler later, and do not send it again before."
)


def refuse(waited_for: asyncio.Future[Any], error: Exception) -> None:
    """Fail a future that somebody may wait for, or nobody; one that is done stays as it is."""
    if not waited_for.done():
        waited_for.set_exception(error)
        waited_for.exception()  # that nobody asks for it is no error


@dataclass(slots=True, eq=False)
class Answer:
    """An event on its way, and the open question that it answers, if any.

    `number` is its place in the run's inbox, where it was sent before the run has begun. `written`
    is done when the event is written down, and `is_handed_over` set when the engine has it.
    """

    delivery: Delivery
    question: int | None = None
    number: int | None = None
    is_handed_over: bool = False
    written: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Answers:
    """The events on their way into one run, in the order in which they were accepted."""

    def __init__(self) -> None:
        self._answers: dict[int, Answer] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    def has_room(self, size: int) -> bool:
        """Return whether the run takes one more event, of a size; a single one it always takes."""
        fits = len(self._answers) < MAX_COMING and self._bytes + size <= MAX_COMING_BYTES
        return fits or not self._answers

    def add(self, answer: Answer) -> None:
        """Note an event that was accepted."""
        self._answers[id(answer.delivery.event)] = answer
        self._bytes += answer.delivery.size

    def list_waiting(self) -> list[Answer]:
        """Return the events that the engine has not got yet, oldest first."""
        return [answer for answer in self._answers.values() if not answer.is_handed_over]

    def take(self, event: Event) -> Answer | None:
        """Return what is known of an event that the engine has, and forget it."""
        answer = self._answers.pop(id(event), None)
        if answer is not None:
            self._bytes -= answer.delivery.size
        return answer

    def refuse(self, error: Exception) -> None:
        """Fail all senders that wait: the run does not take their events."""
        answers, self._answers, self._bytes = self._answers, {}, 0
        for answer in answers.values():
            refuse(answer.written, error)


def running(key: HandlerKey) -> HandlerRunning:
    """Return why a handler is not started."""
    return HandlerRunning(
        f"The handler '{key.id}' is running; wait for its end, cancel it, or choose another id."
    )


def unknown_start(key: HandlerKey) -> OutcomeUnknown:
    """Return what is said of a run that the store may or may not have."""
    return OutcomeUnknown(
        "The store failed while the run was written down: it may or may not have been started. Ask"
        f" for the handler '{key.id}' later, and do not start it again before."
    )


def unfinished(key: HandlerKey) -> RunUnfinished:
    """Return what is said of a run that goes on after the server has stopped."""
    return RunUnfinished(
        "The server stops before the run has ended, and the run goes on at its next start: do not"
        f" start it again, but ask for the handler '{key.id}'.",
        handler_id=key.id,
    )
