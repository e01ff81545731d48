"""A live run: begun or restored, asked, answered, cancelled, and ended.

A run is held by its task and by the live runs, from its acceptance to its end; the engine alone
would hold it by weak references only, and the garbage collector could end it.
"""

import asyncio
import weakref
from dataclasses import replace
from datetime import datetime

from workflow_server.app.clocks import Clock, StoreClock
from workflow_server.app.engine import outcome
from workflow_server.app.engine.outcome import Outcome, RunFailed, describe_failure
from workflow_server.app.engine.replay import Recovered
from workflow_server.app.engine.run_input import RunInput
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.session import Session
from workflow_server.app.engine.tracing import trace_run
from workflow_server.app.errors import NotStarted, OutcomeUnknown, RunUnfinished
from workflow_server.app.runs import phase
from workflow_server.app.runs.answers import (
    UNKNOWN,
    Answer,
    Answers,
    refuse,
    running,
    unfinished,
    unknown_start,
)
from workflow_server.app.runs.commit_log import CommitLog
from workflow_server.app.runs.execution import Execution
from workflow_server.app.runs.intake import Intake
from workflow_server.app.runs.journal import RunJournal
from workflow_server.app.runs.observing import RunObserver, weakly
from workflow_server.app.runs.recorder import Recorder, find_due
from workflow_server.app.runs.slots import Slot
from workflow_server.app.streams.tail import EventTail
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.records import ClockRecord, Phase, RunRecord, Status

STORE_FAILED = "The run was ended because the store could not be reached."
UNWRITABLE = (
    "The run was ended because the store cannot write what the run has done; the log of the server"
    " says why."
)


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
        store_clock: StoreClock,
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
        self._log = log
        self._is_outrun = False
        self._clock = clock
        self._store_clock = store_clock
        self._observer = observer
        self._answers = Answers()
        self.journal = RunJournal(
            record,
            log,
            tail=tail,
            next_tick=next_tick,
            next_delivery=next_delivery,
            on_committed=weakly(self._on_committed),
            on_failed=weakly(self._on_store_failed),
            on_lost=weakly(self._on_lost),
            on_refused=weakly(self._on_store_refused),
        )
        self._recorder = Recorder(
            self.journal,
            self._answers,
            slot,
            max_event_size=max_event_size,
            clock=clock,
            store_clock=store_clock,
            observer=weakref.proxy(self),
        )
        self.session = Session(
            self.run_id,
            run_input,
            recorder=self._recorder,
            timeout=workflow.timeout,
            max_event_size=max_event_size,
            clock=store_clock,
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
            on_outcome=weakly(self._on_outcome),
        )
        self.intake = Intake(self._recorder, self.session, self._execution, self._answers, slot)
        self._ended: asyncio.Future[RunRecord] = asyncio.get_running_loop().create_future()
        self._ended_at: datetime | None = None
        self._waiting = 0

    @property
    def is_quiet(self) -> bool:
        """Return whether the run waits for an event from outside, and none is on its way."""
        is_busy = self._execution.is_cancelling or self.session.is_busy
        coming = is_busy or len(self._answers) or not self.session.mailbox.empty()
        return self.journal.record.phase is Phase.WAITING and not coming

    @property
    def is_uncertain(self) -> bool:
        """Return whether the store failed before the run was shown; it is written down later."""
        return self.visible is None and self.journal.is_failed

    @property
    def has_unwritten_end(self) -> bool:
        """Return whether clients see the run as ended, by a failure of the store, too early."""
        return self.visible is not None and self.visible.phase is Phase.ENDED

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
            if not self.session.write_snapshot(self.session.run_input.snapshot):
                self.session.mark_not_resumable("the context that it starts from cannot be stored")
            self._recorder.write_awaits(self.session.describe_awaits())
        self.intake.keep_start()
        self.journal.close_unit()
        self._execution.begin(resumes=False)

    def resume(self, recovered: Recovered, *, last_life: ClockRecord | None) -> None:
        """Go on where the journal ends, when the run has a slot; or begin, where it has not begun.

        A run that was at work and has no slot now is queued again. `last_life` is that of the
        server, where the run was at work to its end.
        """
        self.visible = self.journal.record
        self._take_over(recovered)
        record = self.journal.record
        if last_life is not None:
            self.journal.open_unit()
            self.session.count_last_life(last_life)
            self.journal.close_unit()
        if self.slot.is_pending and record.phase is not Phase.QUEUED:
            self.journal.set_record(phase.queue(record))
        elif self.slot.is_pending and record.attempted:
            self.journal.set_record(replace(record, attempted=False))
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
            clock = self._store_clock
            idle = replace(
                record.idle, since=clock(), timeout_left=timeout_left, uptime=clock.uptime
            )
            self.journal.open_unit()
            self.session.write_snapshot(recovered.run_input.snapshot)
            well, slot = phase.acquit(record), self.slot.counts_for_workflow
            self.journal.set_record(phase.wait(well, idle, due_at=find_due(idle), slot=slot))
            self.journal.close_unit()
        elif record.attempted:
            self.journal.set_record(phase.acquit(record))
        self._execution.begin(resumes=False)
        self._observer.run_waits(self)

    @property
    def is_on_probation(self) -> bool:
        """Return whether the run has come back as a suspect of a crash, and is not yet well.

        It is well when it has come further, or waits; or when its probation is over.
        """
        record = self.visible
        is_at_work = record is not None and record.phase is not Phase.ENDED
        return is_at_work and self.journal.record.attempted and not self.slot.is_pending

    def end_probation(self) -> None:
        """Write down that the run has lasted for its probation."""
        if self.is_on_probation:
            self.journal.set_record(replace(self.journal.record, attempted=False))

    def write_again(self) -> None:
        """Write down where the run stands, over what was written beside its journal."""
        if self.journal.record.phase is not Phase.ENDED:
            self.journal.set_record(self.journal.record)

    def _take_over(self, recovered: Recovered) -> None:
        self._execution.trace = trace_run(self.journal.record)
        may_wait = self.journal.record.phase is not Phase.WAITING and recovered.has_begun
        self.session.restore(recovered.timers, recovered.written, may_wait=may_wait)
        self.journal.next_change = recovered.next_change
        self.journal.has_payloads = bool(recovered.written.payloads)
        self.journal.history.restore(recovered.kept)
        if self.journal.record.awaits is None:
            self._recorder.write_awaits(self.session.describe_awaits())
        for number, delivery in recovered.inbox.items():
            self._answers.add(Answer(delivery, number=number, is_handed_over=delivery.starts))

    # What clients ask.

    async def wait_accepted(self) -> RunRecord:
        """Return the record once the acceptance is committed; `OutcomeUnknown` if that fails.

        Raises `HandlerRunning` where another server has begun a run of the handler before.
        """
        await self.journal.wait_committed()
        if self._is_outrun:
            raise running(self.key)
        if self.journal.is_refused:
            return await asyncio.shield(self._ended)
        if self.visible is None or self.journal.is_failed:
            raise unknown_start(self.key)
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

    async def keep_whole(self) -> None:
        """Write down the engine's state whole, so that code may change meanwhile."""
        record, journal = self.journal.record, self.journal
        is_kept = record.not_resumable_because is None and not journal.is_failed
        has_begun = record.phase in (Phase.WORKING, Phase.WAITING)
        if is_kept and has_begun and not journal.is_open and not self.session.is_whole:
            await self.session.keep_snapshot()

    # Leaving memory without an end.

    async def prepare_eviction(self) -> bool:
        """Return whether the run can leave memory now, all of it being committed."""
        await self.journal.wait_committed()
        if not self._can_leave():
            return False
        if not self.session.is_in_snapshot:
            await self.session.keep_snapshot()
            if not self._can_leave():
                return False
        self.journal.release()
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
        refuse(self._ended, unfinished(self.key))

    async def abandon(self) -> None:
        """Stop executing: a durable run goes on at the next start."""
        self.dismiss()
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
        self.journal.end(ended, now=self._ended_at or self._clock())
        self._answers.refuse(self.intake.ended_error())

    def _show(self, record: RunRecord) -> None:
        before, self.visible = self.visible, record
        self._observer.record_committed(before, record)

    def _on_committed(self, record: RunRecord | None) -> None:
        ended = record is not None and record.phase is Phase.ENDED
        if record is None or (self.journal.is_failed and not ended):
            return  # that it has failed was said already
        self._show(record)
        if not ended:
            return
        self._execution.task = None
        self.tail.end()
        if not self._ended.done():
            self._ended.set_result(record)
        self._observer.run_ended(self)

    def _on_lost(self) -> None:
        """Stop without writing, and leave memory: another server goes on with the run.

        One that was never written has lost its handler's id to a run of another server.
        """
        self._is_outrun = self.visible is None and not self._log.fenced.is_set()
        self.dismiss()
        self._execution.cut_off()
        self._answers.refuse(NotStarted("The run is at another server; ask again in a moment."))
        self._observer.run_lost(self)

    def _on_store_failed(self) -> None:
        """End the run; what it has done so far, and that end, are committed when the store is back.

        A run that has ended already keeps its end, which nobody has seen yet.
        """
        record = self.journal.record
        if record.phase is not Phase.ENDED:
            self._ended_at = self._clock()
            failure = describe_failure(RunFailed(STORE_FAILED))
            told = {"error": STORE_FAILED, "failure": failure}
            self._show(phase.end(record, Status.FAILED, now=self._ended_at, **told))
            self.cannot_go_on(STORE_FAILED)
        refuse(self._ended, failed := OutcomeUnknown(UNKNOWN))
        self._answers.refuse(failed)

    def _on_store_refused(self) -> None:
        """End the run, of which nothing is written any more but that end."""
        if self.journal.record.phase is not Phase.ENDED:
            self.cannot_go_on(UNWRITABLE)
            return
        self.journal.open_unit()
        self._on_outcome(outcome.failed(RunFailed(UNWRITABLE), None))
        self.journal.close_unit()
