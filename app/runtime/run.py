"""A live run: the engine executes it, its journal writes it down, and what ended it is kept.

A run is held by its task and by whoever started it, from its acceptance to its end; the engine
alone would hold it by weak references only, and the garbage collector could end it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from workflows.events import Event, InputRequiredEvent, InternalDispatchEvent, StopEvent
from workflows.runtime.control_loop.runner import _ControlLoopRunner
from workflows.runtime.types.results import AddWaiter, StepWorkerWaiter
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import TickAddEvent, TickCancelRun, TickStepResult, WorkflowTick

from app.errors import HandlerEnded, NotStarted, RunNotBegun, ServiceError, StoreFailed
from app.runtime import outcome
from app.runtime.commit_log import CommitLog
from app.runtime.encoding import NotSerializable, encode_event, encode_tick
from app.runtime.journal import RunJournal
from app.runtime.outcome import Outcome, RunFailed
from app.runtime.questions import OpenQuestions, open_waiters, waiter_of
from app.runtime.served import RunInput, ServedWorkflow
from app.runtime.state import UNRESTORABLE
from app.runtime.stream import EventTail
from schemas.records import RunRecord, Status

logger = logging.getLogger(__name__)

Clock = Callable[[], datetime]


class _Answer:
    """An event on its way into the run, and the question that it answers."""

    def __init__(self, event: Event, question: int | None) -> None:
        self.event = event
        self.question = question
        self.journalled: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class LiveRun:
    """One run while it is in memory.

    `visible` is what clients are told of it: its record as it was last committed. `on_end` is
    called when the end is committed, and so nothing of the run is left to do.
    """

    def __init__(
        self,
        record: RunRecord,
        workflow: ServedWorkflow,
        run_input: RunInput,
        log: CommitLog,
        *,
        clock: Clock,
        on_end: Callable[["LiveRun"], None],
    ) -> None:
        self.run_id = record.run_id
        self.handler_id = record.handler_id
        self.workflow = workflow
        self.visible: RunRecord | None = None
        self.tail = EventTail()
        self.mailbox: asyncio.Queue[WorkflowTick] = asyncio.Queue()
        self.runner: _ControlLoopRunner | None = None
        self.state = run_input.state
        self._input = run_input
        self._clock = clock
        self._on_end = on_end
        self._journal = RunJournal(
            record,
            log,
            tail=self.tail,
            on_committed=self._on_committed,
            on_failed=self._on_store_failed,
        )
        self._ended: asyncio.Future[RunRecord] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[StopEvent] | None = None
        self._tick: WorkflowTick | None = None
        self._terminal: StopEvent | None = None
        self._failure: RunFailed | None = None
        self._questions = OpenQuestions()
        self._awaited: dict[type[Event], None] = {}
        self._answers: dict[int, _Answer] = {}
        self._cancelling = False

    @property
    def awaited(self) -> Sequence[type[Event]]:
        """The events that steps of the run wait for, or have waited for."""
        return tuple(self._awaited)

    def start(self, *, superseded: RunRecord | None = None) -> None:
        """Write down that the run is accepted, and begin it."""
        run_input, journal = self._input, self._journal
        journal.open_unit()
        journal.set_record(journal.record, superseded=superseded)
        if superseded is not None or run_input.context is not None:
            self._journal_state()
        if run_input.context is not None:
            journal.set_snapshot(run_input.context)
        journal.close_unit()
        self._task = asyncio.create_task(self._execute(), name=f"run {self.run_id}")
        self._task.add_done_callback(self._on_done)

    async def wait_accepted(self) -> RunRecord:
        """Return the record once the acceptance is committed; `StoreFailed` when it cannot be."""
        await self._journal.wait_committed()
        if self.visible is None or self._journal.is_failed:
            raise StoreFailed("The run could not be written down, and was ended.")
        return self.visible

    async def wait_ended(self) -> RunRecord:
        """Return the final record once the end is committed; cancelling the wait ends nothing."""
        return await asyncio.shield(self._ended)

    async def send(self, event: Event, *, step: str | None, reply_to: int | None) -> None:
        """Return when the event is written down, and so reaches the run exactly once.

        Raises `HandlerEnded`, `RunNotBegun` or `QuestionNotOpen`.
        """
        if self._task is None or self._task.done() or self._terminal is not None:
            raise self._ended_error()
        slots = self.workflow.slots
        if self.runner is None and slots is not None and slots.locked():
            raise RunNotBegun(
                f"The handler '{self.handler_id}' waits until another run of its workflow ends."
            )
        answer = _Answer(event, self._take_question(event, reply_to))
        self._answers[id(event)] = answer
        step_id = StepId.root(step) if step is not None else None
        self.mailbox.put_nowait(TickAddEvent(event=event, step_id=step_id))
        await asyncio.shield(answer.journalled)
        await self._journal.wait_committed()
        if self._journal.is_failed:
            raise StoreFailed("The event could not be written down.")

    async def cancel(self) -> RunRecord:
        """Stop the run and return its final record, which says how it really ended."""
        if not self._cancelling and self._task is not None:
            self._cancelling = True
            if self.runner is None:
                self._task.cancel()
            else:
                self.mailbox.put_nowait(TickCancelRun())
        return await self.wait_ended()

    def dismiss(self) -> None:
        """Send away everybody who reads or waits: the server stops."""
        self.tail.close()
        self._refuse(
            NotStarted(f"The server stops; ask for the handler '{self.handler_id}' later.")
        )

    async def abandon(self) -> None:
        """Stop executing without an end: a durable run goes on at the next start."""
        self.dismiss()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # What the engine calls.

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return self._clock().timestamp()

    async def write_event(self, event: Event) -> None:
        """Put an event into the stream; await room when too much is uncommitted.

        While a unit is open it is the engine itself that writes: then a stop event is the run's
        terminal event, held back until the outcome is known. A step's own stop event, of a nested
        workflow say, is an event like any other.
        """
        if self._terminal is not None or self._failure is not None:
            return
        if self._journal.is_open and isinstance(event, StopEvent):
            self._terminal = event
            return
        try:
            envelope = encode_event(event)
        except NotSerializable as error:
            self._fail(f"An event could not be written to the stream: {error}.")
            return
        self._add_event(event, envelope)
        if not self._journal.is_open:
            await self._journal.wait_for_room()

    def on_tick(self, tick: WorkflowTick) -> None:
        """Journal a tick, and with a step's result the state that the step left."""
        self._journal.open_unit()
        self._tick = tick
        try:
            self._journal.add_tick(encode_tick(tick))
        except NotSerializable as error:
            self._mark_unresumable(f"what a step took or gave cannot be stored: {error}")
        if isinstance(tick, TickStepResult):
            if self.state.changed:
                self._journal_state()
            for result in tick.result:
                if isinstance(result, AddWaiter):
                    self._awaited[result.event_type] = None
        elif isinstance(tick, TickAddEvent):
            self._settle_answer(tick.event)

    def after_tick(self) -> None:
        """Make what the tick caused ready to be committed, as one unit."""
        terminal, self._terminal = self._terminal, None
        if terminal is not None:
            # A stop event that was published into the stream, and did not end the run.
            self._add_event(terminal, encode_event(terminal))
        if self._questions.questions:
            self._questions.drop_resolved(self._waiters())
            self._journal_questions()
        self._tick = None
        self._journal.close_unit()

    # The course of the run.

    async def _execute(self) -> StopEvent:
        run_input = self._input
        tags = {
            "handler_id": self.handler_id,
            "llamaindex.handler_id": self.handler_id,
            "llamaindex.run_id": self.run_id,
        }
        async with self._slot():
            return await self.workflow.runtime.execute(
                self, run_input.broker, run_input.start_event, tags
            )

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self.workflow.slots is None:
            yield
        else:
            async with self.workflow.slots:
                yield

    def _on_done(self, task: asyncio.Task[StopEvent]) -> None:
        self.runner = None
        if task.cancelled() and not self._cancelling and self._failure is None:
            return  # abandoned: not an end
        ended = self._outcome(task)
        now = self._clock()
        journal = self._journal
        journal.open_unit()
        journal.add_event(ended.envelope, internal=False)
        journal.set_record(
            replace(
                journal.record,
                status=ended.status,
                updated_at=now,
                completed_at=now,
                result=ended.envelope if ended.status is Status.COMPLETED else None,
                error=ended.error,
                event_count=journal.next_sequence,
                questions=(),
            )
        )
        journal.close_unit()
        self._refuse_answers(self._ended_error())

    def _outcome(self, task: asyncio.Task[StopEvent]) -> Outcome:
        if self._failure is not None:
            return outcome.failed(self._failure, None)
        if task.cancelled():
            return outcome.cancelled()
        error = task.exception()
        if error is not None:
            return outcome.failed(error, self._terminal)
        return outcome.completed(task.result())

    def _fail(self, sentence: str) -> None:
        if self._failure is None and self._task is not None:
            self._failure = RunFailed(sentence)
            self._task.cancel()

    def _on_committed(self, record: RunRecord | None) -> None:
        if record is None:
            return
        self.visible = record
        if record.status is Status.RUNNING:
            return
        self.tail.end()
        if not self._ended.done():
            self._ended.set_result(record)
        self._on_end(self)

    def _on_store_failed(self) -> None:
        """End the run; what it has done so far, and that end, are committed when the store is back.

        A run that has ended already keeps its end, which nobody has seen yet.
        """
        sentence = "The run was ended because the store could not be reached."
        if self._journal.record.status is Status.RUNNING:
            now = self._clock()
            self.visible = replace(
                self._journal.record,
                status=Status.FAILED,
                updated_at=now,
                completed_at=now,
                error=sentence,
                questions=(),
            )
            self._fail(sentence)
        self._refuse(StoreFailed("The store could not be reached; ask for the handler later."))

    # Questions and answers.

    def _waiters(self) -> Sequence[StepWorkerWaiter[Event]]:
        return open_waiters(self.runner.state) if self.runner is not None else ()

    def _take_question(self, event: Event, reply_to: int | None) -> int | None:
        if reply_to is None:
            return self._questions.take_oldest(event)
        self._questions.take(reply_to, event, self._waiters())
        return reply_to

    def _settle_answer(self, event: Event) -> None:
        answer = self._answers.pop(id(event), None)
        if answer is None:
            return
        if answer.question is not None:
            self._questions.settle(answer.question)
            self._journal_questions()
        answer.journalled.set_result(None)

    def _refuse(self, error: ServiceError) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)
            self._ended.exception()  # nobody may be waiting, which is not an error
        self._refuse_answers(error)

    def _refuse_answers(self, error: ServiceError) -> None:
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            answer.journalled.set_exception(error)
            answer.journalled.exception()  # the sender may have gone

    def _ended_error(self) -> HandlerEnded:
        status = self._journal.record.status
        how = "is ending" if status is Status.RUNNING else f"has ended ({status})"
        return HandlerEnded(f"The handler '{self.handler_id}' {how} and takes no more events.")

    # Writing down.

    def _add_event(self, event: Event, envelope: bytes) -> None:
        internal = isinstance(event, InternalDispatchEvent)
        sequence = self._journal.add_event(envelope, internal=internal)
        if isinstance(event, InputRequiredEvent):
            self._questions.ask(sequence, waiter_of(event, self._tick))
            self._journal_questions()

    def _journal_questions(self) -> None:
        record = self._journal.record
        if record.questions != self._questions.questions:
            questions = self._questions.questions
            self._journal.set_record(replace(record, questions=questions, updated_at=self._clock()))

    def _journal_state(self) -> None:
        try:
            self._journal.set_state(self.state.encode(self._input.serializer))
        except NotSerializable as error:
            self._journal.set_state(UNRESTORABLE)
            self._mark_unresumable(f"its state cannot be stored: {error}")

    def _mark_unresumable(self, reason: str) -> None:
        if self._journal.record.unresumable is None:
            logger.warning("run cannot be resumed", extra={"run_id": self.run_id, "reason": reason})
            self._journal.set_record(replace(self._journal.record, unresumable=reason))
