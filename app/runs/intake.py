"""The intake of a run: the way of an event from outside into it, exactly once."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from workflows.events import Event

from workflow_server.app.engine.codec import NotSerializable
from workflow_server.app.engine.places import find_unserializable
from workflow_server.app.engine.prepared import PreparedEvent
from workflow_server.app.engine.run_input import Delivery
from workflow_server.app.engine.session import Session
from workflow_server.app.engine.waiters import Waiter
from workflow_server.app.errors import HandlerEnded, InvalidEvent, OutcomeUnknown, TooManyEvents
from workflow_server.app.runs.answers import UNKNOWN, Answer, Answers
from workflow_server.app.runs.execution import Execution
from workflow_server.app.runs.recorder import Recorder
from workflow_server.app.runs.slots import Slot
from workflow_server.schemas.records import Status


class Intake:
    """Takes events for one run: into its inbox until it has a slot, and then to the engine."""

    def __init__(
        self,
        recorder: Recorder,
        session: Session,
        execution: Execution,
        answers: Answers,
        slot: Slot,
    ) -> None:
        self._recorder = recorder
        self._journal = recorder.journal
        self._session = session
        self._execution = execution
        self._answers = answers
        self._slot = slot

    def keep_start(self) -> None:
        """Write the start event into the inbox too, where its envelope may not hold all of it."""
        run_input = self._session.run_input
        delivery = run_input.find_start_delivery(self._journal.record.start_event or b"")
        if delivery is None:
            return
        try:
            encoded = delivery.encode(run_input.codec)
            number = self._journal.add_delivery(encoded)
        except NotSerializable as error:
            place = find_unserializable(delivery.event)
            what = f"{type(delivery.event).__name__}{place}" if place else error
            self._session.mark_not_resumable(f"its start event cannot be stored: {what}")
        else:
            sized = replace(delivery, size=len(encoded))
            self._answers.add(Answer(sized, number=number, is_handed_over=True))

    def check_open(self, question: int) -> None:
        """Raise `QuestionNotOpen` unless the question still takes an answer."""
        self._recorder.questions.check_open(question, self._session.list_waiters())

    async def send(
        self,
        event: Event,
        *,
        size: int,
        step: str | None,
        reply_to: int | None,
        sent_by: str | None = None,
        prepared: PreparedEvent | None = None,
    ) -> None:
        """Return when the event, of so many bytes, is written down, and so reaches the run once.

        A queued run takes it when it begins. A large one is `prepared`. Raises `HandlerEnded`,
        `QuestionNotOpen`, `InvalidEvent` for an answer that nobody waits for, `TooManyEvents`,
        `NotStarted`, where the server stops before, or `OutcomeUnknown`.
        """
        task, is_cancelling = self._execution.task, self._execution.is_cancelling
        if task is None or task.done() or is_cancelling or self._session.terminal is not None:
            raise self.ended_error()
        if not self._answers.has_room(size):
            raise TooManyEvents(
                f"The run has {len(self._answers)} events that it has not taken yet; send this one"
                " again in a moment."
            )
        question = self._take_question(event, reply_to)
        origin = self._recorder.note_origin(sent_by, reply_to)
        envelope = prepared.envelope if prepared is not None else None
        delivery = Delivery(
            event, step, size=size, origin=origin, prepared=prepared, envelope=envelope
        )
        answer = Answer(delivery, question)
        # Behind what is in the inbox already, also where the slot has just been granted.
        is_early = self._slot.is_pending or bool(self._answers.list_waiting())
        self._answers.add(answer)
        if is_early:
            self._put_in_inbox(answer)
        else:
            answer.is_handed_over = True
            self._session.deliver(answer.delivery)
            await asyncio.shield(answer.written)
        await self._journal.wait_committed()
        if self._journal.is_refused:
            raise self.ended_error()
        if self._journal.is_failed:
            raise OutcomeUnknown(UNKNOWN)

    def _take_question(self, event: Event, reply_to: int | None) -> int | None:
        """Return the question that an event answers, spent on it; None where it answers none."""
        questions, waiters = self._recorder.questions, self._session.list_waiters()
        is_awaited = self._slot.workflow.awaitable.is_awaited(event, waiters)
        if reply_to is None:
            return questions.take_oldest(event, waiters) if is_awaited else None
        questions.check_open(reply_to, waiters)
        if not is_awaited:
            raise InvalidEvent(_not_awaited(event, waiters))
        questions.take(reply_to, event, waiters)
        return reply_to

    def ended_error(self) -> HandlerEnded:
        """Return what to say to the sender of an event to a run that ends or has ended."""
        record = self._journal.record
        status = record.status
        how = "is ending" if status is Status.RUNNING else f"has ended ({status})"
        return HandlerEnded(f"The handler '{record.handler_id}' {how} and takes no more events.")

    def _put_in_inbox(self, answer: Answer) -> None:
        """Write down an event, and that it answers its question."""
        self._journal.open_unit()
        try:
            delivery = answer.delivery.encode(self._session.run_input.codec)
            answer.number = self._journal.add_delivery(delivery)
        except NotSerializable as error:
            reason = f"an event that was sent to it cannot be stored: {error}"
            self._session.mark_not_resumable(reason)
        if answer.question is not None:
            self._recorder.questions.settle(answer.question)
            self._recorder.write_questions()
        self._journal.close_unit()


def _not_awaited(event: Event, waiters: Sequence[Waiter]) -> str:
    """Return why an event cannot answer a question."""
    name = type(event).__name__
    unmet = next((w.find_unmet(event) for w in waiters if w.is_for(event)), None)
    if unmet is not None:
        return f"The question asks for an answer with another '{unmet}'."
    awaited = ", ".join(sorted({waiter.event_class.__name__ for waiter in waiters}))
    if not awaited:
        return f"The question is not answered by {name}: no step takes it or waits for it now."
    return f"The question is not answered by {name}: the run waits for {awaited}."
