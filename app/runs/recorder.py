"""The recorder of a run: what the engine does, written into the run's journal.

It keeps the record of the run true: its phase, its open questions, and whether it could go on
after a restart.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from workflows.events import Event, InternalDispatchEvent

from workflow_server.app.clocks import Clock, StoreClock
from workflow_server.app.engine.asking import Place, StepEnd
from workflow_server.app.engine.codec import encode_event
from workflow_server.app.engine.outcome import clean_text
from workflow_server.app.engine.received import Origin, encode_received
from workflow_server.app.engine.run_input import Delivery
from workflow_server.app.engine.waiters import Waiter
from workflow_server.app.runs import phase
from workflow_server.app.runs.answers import Answers
from workflow_server.app.runs.asking import AskingSteps
from workflow_server.app.runs.journal import RunJournal
from workflow_server.app.runs.questions import OpenQuestions
from workflow_server.app.runs.slots import Slot
from workflow_server.app.runs.stuck import STUCK, is_stuck
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.schemas.records import Awaited, Idle, Phase
from workflow_server.schemas.times import to_micros

logger = get_logger(__name__)


class RecorderObserver(Protocol):
    """The run of a recorder."""

    def became_idle(self) -> None:
        """The run waits for an event from outside or a timer."""

    def cannot_go_on(self, sentence: str) -> None:
        """The run must end as failed, for the reason that the sentence gives."""


class Recorder:
    """Writes down what the engine's session of a run tells (`app.engine.recording.Recorder`)."""

    def __init__(
        self,
        journal: RunJournal,
        answers: Answers,
        slot: Slot,
        *,
        max_event_size: int,
        clock: Clock,
        store_clock: StoreClock,
        observer: RecorderObserver,
    ) -> None:
        self.journal = journal
        self.questions = OpenQuestions(journal.record.questions, journal.record.answered)
        self._asking = AskingSteps(self.questions, journal, clock)
        self._answers = answers
        self._slot = slot
        self._max_event_size = max_event_size
        self._clock = clock
        self._store_clock = store_clock
        self._observer = observer
        self._was_stuck = is_stuck(journal.record, slot.workflow)

    def add_event(self, event: Event) -> int:
        """Write down an event and return its sequence; `NotSerializable` if it cannot be."""
        return self.journal.add_event(
            encode_event(event, max_size=self._max_event_size),
            internal=isinstance(event, InternalDispatchEvent),
            emitted_at=to_micros(self._clock()),
        )

    def ask(self, event: Event, place: Place | None) -> None:
        """Write down an event that asks, written by a step, unless the step has asked it before."""
        self._asking.ask(encode_event(event, max_size=self._max_event_size), place)
        self.write_questions()

    def ask_at_end(self, event: Event, invocation: str | None, waiter_id: str | None) -> None:
        """Write down an event that asks, with which a step has ended, unless it wrote it itself."""
        envelope = encode_event(event, max_size=self._max_event_size)
        self._asking.ask_at_end(envelope, invocation, waiter_id)
        self.write_questions()

    def event_taken(self, event: Event) -> None:
        """Acknowledge an event from outside that has reached the engine."""
        answer = self._answers.take(event)
        if answer is None:
            return
        self._show_received(answer.delivery)
        if answer.question is not None:
            self.questions.settle(answer.question)
            self.write_questions()
        if answer.number is not None:
            self.journal.take_delivery(answer.number)
        if not answer.written.done():
            answer.written.set_result(None)

    def note_origin(self, sent_by: str | None, reply_to: int | None) -> Origin:
        """Return from whom an event is that is taken now."""
        return Origin(sent_by, to_micros(self._clock()), reply_to)

    def _show_received(self, delivery: Delivery) -> None:
        """Put an event that has come in into the stream, as an internal one."""
        if delivery.origin is not None:
            self.journal.add_event(
                encode_received(delivery.event, delivery.step, delivery.origin, delivery.envelope),
                internal=True,
                emitted_at=to_micros(self._clock()),
            )

    def has_asked(self, invocation: str | None) -> bool:
        """Return whether an attempt of a step has asked, or may wait for what was asked before."""
        return invocation in self._asking.askers or self.questions.has_put_off

    def asker_finished(self, end: StepEnd) -> None:
        """Settle what a step has asked: it ends, or waits for the answer."""
        self._asking.end_step(end)

    def step_finished(self) -> None:
        """Clear the run of suspicion: it has come further."""
        record = self.journal.record
        if record.resumes or record.attempted:
            self.journal.set_record(phase.acquit(record))

    def wait(self, *, wake_at: datetime | None, timeout_left: float | None) -> None:
        """Write down that the run waits, and give up its slot."""
        record = self.journal.record
        if record.phase is Phase.WAITING or len(self._answers):
            return  # it waits already, or what it waits for may be on its way
        clock = self._store_clock
        idle = Idle(since=clock(), wake_at=wake_at, timeout_left=timeout_left, uptime=clock.uptime)
        slot = self._slot.rest()
        well = phase.acquit(record)
        self.journal.set_record(phase.wait(well, idle, due_at=find_due(idle), slot=slot))
        self._observer.became_idle()
        if not self._was_stuck and is_stuck(self.journal.record, self._slot.workflow):
            self._was_stuck = True
            logger.warning(
                "run can never go on",
                run_id=record.run_id,
                handler_id=record.handler_id,
                reason=STUCK,
            )

    def end_tick(self, list_waiters: Callable[[], Sequence[Waiter]], *, came_in: bool) -> None:
        """Close the unit of a tick; a run that waited goes on where something came in."""
        asked = self.questions
        if asked.questions or asked.answered or self._asking.askers:
            self._asking.end_tick()
            self.questions.drop_resolved(list_waiters())
            self.write_questions()
        if came_in and self.journal.record.phase is Phase.WAITING:
            self.journal.set_record(phase.work(self.journal.record))
            self._slot.go_on()
        self.journal.close_unit()

    def write_questions(self) -> None:
        """Write down which questions are open."""
        record, asked = self.journal.record, self.questions
        if (record.questions, record.answered) != (asked.questions, asked.answered):
            changed = replace(record, questions=asked.questions, answered=asked.answered)
            self.journal.set_record(replace(changed, updated_at=self._clock()))

    def write_awaits(self, awaits: tuple[Awaited, ...]) -> None:
        """Write down what steps of the run wait for."""
        record = self.journal.record
        if record.awaits != awaits:
            self.journal.set_record(replace(record, awaits=awaits, updated_at=self._clock()))

    def mark_not_resumable(self, reason: str) -> None:
        """Write down why the run could not go on after a restart; the first reason stays."""
        record = self.journal.record
        if record.not_resumable_because is None:
            logger.warning("run cannot be resumed", run_id=record.run_id, reason=reason)
            self.journal.set_record(replace(record, not_resumable_because=clean_text(reason)))

    def cannot_go_on(self, sentence: str) -> None:
        """Pass on that the run must end as failed."""
        self._observer.cannot_go_on(sentence)


def find_due(idle: Idle) -> datetime | None:
    """Return when the first timer of a waiting run is due, or None where it has none."""
    due = [idle.wake_at] if idle.wake_at is not None else []
    if idle.timeout_left is not None:
        due.append(idle.since + timedelta(seconds=max(idle.timeout_left, 0)))
    return min(due, default=None)
