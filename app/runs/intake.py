"""The intake of a run: the way of an event from outside into it, exactly once."""

import asyncio

from workflows.events import Event

from app.engine.codec import NotSerializable
from app.engine.session import Delivery, Session
from app.errors import HandlerEnded, StoreFailed
from app.runs.answers import Answer, Answers
from app.runs.execution import Execution
from app.runs.recorder import Recorder
from app.runs.slots import Slot
from schemas.records import Status


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

    def check_open(self, question: int) -> None:
        """Raise `QuestionNotOpen` unless the question still takes an answer."""
        self._recorder.questions.check_open(question, self._session.list_waiters())

    async def send(self, event: Event, *, step: str | None, reply_to: int | None) -> None:
        """Return when the event is written down, and so reaches the run exactly once.

        A queued run takes it when it begins. Raises `HandlerEnded`, `QuestionNotOpen`, or
        `NotStarted`, where the server stops before.
        """
        task, is_cancelling = self._execution.task, self._execution.is_cancelling
        if task is None or task.done() or is_cancelling or self._session.terminal is not None:
            raise self.ended_error()
        questions = self._recorder.questions
        if reply_to is None:
            question = questions.take_oldest(event)
        else:
            question = reply_to
            questions.take(reply_to, event, self._session.list_waiters())
        answer = Answer(Delivery(event, step), question)
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
        if self._journal.is_failed:
            raise StoreFailed("The event could not be written down.")

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
            answer.number = self._journal.add_delivery(answer.delivery.encode())
        except NotSerializable as error:
            reason = f"an event that was sent to it cannot be stored: {error}"
            self._recorder.mark_not_resumable(reason)
        if answer.question is not None:
            self._recorder.questions.settle(answer.question)
            self._recorder.write_questions()
        self._journal.close_unit()
