"""A live run: begun or restored, asked, answered, cancelled, and ended.

A run is held by its task and by the live runs, from its acceptance to its end; the engine alone
would hold it by weak references only, and the garbage collector could end it.
"""

import asyncio
import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import ParamSpec, Protocol

from workflow_server.app.engine.codec import NotSerializable
from workflow_server.app.engine.outcome import Outcome
from workflow_server.app.engine.places import find_unserializable
from workflow_server.app.engine.replay import Recovered
from workflow_server.app.engine.run_input import RunInput
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.session import Clock, Session
from workflow_server.app.engine.tracing import trace_run
from workflow_server.app.errors import NotStarted, RunUnfinished, StoreFailed
from workflow_server.app.runs import phase
from workflow_server.app.runs.answers import Answer, Answers, refuse
from workflow_server.app.runs.commit_log import CommitLog
from workflow_server.app.runs.execution import Execution
from workflow_server.app.runs.intake import Intake
from workflow_server.app.runs.journal import RunJournal
from workflow_server.app.runs.recorder import Recorder, find_due
from workflow_server.app.runs.slots import Slot
from workflow_server.app.streams.tail import EventTail
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.records import Phase, RunRecord, Status

P = ParamSpec("P")

STORE_FAILED = "The run was ended because the store could not be reached."


class RunObserver(Protocol):
    """The holder of a run, told of its commits, of its waits and of its end."""

    def record_committed(self, before: RunRecord | None, after: RunRecord) -> None:
        """The run's record was committed; `before` is the one that was shown until now."""

    def run_ended(self, run: "LiveRun") -> None:
        """The run's end is committed, and nothing of it is left to do."""

    def run_waits(self, run: "LiveRun") -> None:
        """The run waits for an event from outside or a timer."""


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

    `visible` is what clients are told of it: its record as it was last committed. Its parts know it
    weakly, so that it is freed as soon as it leaves memory, and not when garbage is collected.
    """

    def __init__(
        self,
        record: RunRecord,
        workflow: ServedWorkflow,
        run_input: RunInput,
        log: CommitLog,
        *,
        tail: EventTail,
        slot: Slot,
        observer: RunObserver,
        clock: Clock,
        metrics: Metrics,
        max_event_size: int,
        next_tick: int = 0,
        next_delivery: int = 0,
    ) -> None:
        self.run_id = record.run_id
        self.key = record.key
        self.workflow = workflow
        self.visible: RunRecord | None = None
        self.tail = tail
        self.slot = slot
        self._clock = clock
        self._observer = observer
        self._answers = Answers()
        self.journal = RunJournal(
            record,
            log,
            tail=tail,
            next_tick=next_tick,
            next_delivery=next_delivery,
            on_committed=_weakly(self._on_committed),
            on_failed=_weakly(self._on_store_failed),
        )
        self._recorder = Recorder(
            self.journal,
            self._answers,
            slot,
            max_event_size=max_event_size,
            clock=clock,
            observer=weakref.proxy(self),
        )
        self.session = Session(
            self.run_id,
            run_input,
            recorder=self._recorder,
            timeout=workflow.timeout,
            max_event_size=max_event_size,
            clock=clock,
            count_step=metrics.step_counter(workflow.name),
        )
        self._execution = Execution(
            workflow,
            self.session,
            self._recorder,
            self._answers,
            slot,
            max_event_size=max_event_size,
            clock=clock,
            on_outcome=_weakly(self._on_outcome),
        )
        self.intake = Intake(self._recorder, self.session, self._execution, self._answers, slot)
        self._ended: asyncio.Future[RunRecord] = asyncio.get_running_loop().create_future()
        self._ended_at: datetime | None = None
        self._waiting = 0

    @property
    def is_quiet(self) -> bool:
        """Return whether the run waits for an event from outside, and none is on its way."""
        coming = (
            len(self._answers) or self._execution.is_cancelling or not self.session.mailbox.empty()
        )
        return self.journal.record.phase is Phase.WAITING and not coming

    @property
    def is_uncertain(self) -> bool:
        """Return whether the store failed before the run was shown; it is written down later."""
        return self.visible is None and self.journal.is_failed

    # Beginning, and beginning again.

    def start(self, *, superseded: RunRecord | None = None) -> None:
        """Write down that the run is accepted, and begin it when it has a slot."""
        trace = self._execution.trace = trace_run(self.journal.record)
        record = self.journal.record
        if trace is not None:
            record = replace(record, trace=trace.place)
        if not self.slot.is_pending:
            record = phase.work(record)
        has_context = self.session.run_input.has_context
        self.journal.open_unit()
        self.journal.set_record(record, superseded=superseded)
        if superseded is not None or has_context:
            self.session.state.touch()
            self.session.write_state()
        if has_context:
            if not self.session.write_snapshot():
                self._recorder.mark_not_resumable(
                    "the context that it starts from cannot be stored"
                )
            self._recorder.write_awaits(self.session.describe_awaits())
        self._keep_start()
        self.journal.close_unit()
        self._execution.begin(resumes=False)

    def _keep_start(self) -> None:
        """Write the start event into the inbox too, where its envelope may not hold all of it."""
        envelope = self.journal.record.start_event or b""
        delivery = self.session.run_input.find_start_delivery(envelope)
        if delivery is None:
            return
        try:
            number = self.journal.add_delivery(delivery.encode(self.session.run_input.codec))
        except NotSerializable as error:
            place = find_unserializable(delivery.event)
            what = f"{type(delivery.event).__name__}{place}" if place else error
            self._recorder.mark_not_resumable(f"its start event cannot be stored: {what}")
        else:
            self._answers.add(Answer(delivery, number=number, is_handed_over=True))

    def resume(self, recovered: Recovered) -> None:
        """Go on where the journal ends, when the run has a slot; or begin, where it has not begun.

        A run that was at work and has no slot now is queued again.
        """
        self.visible = self.journal.record
        self._take_over(recovered)
        record = self.journal.record
        if self.slot.is_pending and record.phase is not Phase.QUEUED:
            self.journal.set_record(phase.queue(record))
        self._execution.begin(resumes=recovered.has_begun)

    def restore(self, recovered: Recovered, *, waited: float) -> None:
        """Be in memory again, `waited` seconds after the run began to wait.

        It goes on waiting until something comes in: what brought it back may be refused.
        """
        self.visible = self.journal.record
        self._take_over(recovered)
        record = self.journal.record
        timeout_left = self.session.count_alive(waited)
        if record.idle is not None and (timeout_left is not None or record.phase is Phase.HELD):
            # The time in which the run was not in memory counts for the workflow's timeout.
            idle = replace(record.idle, since=self._clock(), timeout_left=timeout_left)
            self.journal.open_unit()
            self.session.write_snapshot()
            self.journal.set_record(
                phase.wait(record, idle, due_at=find_due(idle), slot=self.slot.counts_for_workflow)
            )
            self.journal.close_unit()
        self._execution.begin(resumes=False)
        self._observer.run_waits(self)

    def _take_over(self, recovered: Recovered) -> None:
        self._execution.trace = trace_run(self.journal.record)
        may_wait = self.journal.record.phase is not Phase.WAITING and recovered.has_begun
        self.session.restore(recovered.timers, recovered.written, may_wait=may_wait)
        self.journal.next_change = recovered.next_change
        self.journal.has_payloads = bool(recovered.written.payloads)
        if self.journal.record.awaits is None:
            self._recorder.write_awaits(self.session.describe_awaits())
        for number, delivery in recovered.inbox.items():
            self._answers.add(Answer(delivery, number=number, is_handed_over=delivery.starts))

    # What clients ask.

    async def wait_accepted(self) -> RunRecord:
        """Return the record once the acceptance is committed; `StoreFailed` when it cannot be."""
        await self.journal.wait_committed()
        if self.visible is None or self.journal.is_failed:
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

    async def cancel(self) -> RunRecord:
        """Stop the run and return its final record, which says how it really ended.

        Raises `NotStarted` where the server stops before.
        """
        self._execution.cancel()
        try:
            return await self.wait_ended()
        except RunUnfinished as error:
            raise NotStarted("The server stops; cancel the handler again in a moment.") from error

    # Leaving memory without an end.

    async def prepare_eviction(self) -> bool:
        """Return whether the run can leave memory now, all of it being committed."""
        if not self._can_leave():
            return False
        if not self.session.is_in_snapshot:
            self.session.write_snapshot()
        await self.journal.wait_committed()
        is_written = self.session.is_in_snapshot and self.journal.is_committed
        return is_written and self._can_leave()

    def evict(self) -> None:
        """Leave memory; `prepare_eviction` has just returned true."""
        self._execution.evict()

    def dismiss(self) -> None:
        """Send away everybody who reads or waits: the server stops.

        Senders of events are not sent away: the run may still take what they sent.
        """
        self.tail.close()
        refuse(
            self._ended,
            RunUnfinished(
                "The server stops before the run has ended, and the run goes on at its next start:"
                f" do not start it again, but ask for the handler '{self.key.id}'.",
                handler_id=self.key.id,
            ),
        )

    async def abandon(self) -> None:
        """Stop executing: a durable run goes on at the next start."""
        self.dismiss()
        record = self.journal.record
        if record.resumes and record.phase is not Phase.ENDED:
            # It is not because of this run that the process ends.
            self.journal.set_record(replace(record, resumes=0))
        await self._execution.stop()
        # What the run has not taken by now, and carried out, it does not take.
        stopped = NotStarted("The server stops; send the event again in a moment.")
        self._answers.refuse(stopped)
        self.journal.cut_off(stopped)

    def _can_leave(self) -> bool:
        kept = self.journal.record.not_resumable_because is None and not self.journal.is_failed
        return kept and self.is_quiet and not self._waiting and self._execution.task is not None

    # What its parts tell.

    def became_idle(self) -> None:
        """Pass on that the run waits for an event from outside or a timer."""
        self._observer.run_waits(self)

    def cannot_go_on(self, sentence: str) -> None:
        """End the run as failed, for the reason that the sentence gives."""
        self._execution.fail(sentence)

    def _on_outcome(self, ended: Outcome) -> None:
        self.journal.end(
            ended.status, ended.envelope, ended.error, now=self._ended_at or self._clock()
        )
        self._answers.refuse(self.intake.ended_error())

    def _on_committed(self, record: RunRecord | None) -> None:
        ended = record is not None and record.phase is Phase.ENDED
        if record is None or (self.journal.is_failed and not ended):
            return  # that it has failed was said already
        before, self.visible = self.visible, record
        self._observer.record_committed(before, record)
        if not ended:
            return
        self._execution.task = None
        self.tail.end()
        if not self._ended.done():
            self._ended.set_result(record)
        self._observer.run_ended(self)

    def _on_store_failed(self) -> None:
        """End the run; what it has done so far, and that end, are committed when the store is back.

        A run that has ended already keeps its end, which nobody has seen yet.
        """
        record = self.journal.record
        if record.phase is not Phase.ENDED:
            self._ended_at = self._clock()
            shown = phase.end(record, Status.FAILED, now=self._ended_at, error=STORE_FAILED)
            before, self.visible = self.visible, shown
            self._observer.record_committed(before, shown)
            self.cannot_go_on(STORE_FAILED)
        failed = StoreFailed("The store could not be reached; ask for the handler later.")
        refuse(self._ended, failed)
        self._answers.refuse(failed)
