"""The open questions of a run, so that a double click cannot answer the next one."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from workflows.events import Event, HumanResponseEvent

from app.engine.waiters import Waiter
from app.errors import InvalidEvent, QuestionNotOpen
from schemas.records import Question


@dataclass(slots=True)
class OpenQuestions:
    """The questions that nobody has answered, oldest first.

    A question of a waiter is open as long as its waiter is. Any other question is open until an
    event answers it: one that names it, or a `HumanResponseEvent` that names none, which answers
    the oldest. An answer is taken as soon as it is accepted, and settled once it is journalled.
    """

    questions: tuple[Question, ...] = ()
    _taken: set[int] = field(default_factory=set)

    def ask(self, sequence: int, waiter_id: str | None) -> None:
        """Open a question."""
        self.questions = (*self.questions, Question(sequence=sequence, waiter_id=waiter_id))

    def check_open(self, sequence: int, waiters: Iterable[Waiter]) -> Waiter | None:
        """Return a question's waiter, if it has one; `QuestionNotOpen` where it is not open."""
        question = next((q for q in self.questions if q.sequence == sequence), None)
        if question is None or sequence in self._taken:
            raise QuestionNotOpen(
                f"The question {sequence} is not open: it was answered, or was never asked."
            )
        if question.waiter_id is None:
            return None
        waiter = next((w for w in waiters if w.id == question.waiter_id), None)
        if waiter is None:
            raise QuestionNotOpen(f"The question {sequence} is no longer open.")
        return waiter

    def take(self, sequence: int, event: Event, waiters: Iterable[Waiter]) -> None:
        """Accept an answer to a question, the only one; `QuestionNotOpen` for a second one."""
        waiter = self.check_open(sequence, waiters)
        if waiter is not None:
            _check_answer(event, waiter)
        self._taken.add(sequence)

    def take_oldest(self, event: Event) -> int | None:
        """Accept an event that names no question; return the one that it answers, if any."""
        if not isinstance(event, HumanResponseEvent):
            return None
        for question in self.questions:
            if question.waiter_id is None and question.sequence not in self._taken:
                self._taken.add(question.sequence)
                return question.sequence
        return None

    def settle(self, sequence: int) -> None:
        """Close a question whose answer is journalled."""
        self._taken.discard(sequence)
        self.questions = tuple(q for q in self.questions if q.sequence != sequence)

    def drop_resolved(self, waiters: Iterable[Waiter]) -> None:
        """Close the questions whose waiters were resolved, timed out or given up."""
        ids = {waiter.id for waiter in waiters}
        self.questions = tuple(
            q for q in self.questions if q.waiter_id is None or q.waiter_id in ids
        )


def _check_answer(event: Event, waiter: Waiter) -> None:
    """Refuse an event that the waiter would not take, lest the question be spent on it."""
    if not isinstance(event, waiter.event_class):
        raise InvalidEvent(
            f"The question is answered by {waiter.event_class.__name__},"
            f" not by {type(event).__name__}."
        )
    for name, value in waiter.requirements.items():
        if getattr(event, name, None) != value:
            raise InvalidEvent(f"The question asks for an answer with another '{name}'.")
