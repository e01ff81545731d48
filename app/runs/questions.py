"""The open questions of a run, so that a double click cannot answer the next one."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from workflows.events import Event, HumanResponseEvent

from workflow_server.app.engine.waiters import Waiter
from workflow_server.app.errors import InvalidEvent, QuestionNotOpen
from workflow_server.schemas.records import Question


@dataclass(slots=True)
class OpenQuestions:
    """The questions that nobody has answered, oldest first.

    A question of a waiter is open as long as its waiter is. Any other question is open until an
    event answers it: one that names it, or a `HumanResponseEvent` that names none, which answers
    the oldest. An answer is taken as soon as it is accepted, and settled once it is journalled.
    `answered` are those of steps that go on, which may ask them again. Beside them are those that
    were put off: a step has asked several and waits, and each of its waits takes one answer. They
    name the waiter that they come after.
    """

    questions: tuple[Question, ...] = ()
    answered: tuple[Question, ...] = ()
    _taken: set[int] = field(default_factory=set)

    def ask(
        self,
        sequence: int,
        waiter_id: str | None = None,
        *,
        text: str | None = None,
        place: str | None = None,
        digest: str | None = None,
    ) -> None:
        """Open a question; one that was asked at its place before is closed."""
        asked = Question(
            sequence=sequence, waiter_id=waiter_id, text=text, place=place, digest=digest
        )
        self.questions = (*_elsewhere(self.questions, place), asked)
        self.answered = _elsewhere(self.answered, place)

    def find(self, place: str) -> Question | None:
        """Return the question that was asked at a place and is not answered, if any."""
        put_off = (q for q in self.answered if _is_put_off(q))
        return next((q for q in (*self.questions, *put_off) if q.place == place), None)

    @property
    def has_put_off(self) -> bool:
        """Return whether a step has asked for which it has not waited yet."""
        return any(map(_is_put_off, self.answered))

    def find_put_off(self, work: str) -> Question | None:
        """Return the next question for which a step has not waited yet, if any."""
        return next((q for q in self.answered if _is_put_off(q) and _is_of(q, work)), None)

    def is_open(self, sequence: int | None) -> bool:
        """Return whether a question is open."""
        return any(q.sequence == sequence for q in self.questions)

    def was_answered(self, place: str, digest: str) -> bool:
        """Return whether a question in these words was asked at a place, and is answered."""
        return any(
            q.place == place and q.digest == digest and not _is_put_off(q) for q in self.answered
        )

    def bind(self, sequence: int, waiter_id: str) -> bool:
        """Let a question be that of a waiter; false where it is neither open nor put off."""
        known = [q for q in (*self.questions, *self.answered) if q.sequence == sequence]
        if not known or (known[0] in self.answered and not _is_put_off(known[0])):
            return False
        bound = replace(known[0], waiter_id=waiter_id)
        others = (q for q in self.questions if q.sequence != sequence)
        self.questions = tuple(sorted((*others, bound), key=lambda q: q.sequence))
        self.answered = tuple(q for q in self.answered if q.sequence != sequence)
        return True

    def put_off(self, sequences: Collection[int], waiter_id: str) -> None:
        """Close questions of a step that waits for another one first, until it waits for them."""
        chosen = [q for q in self.questions if q.sequence in sequences]
        self.questions = tuple(q for q in self.questions if q.sequence not in sequences)
        self.answered += tuple(replace(q, waiter_id=waiter_id) for q in chosen)

    def forget_places(self, work: str) -> None:
        """Forget where a step has asked that does not run again for this work."""
        self.questions = tuple(
            replace(q, place=None, digest=None) if _is_of(q, work) else q for q in self.questions
        )
        self.answered = tuple(q for q in self.answered if not _is_of(q, work))

    def drop_put_off(self, step: str, works: Collection[str]) -> None:
        """Close the questions that a step has put off, but for those of its works under way."""
        self.answered = tuple(
            q
            for q in self.answered
            if not (_is_put_off(q) and _is_of_step(q, step))
            or any(_is_of(q, work) for work in works)
        )

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

    def take_oldest(self, event: Event, waiters: Iterable[Waiter]) -> int | None:
        """Accept an event that names no question; return the one that it answers, if any.

        The question of a waiter is closed with the waiter, and no other one by its answer.
        """
        if not isinstance(event, HumanResponseEvent):
            return None
        asking = {question.waiter_id for question in self.questions}
        if any(waiter.id in asking and waiter.takes(event) for waiter in waiters):
            return None
        for question in self.questions:
            if question.waiter_id is None and question.sequence not in self._taken:
                self._taken.add(question.sequence)
                return question.sequence
        return None

    def settle(self, sequence: int) -> None:
        """Close a question whose answer is journalled."""
        self._taken.discard(sequence)
        settled = (q for q in self.questions if q.sequence == sequence)
        self.answered += tuple(q for q in settled if q.place is not None and q.waiter_id is None)
        self.questions = tuple(q for q in self.questions if q.sequence != sequence)

    def drop_resolved(self, waiters: Iterable[Waiter]) -> None:
        """Close the questions whose waiters were resolved, timed out or given up."""
        ids = {waiter.id for waiter in waiters}
        self.questions = tuple(
            q for q in self.questions if q.waiter_id is None or q.waiter_id in ids
        )


def _elsewhere(questions: tuple[Question, ...], place: str | None) -> tuple[Question, ...]:
    return tuple(q for q in questions if place is None or q.place != place)


def _is_put_off(question: Question) -> bool:
    return question.waiter_id is not None


def _is_of(question: Question, work: str) -> bool:
    return question.place is not None and question.place.startswith(f"{work} ")


def _is_of_step(question: Question, step: str) -> bool:
    return question.place is not None and question.place.startswith(step)


def _check_answer(event: Event, waiter: Waiter) -> None:
    """Refuse an event that the waiter would not take, lest the question be spent on it."""
    if not waiter.is_for(event):
        raise InvalidEvent(
            f"The question is answered by {waiter.event_class.__name__},"
            f" not by {type(event).__name__}."
        )
    unmet = waiter.find_unmet(event)
    if unmet is not None:
        raise InvalidEvent(f"The question asks for an answer with another '{unmet}'.")
