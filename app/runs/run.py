"""A live run: begun or brought back, asked, answered, cancelled, and ended.

A run is held by its task and by whoever started it, from its acceptance to its end; the engine
alone would hold it by weak references only, and the garbage collector could end it.
"""

import asyncio
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import ParamSpec, Protocol

from pydantic import Field
from structlog.contextvars import bind_contextvars
from workflows.events import Event, InternalDispatchEvent, StopEvent
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import TickAddEvent, TickCancelRun

from app.engine import outcome
from app.engine.outcome import Outcome, RunFailed
from app.engine.replay import Recovered
from app.engine.served import RunInput, ServedWorkflow
from app.engine.tracing import RunTrace, trace_run
from app.errors import (
    HandlerEnded,
    NotStarted,
    RunNotBegun,
    RunUnfinished,
    ServiceError,
    StoreFailed,
)
from app.runs.commit_log import CommitLog
from app.runs.journal import RunJournal
from app.runs.recorder import Clock, Transcript
from app.runs.slots import Turn, Turns
from app.streams.tail import EventTail
from schemas.records import RunRecord, Status

P = ParamSpec("P")


class RunObserver(Protocol):
    """Who holds the runs, and learns what becomes of them."""

    def run_ended(self, run: "LiveRun") -> None:
        """The run's end is committed, and nothing of it is left to do."""

    def step_ended(self, run: "LiveRun", step: str, status: str, seconds: float) -> None:
        """An attempt of a step of the run has ended, well or not."""

    def run_idle(self, run: "LiveRun") -> None:
        """The run waits for an event from outside."""


class RunResumedEvent(InternalDispatchEvent):
    """The run was resumed after its process ended; a step that was cut off runs again."""

    resumes: int = Field(description="How often since a step of the run finished last.")


class _Answer:
    """An event on its way into the run, and the question that it answers."""

    def __init__(self, event: Event, question: int | None) -> None:
        self.event = event
        self.question = question
        self.journalled: asyncio.Future[None] = asyncio.get_running_loop().create_future()


def _weakly(method: Callable[P, None]) -> Callable[P, None]:
    """Return a function that calls the method of an object as long as that is there."""
    found = weakref.WeakMethod(method)

    def call(*args: P.args, **options: P.kwargs) -> None:
        bound = found()
        if bound is not None:
            bound(*args, **options)

    return call


class LiveRun:
    """One run while it is in memory.

    `visible` is what clients are told of it: its record as it was last committed.
    """

    def __init__(
        self,
        record: RunRecord,
        workflow: ServedWorkflow,
        run_input: RunInput,
        log: CommitLog,
        *,
        tail: EventTail,
        observer: RunObserver,
        clock: Clock,
        turns: Turns,
        max_event_size: int,
        next_tick: int = 0,
    ) -> None:
        self.run_id = record.run_id
        self.handler_id = record.handler_id
        self.handler_key = record.handler_key
        self.workflow = workflow
        self.visible: RunRecord | None = None
        self.tail = tail
        self._input = run_input
        self._clock = clock
        self._observer = observer
        self._turns = turns
        self._max_event_size = max_event_size
        self._turn: Turn | None = None
        self._resumed = False
        self._trace: RunTrace | None = None
        # Weak, so that a run that leaves memory is gone at once, and not when garbage is collected.
        # As long as anything is done with it, its task and whoever holds the live runs hold it.
        self._journal = RunJournal(
            record,
            log,
            tail=tail,
            next_tick=next_tick,
            on_committed=_weakly(self._on_committed),
            on_failed=_weakly(self._on_store_failed),
        )
        self._transcript = Transcript(
            self._journal,
            run_input,
            timeout=workflow.timeout,
            max_event_size=max_event_size,
            clock=clock,
            reader=weakref.proxy(self),
        )
        self._ended: asyncio.Future[RunRecord] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[StopEvent] | None = None
        self._failure: RunFailed | None = None
        self._ended_at: datetime | None = None
        self._answers: dict[int, _Answer] = {}
        self._cancelling = False
        self._parked = False
        self._waiting = 0

    @property
    def awaited(self) -> Sequence[type[Event]]:
        """The events that steps of the run wait for, or have waited for."""
        return self._transcript.awaited

    @property
    def is_idle(self) -> bool:
        """Whether the run waits for an event from outside, and none is on its way."""
        coming = self._answers or self._cancelling or not self._transcript.mailbox.empty()
        return self._journal.record.idle is not None and not coming

    @property
    def is_uncertain(self) -> bool:
        """Whether the store failed before anybody was told of the run; it is written down later."""
        return self.visible is None and self._journal.is_failed

    @property
    def is_pending(self) -> bool:
        """Whether the run waits for its turn, and has not begun."""
        return self._turn is not None and self._turn.is_pending

    @property
    def uncommitted_bytes(self) -> int:
        """What the run has journalled and is not committed yet."""
        return self._journal.uncommitted_bytes

    # Beginning, and beginning again.

    def start(self, *, superseded: RunRecord | None = None) -> None:
        """Write down that the run is accepted, and begin it."""
        run_input, journal = self._input, self._journal
        self._trace = trace_run(journal.record)
        place = self._trace.place if self._trace is not None else None
        journal.open_unit()
        journal.set_record(replace(journal.record, trace=place), superseded=superseded)
        if superseded is not None or run_input.has_context:
            self._transcript.write_state()
        if run_input.has_context:
            self._transcript.write_snapshot(run_input.broker)
        journal.close_unit()
        self._begin(self._turns.take(self.workflow))

    def resume(self, recovered: Recovered) -> None:
        """Go on where the journal ends, when it is the run's turn."""
        self.visible = self._journal.record
        self._transcript.restore(recovered)
        self._resumed = True
        self._trace = trace_run(self.visible)
        self._begin(self._turns.take(self.workflow))

    def wake(self, recovered: Recovered, *, waited: float) -> None:
        """Go on after the run was released from memory, `waited` seconds after it became idle.

        It stays idle until something comes in: what brought it back may be refused.
        """
        record = self.visible = self._journal.record
        self._transcript.restore(recovered)
        self._trace = trace_run(record)
        if self.workflow.timeout is not None and record.idle is not None:
            # The time in which the run was not in memory counts for the workflow's timeout.
            broker = recovered.run_input.broker
            broker.elapsed_alive += waited
            left = self.workflow.timeout - broker.elapsed_alive
            idle = replace(record.idle, since=self._clock(), timeout_left=left)
            self._journal.open_unit()
            self._transcript.write_snapshot(broker)
            self._journal.set_record(replace(record, idle=idle))
            self._journal.close_unit()
        self._begin(self._turns.take_resting(self.workflow))
        self._observer.run_idle(self)

    def _begin(self, turn: Turn) -> None:
        self._turn = turn
        self._transcript.trace = self._trace
        self._task = asyncio.create_task(self._execute(), name=f"run {self.run_id}")
        self._task.add_done_callback(self._on_done)

    # What clients ask.

    async def wait_accepted(self) -> RunRecord:
        """Return the record once the acceptance is committed; `StoreFailed` when it cannot be."""
        await self._journal.wait_committed()
        if self.visible is None or self._journal.is_failed:
            raise StoreFailed("The run could not be written down, and was ended.")
        return self.visible

    async def wait_ended(self) -> RunRecord:
        """Return the final record once the end is committed; cancelling the wait ends nothing.

        Raises `RunUnfinished` where the server stops before, once the acceptance is committed.
        """
        self._waiting += 1
        try:
            return await asyncio.shield(self._ended)
        except RunUnfinished:
            await self.wait_accepted()
            raise
        finally:
            self._waiting -= 1

    def check_open(self, question: int) -> None:
        """Raise `QuestionNotOpen` unless the question still takes an answer."""
        self._transcript.questions.check_open(question, self._transcript.waiters)

    async def send(self, event: Event, *, step: str | None, reply_to: int | None) -> None:
        """Return when the event is written down, and so reaches the run exactly once.

        Raises `HandlerEnded`, `RunNotBegun`, `QuestionNotOpen`, or `NotStarted`, as it stops.
        """
        transcript = self._transcript
        if self._task is None or self._task.done() or transcript.terminal is not None:
            raise self._ended_error()
        if self._turn is not None and self._turn.is_pending:
            if self._turn.is_off:
                raise NotStarted("The server stops; send the event again in a moment.")
            raise RunNotBegun(f"The handler '{self.handler_id}' waits until another run ends.")
        answer = _Answer(event, self._take_question(event, reply_to))
        self._answers[id(event)] = answer
        step_id = StepId.root(step) if step is not None else None
        transcript.mailbox.put_nowait(TickAddEvent(event=event, step_id=step_id))
        await asyncio.shield(answer.journalled)
        await self._journal.wait_committed()
        if self._journal.is_failed:
            raise StoreFailed("The event could not be written down.")

    async def cancel(self) -> RunRecord:
        """Stop the run and return its final record, which says how it really ended.

        Raises `NotStarted` where the server stops before.
        """
        if not self._cancelling and self._task is not None:
            self._cancelling = True
            if self._transcript.runner is None:
                self._task.cancel()
            else:
                self._transcript.mailbox.put_nowait(TickCancelRun())
        try:
            return await self.wait_ended()
        except RunUnfinished as error:
            raise NotStarted("The server stops; cancel the handler again in a moment.") from error

    # Leaving memory without an end.

    async def prepare_release(self) -> bool:
        """Return whether the run can be released from memory now, all of it being committed."""
        transcript = self._transcript
        if not self._is_releasable():
            return False
        if transcript.ticks_since_snapshot and transcript.runner is not None:
            transcript.write_snapshot(transcript.runner.state)
            await self._journal.wait_committed()
        return transcript.ticks_since_snapshot == 0 and self._is_releasable()

    def park(self) -> None:
        """Leave memory; `prepare_release` has just returned true."""
        self._parked = True
        self._transcript.close()
        if self._task is not None:
            self._task.cancel()

    def dismiss(self) -> None:
        """Send away everybody who reads or waits: the server stops.

        Who has sent an event is not: the run may still take it.
        """
        self.tail.close()
        self._refuse_waiting(
            RunUnfinished(
                "The server stops before the run has ended, and the run goes on at its next start:"
                f" do not start it again, but ask for the handler '{self.handler_id}'.",
                handler_id=self.handler_id,
            )
        )

    async def abandon(self) -> None:
        """Stop executing: a durable run goes on at the next start."""
        self.dismiss()
        self._transcript.close()
        record = self._journal.record
        if record.resumes and record.status is Status.RUNNING:
            # It is not because of this run that the process ends.
            self._journal.set_record(replace(record, resumes=0))
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        # What the run has not taken by now, and carried out, it does not take.
        stopped = NotStarted("The server stops; send the event again in a moment.")
        self._refuse_answers(stopped)
        self._journal.cut_off(stopped)

    def _is_releasable(self) -> bool:
        kept = self._journal.record.unresumable is None and not self._journal.is_failed
        return kept and self.is_idle and not self._waiting and self._task is not None

    # What the transcript tells.

    def event_taken(self, event: Event) -> None:
        """Acknowledge an event from outside that has reached the engine."""
        answer = self._answers.pop(id(event), None)
        if answer is None:
            return
        if answer.question is not None:
            self._transcript.questions.settle(answer.question)
            self._transcript.write_questions()
        answer.journalled.set_result(None)

    def step_ended(self, step: str, status: str, seconds: float) -> None:
        """Pass on that an attempt of a step has ended."""
        self._observer.step_ended(self, step, status, seconds)

    def became_idle(self) -> None:
        """Make room for other runs, and pass on that this one waits for an event from outside."""
        if self._turn is not None:
            self._turn.rest()
        self._observer.run_idle(self)

    def went_on(self) -> None:
        """Be at work again."""
        if self._turn is not None:
            self._turn.go_on()

    def cannot_go_on(self, sentence: str) -> None:
        """End the run as failed, for the reason that the sentence gives."""
        if self._failure is not None:
            return
        self._failure = RunFailed(sentence)
        self._transcript.close()
        if self._task is not None:
            self._task.cancel()

    # The course of the run.

    async def _execute(self) -> StopEvent:
        run_input = self._input
        # What is logged from here on, by the steps too, says of which run it is.
        bind_contextvars(handler_id=self.handler_id, run_id=self.run_id)
        if self._trace is not None:
            self._trace.enter()
        tags = {
            "handler_id": self.handler_id,
            "llamaindex.handler_id": self.handler_id,
            "llamaindex.run_id": self.run_id,
        }
        if self._turn is not None:
            await self._turn.wait()
        if self._resumed:
            await self._note_resumed()
        return await self.workflow.runtime.execute(
            self._transcript, run_input.broker, run_input.start_event, tags
        )

    async def _note_resumed(self) -> None:
        """Show the readers that the run was resumed.

        It is committed before the run goes on, for that may end the process again.
        """
        record = self._journal.record
        resumes = record.resumes + 1
        self._journal.open_unit()
        self._transcript.add_event(RunResumedEvent(resumes=resumes))
        self._journal.set_record(replace(record, resumes=resumes, updated_at=self._clock()))
        self._journal.close_unit()
        await self._journal.wait_committed()

    def _on_done(self, task: asyncio.Task[StopEvent]) -> None:
        if self._turn is not None:
            self._turn.end()
        self._transcript.runner = None
        stopped = task.cancelled() and not self._cancelling and self._failure is None
        if self._parked or stopped:
            self._task = None
            self._end_trace(None)  # not an end
        else:
            self._end(self._outcome(task))

    def _outcome(self, task: asyncio.Task[StopEvent]) -> Outcome:
        if self._failure is not None:
            return outcome.failed(self._failure, None)
        if task.cancelled():
            return outcome.cancelled()
        error = task.exception()
        if error is not None:
            return outcome.failed(error, self._transcript.terminal)
        return outcome.completed(task.result(), max_size=self._max_event_size)

    def _end(self, ended: Outcome) -> None:
        journal = self._journal
        self._transcript.close()
        journal.open_unit()
        journal.end(ended.status, ended.envelope, ended.error, now=self._ended_at or self._clock())
        journal.close_unit()
        self._end_trace(ended.status)
        self._refuse_answers(self._ended_error())

    def _end_trace(self, status: Status | None) -> None:
        if self._trace is not None:
            self._trace.end(status)

    def _on_committed(self, record: RunRecord | None) -> None:
        ended = record is not None and record.status is not Status.RUNNING
        if record is None or (self._journal.is_failed and not ended):
            return  # that it has failed was said already
        self.visible = record
        if not ended:
            return
        self._task = None
        self.tail.end()
        if not self._ended.done():
            self._ended.set_result(record)
        self._observer.run_ended(self)

    def _on_store_failed(self) -> None:
        """End the run; what it has done so far, and that end, are committed when the store is back.

        A run that has ended already keeps its end, which nobody has seen yet.
        """
        sentence = "The run was ended because the store could not be reached."
        if self._journal.record.status is Status.RUNNING:
            self._ended_at = self._clock()
            self.visible = replace(
                self._journal.record,
                status=Status.FAILED,
                updated_at=self._ended_at,
                completed_at=self._ended_at,
                error=sentence,
                questions=(),
            )
            self.cannot_go_on(sentence)
        failed = StoreFailed("The store could not be reached; ask for the handler later.")
        self._refuse_waiting(failed)
        self._refuse_answers(failed)

    # Answers.

    def _take_question(self, event: Event, reply_to: int | None) -> int | None:
        if reply_to is None:
            return self._transcript.questions.take_oldest(event)
        self._transcript.questions.take(reply_to, event, self._transcript.waiters)
        return reply_to

    def _refuse_waiting(self, error: ServiceError) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)
            self._ended.exception()  # nobody may be waiting, which is not an error

    def _refuse_answers(self, error: ServiceError) -> None:
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            answer.journalled.set_exception(error)
            answer.journalled.exception()  # the sender may have gone

    def _ended_error(self) -> HandlerEnded:
        status = self._journal.record.status
        how = "is ending" if status is Status.RUNNING else f"has ended ({status})"
        return HandlerEnded(f"The handler '{self.handler_id}' {how} and takes no more events.")
