"""Questions that the steps of a run ask: each once, however often its step runs."""

from dataclasses import dataclass, field
from hashlib import blake2b

from workflow_server.app.clocks import Clock
from workflow_server.app.engine.asking import Place, StepEnd
from workflow_server.app.runs.journal import RunJournal
from workflow_server.app.runs.question_text import find_text
from workflow_server.app.runs.questions import OpenQuestions
from workflow_server.schemas.times import to_micros

DIGEST_BYTES = 8


@dataclass(slots=True)
class _Asked:
    """A question that an execution of a step has written; `sequence` is None where it is held back.

    One is held back where it looks like one that was answered. It is asked anew where the step then
    waits all the same.
    """

    envelope: bytes
    place: str
    digest: str
    sequence: int | None
    is_before_answer: bool


@dataclass(slots=True)
class _Asker:
    """An execution of a step that has asked: `asked` since its last wait, and `earlier` before."""

    work: str
    waits: int
    asked: list[_Asked] = field(default_factory=list)
    earlier: list[_Asked] = field(default_factory=list)

    def find_next(self) -> list[_Asked]:
        """Return what the wait may ask that the execution has come to, oldest first."""
        return self.asked or self.earlier[self.waits : self.waits + 1]


class AskingSteps:
    """The executions of steps that ask, by their ids.

    A question is known again by its place: the work of the step, the waits that are behind it, and
    the number of the question since then. Where a step that runs again words it anew, the new one
    takes its place, unless it is answered by a wait that is over.
    """

    def __init__(self, questions: OpenQuestions, journal: RunJournal, clock: Clock) -> None:
        self._questions = questions
        self._journal = journal
        self._clock = clock
        self.askers: dict[str | None, _Asker] = {}
        self._ended: str | None = None

    def ask(self, envelope: bytes, place: Place | None) -> None:
        """Take a question that a step writes."""
        if place is None:
            self._questions.ask(self._add_event(envelope), text=find_text(envelope))
            return
        asker = self.askers.setdefault(place.invocation, _Asker(place.work, place.waits))
        _pass_waits(asker, place.waits)
        where = f"{place.work} {place.waits} {len(asker.asked)}"
        asked = _Asked(envelope, where, _digest(envelope), None, place.is_before_answer)
        asker.asked.append(asked)
        if place.is_before_answer:
            return
        known = self._questions.find(where)
        if known is not None and known.digest == asked.digest:
            asked.sequence = known.sequence
        elif known is not None or not self._questions.was_answered(where, asked.digest):
            self._publish(asked)

    def ask_at_end(self, envelope: bytes, invocation: str | None, waiter_id: str | None) -> None:
        """Take a question that a step has returned, or waits with; it may be written already."""
        asker = self.askers.get(invocation)
        digest = _digest(envelope)
        for asked in asker.asked if asker is not None else ():
            if asked.digest == digest:
                if waiter_id is not None:
                    self._bind(asked, waiter_id)
                return
        self._questions.ask(self._add_event(envelope), waiter_id, text=find_text(envelope))

    def end_step(self, end: StepEnd) -> None:
        """Settle what an execution has asked, as it ends."""
        self._questions.drop_put_off(end.step, end.works)
        asker = self.askers.get(end.invocation)
        if asker is None:
            self._go_on_asking(end)
            return
        self._ended = end.invocation
        _pass_waits(asker, end.waits)
        for asked in asker.asked:
            goes_elsewhere = asked.is_before_answer and (end.is_waiting or end.is_complete)
            if asked.sequence is None and goes_elsewhere:
                self._publish(asked)
        if end.waiter_id is not None and (asker.asked or not self._go_on_asking(end)):
            self._bind_first(asker.find_next(), end.waiter_id)
        if end.is_complete:
            self._questions.forget_places(asker.work)

    def end_tick(self) -> None:
        """Forget the execution that has ended with the tick."""
        if self._ended is not None:
            del self.askers[self._ended]
            self._ended = None

    def _add_event(self, envelope: bytes) -> int:
        now = to_micros(self._clock())
        return self._journal.add_event(envelope, internal=False, emitted_at=now)

    def _go_on_asking(self, end: StepEnd) -> bool:
        """Open the question that a step has put off, and now waits for; false where there is none.

        The step may remember that it has asked, and not do so again.
        """
        if end.work is None or end.waiter_id is None:
            return False
        question = self._questions.find_put_off(end.work)
        return question is not None and self._questions.bind(question.sequence, end.waiter_id)

    def _bind_first(self, asked: list[_Asked], waiter_id: str) -> None:
        """Let the first of some questions be that of a waiter, and put the others off.

        One wait takes one answer. A step that asks several questions waits for each in their order,
        or for the first one alone. What has answered one came before the step waited.
        """
        sequences = [one.sequence for one in asked if one.sequence is not None]
        is_open = [one for one in asked if self._questions.is_open(one.sequence)]
        for first in (is_open or asked)[:1]:
            self._bind(first, waiter_id)
            self._questions.put_off([s for s in sequences if s != first.sequence], waiter_id)

    def _bind(self, asked: _Asked, waiter_id: str) -> None:
        """Let a question be that of a waiter; what has answered it came before the step waited."""
        if asked.sequence is None or not self._questions.bind(asked.sequence, waiter_id):
            self._questions.bind(self._publish(asked), waiter_id)

    def _publish(self, asked: _Asked) -> int:
        sequence = asked.sequence = self._add_event(asked.envelope)
        self._questions.ask(
            sequence, text=find_text(asked.envelope), place=asked.place, digest=asked.digest
        )
        return sequence


def _pass_waits(asker: _Asker, waits: int) -> None:
    """Leave behind what was asked before a wait that is over: it is answered."""
    if asker.waits != waits:
        asker.waits = waits
        asker.earlier += asker.asked
        asker.asked = []


def _digest(envelope: bytes) -> str:
    return blake2b(envelope, digest_size=DIGEST_BYTES).hexdigest()
