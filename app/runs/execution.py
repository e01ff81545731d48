"""The execution of a run: the task in which the engine runs it, from its slot to its outcome."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import Field
from workflows.events import InternalDispatchEvent, StopEvent

from workflow_server.app.clocks import Clock
from workflow_server.app.engine import outcome
from workflow_server.app.engine.heavy import is_heavy
from workflow_server.app.engine.outcome import Outcome, RunFailed
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.session import Session
from workflow_server.app.engine.tracing import RunTrace
from workflow_server.app.runs import phase
from workflow_server.app.runs.answers import Answers
from workflow_server.app.runs.recorder import Recorder
from workflow_server.app.runs.slots import Slot
from workflow_server.app.telemetry.bound import bind_contextvars
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.schemas.records import Phase, Status

logger = get_logger(__name__)

STOP_PATIENCE = 1.0  # seconds that steps get to end once the server has cut their run off
CUT_OFF = "Code in the server's process cancelled the run; no client has asked for that."


class RunResumedEvent(InternalDispatchEvent):
    """The run was resumed after its process ended; a step that was cut off runs again."""

    resumes: int = Field(description="How often since a step of the run finished last.")


class Execution:
    """The task of one run, and what becomes of it.

    It ends in an outcome, or without one, where it is stopped from outside: the run goes on at
    another time then.
    """

    def __init__(
        self,
        workflow: ServedWorkflow,
        session: Session,
        recorder: Recorder,
        answers: Answers,
        slot: Slot,
        *,
        max_event_size: int,
        clock: Clock,
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        self.task: asyncio.Task[StopEvent] | None = None
        self.trace: RunTrace | None = None
        self._workflow = workflow
        self._session = session
        self._recorder = recorder
        self._journal = recorder.journal
        self._answers = answers
        self._slot = slot
        self._max_event_size = max_event_size
        self._clock = clock
        self._on_outcome = on_outcome
        self._is_cancelling = False
        self._is_evicted = False
        self._is_stopped = False
        self._failure: RunFailed | None = None
        self._completed: Outcome | None = None  # of a heavy result

    def begin(self, *, resumes: bool) -> None:
        """Execute the run as soon as it has its slot."""
        self._session.trace = self.trace
        run_id = self._session.run_id
        self.task = asyncio.create_task(self._execute(resumes), name=f"run {run_id}")
        self.task.add_done_callback(self._on_done)

    @property
    def is_cancelling(self) -> bool:
        """Return whether a client has asked for the run to be cancelled."""
        return self._is_cancelling

    def cancel(self) -> None:
        """Let the run end as cancelled; cancelling twice does nothing."""
        if self._is_cancelling or self.task is None:
            return
        self._is_cancelling = True
        if not self._session.cancel():
            self.task.cancel()

    def fail(self, sentence: str) -> None:
        """Let the run end as failed, for the reason that the sentence gives."""
        if self._failure is not None:
            return
        self._failure = RunFailed(sentence)
        self._session.close()
        if self.task is not None:
            self.task.cancel()

    def evict(self) -> None:
        """Let go of the run, which waits; it goes on at another time."""
        self._is_evicted = True
        self._session.close()
        if self.task is not None:
            self.task.cancel()

    def cut_off(self) -> None:
        """Cut the run off where it is."""
        self._is_stopped = True
        self._session.close()
        if self.task is not None:
            self.task.cancel()

    async def stop(self) -> None:
        """Cut the run off where it is, and return when its task has ended.

        Its steps have had the server's grace already, so they get less time than those of a run
        that is cancelled.
        """
        self.cut_off()
        task = self.task
        if task is None:
            return
        await asyncio.wait({task}, timeout=STOP_PATIENCE)
        if not task.done():
            task.cancel()  # it waits for its steps no longer
            await asyncio.wait({task}, timeout=STOP_PATIENCE)

    async def _execute(self, resumes: bool) -> StopEvent:
        record = self._journal.record
        # What is logged from here on, by the steps too, says of which run it is.
        bind_contextvars(handler_id=record.handler_id, run_id=record.run_id)
        if self.trace is not None:
            self.trace.enter()
        await self._slot.wait()
        if resumes:
            await self._note_resumed()
        elif self._journal.record.phase in (Phase.QUEUED, Phase.HELD):
            self._journal.set_record(phase.work(self._journal.record))
        for answer in self._answers.list_waiting():
            answer.is_handed_over = True
            self._session.deliver(answer.delivery)
        tags = {
            "handler_id": record.handler_id,
            "llamaindex.handler_id": record.handler_id,
            "llamaindex.run_id": record.run_id,
        }
        try:
            result = await self._workflow.runtime.execute(self._session, tags)
            if is_heavy(result):
                complete = partial(outcome.completed, result, max_size=self._max_event_size)
                self._completed = await self._workflow.codec.beside.do(complete)
            return result
        except (KeyboardInterrupt, SystemExit) as leaving:
            # Of the user's code that the engine calls between steps; it would end the event loop.
            sentence = f"The workflow asked the process to end: {leaving!r}."
            raise RunFailed(sentence) from leaving

    async def _note_resumed(self) -> None:
        """Show the readers that the run was resumed.

        It is committed before the run goes on, for that may end the process again.
        """
        record = self._journal.record
        self._journal.open_unit()
        self._recorder.add_event(RunResumedEvent(resumes=max(record.resumes, 1)))
        self._journal.set_record(phase.work(record, updated_at=self._clock()))
        self._journal.close_unit()
        await self._journal.wait_committed()

    def _on_done(self, task: asyncio.Task[StopEvent]) -> None:
        self._session.end()
        if not self._is_evicted:
            self._release_slot()  # a run that waits keeps that of its workflow
        ends = self._is_cancelling or self._failure is not None or not task.cancelled()
        if self._is_evicted or (self._is_stopped and not ends):
            self.task = None
            self._end_trace(None)  # not an end
            return
        try:
            ended = self._judge(task)
        except BaseException as error:  # the result's classes are the user's
            logger.exception("outcome of a run cannot be written", run_id=self._session.run_id)
            sentence = f"The result cannot be written: it raised {type(error).__name__}."
            ended = outcome.failed(RunFailed(sentence), None)
        self._session.close()
        self._journal.open_unit()
        self._on_outcome(ended)
        self._journal.close_unit()
        self._end_trace(ended.status)

    def _judge(self, task: asyncio.Task[StopEvent]) -> Outcome:
        if self._failure is not None:
            return outcome.failed(self._failure, None)
        if task.cancelled():
            if self._is_cancelling:
                return outcome.cancelled()
            return outcome.failed(RunFailed(CUT_OFF), None)
        error = task.exception()
        if error is not None:
            return outcome.failed(error, self._session.terminal)
        if self._completed is not None:
            return self._completed
        return outcome.completed(task.result(), max_size=self._max_event_size)

    def _release_slot(self) -> None:
        """Give the slot back, as soon as no step of the run goes on any more."""
        run_id, threads = self._session.run_id, self._session.threads
        unended: list[asyncio.Future[Any]] = [*self._session.cut_off.list_unended()]
        steps = len(unended) + threads.at_work
        if (ended := threads.close()) is not None:
            unended.append(ended)
        if self._is_stopped or not unended:
            self._slot.release()
            return
        logger.warning("steps go on after the end of their run", run_id=run_id, steps=steps)
        ending = asyncio.gather(*unended, return_exceptions=True)
        ending.add_done_callback(lambda _: self._slot.release())

    def _end_trace(self, status: Status | None) -> None:
        if self.trace is not None:
            self.trace.end(status)
