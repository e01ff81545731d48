"""Restoring: a run of the store brought into memory, once, whoever asks for it.

A run that waits stays in the store until an event, a request to cancel or a timer restores it.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal

from workflow_server.app.clocks import Clock, StoreClock
from workflow_server.app.engine import outcome
from workflow_server.app.engine.misfits import RESUMED, Misfit, NotRecoverable, not_served
from workflow_server.app.engine.outcome import RunFailed
from workflow_server.app.engine.replay import (
    Recovered,
    StoredJournal,
    prepare_wait,
    read_journal,
    recover,
)
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.errors import NotStarted, RunElsewhere, StoreFailed
from workflow_server.app.reads import UNREACHABLE, Reads
from workflow_server.app.runs import phase
from workflow_server.app.runs.commit_log import CommitLog
from workflow_server.app.runs.recorder import find_due
from workflow_server.app.runs.run import LiveRun
from workflow_server.app.runs.slots import Slot
from workflow_server.app.scheduling import elsewhere
from workflow_server.app.scheduling.attempts import Attempts
from workflow_server.app.scheduling.live import LiveRuns, ids_of
from workflow_server.app.scheduling.queue import RunQueue
from workflow_server.app.scheduling.stored import StoredRuns
from workflow_server.app.scheduling.turns import STOPS, Turns
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.records import Phase, RunRecord

logger = get_logger(__name__)

RETRY_PAUSE = 1.0  # seconds until what the store's failure has cut off is tried again
CLAIMED_AT_ONCE = 20  # runs; they go on in step, and a request waits while all of them take one
READ_AT_ONCE = 4  # journals of runs, which are in memory whole until their runs are recovered


class Restorer:
    """Brings single runs into memory, or writes down why they do not come.

    `on_misfit` says what becomes of a run that the served workflows do not fit. Nothing is
    restored before `allow`, for until then nobody has counted which slots waiting runs keep.
    """

    def __init__(
        self,
        reads: Reads,
        workflows: Mapping[str, ServedWorkflow],
        log: CommitLog,
        live: LiveRuns,
        queue: RunQueue,
        turns: Turns,
        *,
        clock: Clock,
        store_clock: StoreClock,
        on_misfit: Literal["hold", "fail"],
        metrics: Metrics,
    ) -> None:
        self._reads = reads
        self._workflows = workflows
        self._live = live
        self._queue = queue
        self._clock = store_clock
        self._turns = turns
        self._holds = on_misfit == "hold"
        self._metrics = metrics
        self._stored = StoredRuns(reads, log, live, queue, clock=clock)
        self._allowed = asyncio.Event()
        self._is_stopped = False
        self._restored_early: set[str] = set()
        self._at_work: dict[str, asyncio.Task[Any]] = {}
        self._attempts = Attempts(reads)
        self._reading = asyncio.Semaphore(READ_AT_ONCE)
        # Held by one run after the other: what comes into memory meanwhile is bounded.
        self._recovering = asyncio.Lock()

    def start(self) -> None:
        """Begin anew, with nothing allowed."""
        self._is_stopped = False
        self._allowed.clear()
        self._restored_early.clear()
        self._stored.unwritten.clear()
        self._stored.unwritable.clear()

    def allow(self) -> None:
        """Let runs be restored from now on."""
        self._allowed.set()

    async def stop(self) -> None:
        """Stop what is being restored, and restore nothing more."""
        self._is_stopped = True
        tasks = list(self._at_work.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._attempts.stop()

    async def claim(self, run_ids: Sequence[str]) -> list[LiveRun]:
        """Restore runs, which take slots in this order, and return those that go on."""
        live: list[LiveRun] = []
        for first in range(0, len(run_ids), CLAIMED_AT_ONCE):
            page = run_ids[first : first + CLAIMED_AT_ONCE]
            absent = [run_id for run_id in page if not self._may_be_here(run_id)]
            attempted = await self._attempts.write(absent)
            for few in range(0, len(page), READ_AT_ONCE):
                part = page[few : few + READ_AT_ONCE]
                live += await self._claim_together(part, attempted)
        return live

    async def _claim_together(
        self, run_ids: Sequence[str], attempted: Collection[str]
    ) -> list[LiveRun]:
        tasks: list[asyncio.Task[Any]] = []
        for run_id in run_ids:
            behind = tasks[-1] if tasks else None
            work = self._restore(
                run_id, is_attempted=run_id in attempted, behind=behind, is_claimed=True
            )
            tasks.append(self._single(run_id, work))
        restored = await asyncio.gather(*tasks, return_exceptions=True)
        for run_id, result in zip(run_ids, restored, strict=True):
            # What cannot be written of one run keeps no other from being claimed.
            left_out = self._stored.unwritten | self._stored.unwritable
            is_elsewhere = isinstance(result, RunElsewhere)
            if isinstance(result, BaseException) and not (run_id in left_out or is_elsewhere):
                raise result
        return [result for result in restored if isinstance(result, LiveRun)]

    def forget_early(self) -> None:
        """Forget which runs were restored before they were claimed: all are claimed now."""
        self._restored_early.clear()

    async def restore(self, run_id: str) -> None:
        """Bring a run into memory, unless it is there, has ended, or cannot go on and is held.

        Two callers at once bring it in once. A run that is a suspect of a crash is waited for until
        it is its turn. Raises `StoreFailed`, or `NotStarted` where the server stops before.
        """
        await self._turns.wait(run_id)
        await self._await(self._single(run_id, self._restore(run_id)))

    async def restore_due(self, run_id: str) -> datetime | None:
        """Restore a waiting run, or return when its timer is really due, if that is later."""
        try:
            due: datetime | None = await self._alone(run_id, self._restore_due)
        except RunElsewhere:
            return None  # another server has it and its timer, or can have it
        return due

    def is_put_off(self, run_id: str) -> bool:
        """Return whether a run waits for its turn to come back after a crash."""
        return self._turns.is_waiting(run_id)

    async def cancel_stored(self, run_id: str) -> bool:
        """End a run as cancelled that is held, or waits for its turn; of others it returns false.

        It is not read back for that.
        """
        ended: bool = await self._alone(run_id, self._cancel_stored)
        return ended

    async def hold_stranded(self, run_ids: Sequence[str]) -> None:
        """Hold queued and working runs that nobody has, and that no server can have."""
        for run_id in run_ids:
            with suppress(RunElsewhere):  # a server has come since that may have it
                await self._alone(run_id, self._hold_stranded)

    async def give_up(self, run_ids: Sequence[str]) -> None:
        """End runs as failed that have ended the process too often."""
        for run_id in run_ids:
            try:
                await self._alone(run_id, self._give_up)
            except StoreFailed:
                if run_id not in self._stored.unwritable:
                    raise

    async def _alone(self, run_id: str, work: Callable[[str], Coroutine[Any, Any, Any]]) -> Any:
        """Return what work on a run returns; it begins when no other is under way."""
        while (other := self._at_work.get(run_id)) is not None:
            await asyncio.wait({other})
        return await self._await(self._single(run_id, work(run_id)))

    def _single(self, run_id: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Return the one task that is at work on a run; the work begins where there is none."""
        task = self._at_work.get(run_id)
        if task is not None:
            work.close()
            return task
        if self._is_stopped:
            work.close()
            raise NotStarted(STOPS)
        task = self._at_work[run_id] = asyncio.create_task(work, name=f"restore {run_id}")
        task.add_done_callback(lambda _: self._at_work.pop(run_id, None))
        return task

    async def _await(self, restoring: asyncio.Task[Any]) -> Any:
        try:
            return await asyncio.shield(restoring)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not restoring.cancelled() or (task is not None and task.cancelling()):
                raise
            raise NotStarted(STOPS) from None

    async def _restore(
        self,
        run_id: str,
        *,
        is_attempted: bool = False,
        behind: asyncio.Task[Any] | None = None,
        is_claimed: bool = False,
    ) -> LiveRun | None:
        """Restore a run; `behind` another one, so that slots are taken in order.

        `is_attempted` is whether it was written down already that it is.
        """
        await self._allowed.wait()
        # Read now: since it was claimed, a request may have restored it, and it may have ended.
        record = await self._read(run_id)
        if record is None or record.phase is Phase.ENDED:
            return None
        live = self._live.get(record.key)
        if live is not None:
            if is_attempted:
                live.write_again()  # another caller was faster
            if is_claimed and run_id in self._restored_early:
                self._queue.claim(live.slot)
            return live
        if not is_claimed:
            await elsewhere.check_fits(self._reads, record, self._workflows)
        if not (is_attempted and record.attempted):
            record = None  # it may be large, and many may wait here
            if not await self._attempts.write_one(run_id):
                await elsewhere.check_elsewhere(self._reads, run_id)
                return None
        # Those that are claimed come in few at a time already, one behind the other.
        async with nullcontext() if is_claimed else self._reading:
            record = record or await self._read(run_id)
            return await self._go_on(record, behind, is_claimed) if record is not None else None

    async def _go_on(
        self, record: RunRecord, behind: asyncio.Task[Any] | None, is_claimed: bool
    ) -> LiveRun | None:
        """Read a run back and let it go on, or write down why it does not."""
        workflow = self._workflows.get(record.workflow_name)
        try:
            if record.not_resumable_because is not None:
                raise NotRecoverable(f"{RESUMED}: {record.not_resumable_because}.")
            if workflow is None:
                raise not_served(record.workflow_name)
            await elsewhere.check_format(self._reads, record)
            journal = await read_journal(record, self._reads)
            if behind is not None:
                await asyncio.wait({behind})
            if not is_claimed and not self._queue.is_open:
                self._restored_early.add(record.run_id)
            return await self._take_in(journal, workflow, earlier=is_claimed)
        except Misfit as reason:
            await elsewhere.pass_on(self._reads, record, workflow)
            if self._holds:
                await self._stored.hold(record, outcome.clean_text(str(reason)))
            else:
                await self._stored.end(record, outcome.failed(RunFailed(str(reason)), None))
        except NotRecoverable as reason:
            logger.warning("run not resumed", **ids_of(record), reason=str(reason))
            await self._stored.end(record, outcome.failed(RunFailed(str(reason)), None))
        return None

    async def _claim_one(self, run_id: str) -> RunRecord | None:
        """Claim a run and return it as it is then; None where it has ended, or is another's."""
        return await self._read(run_id) if await self._attempts.write_one(run_id) else None

    def _may_be_here(self, run_id: str) -> bool:
        return self._live.has_tail(run_id) or run_id in self._stored.unwritten

    async def _read(self, run_id: str) -> RunRecord | None:
        """Return a run; `StoreFailed` also where what became of it is not yet written down."""
        if run_id in self._stored.unwritten:
            raise StoreFailed(UNREACHABLE)
        may_be_here = self._live.has_tail(run_id)
        record = await self._reads.ask(self._reads.store.get_run(run_id))
        if may_be_here and record is not None and self._live.get(record.key) is None:
            # It was here when the store was asked, perhaps, and has ended since.
            record = await self._reads.ask(self._reads.store.get_run(run_id))
        return record

    async def _take_in(
        self, journal: StoredJournal, workflow: ServedWorkflow, *, earlier: bool
    ) -> LiveRun | None:
        record = journal.record
        async with self._recovering:
            recovered = await recover(journal, workflow)
            waited = self._clock.measure_wait(record.idle) if record.idle is not None else 0.0
            if record.idle is not None and recovered.ended is None:
                await prepare_wait(recovered, workflow, waited)
        if recovered.ended is not None:
            await self._stored.end(record, recovered.ended)
            return None
        tail = self._live.share_tail(record.run_id)
        tail.reach(journal.next_sequence - 1)
        if self._live.is_shared:
            self._live.phases[record.phase] += 1
        run = self._live.add(
            record,
            workflow,
            recovered.run_input,
            self._slot_of(recovered, record, workflow, earlier=earlier),
            tail,
            next_tick=recovered.next_tick,
            next_delivery=max(recovered.inbox, default=-1) + 1,
        )
        if record.idle is not None:
            run.restore(recovered, waited=waited)
            return run
        was_at_work = record.phase is Phase.WORKING or record.run_id in self._turns.were_at_work
        run.resume(recovered, last_life=self._clock.last_life if was_at_work else None)
        if recovered.has_begun:
            logger.info("run resumed", **ids_of(record), resumes=max(record.resumes, 1))
            self._metrics.resumes.inc()
        return run

    def _slot_of(
        self, recovered: Recovered, record: RunRecord, workflow: ServedWorkflow, *, earlier: bool
    ) -> Slot:
        if record.idle is None:
            return self._queue.take(
                workflow,
                record.accepted,
                run_id=record.run_id,
                earlier=earlier,
                has_begun=recovered.has_begun,
            )
        counts = record.slot
        is_limited = workflow.concurrent_runs is not None
        if (record.phase is Phase.HELD and is_limited) or (counts and self._live.is_shared):
            self._queue.keep_slots(workflow.name, 1)
            counts = True
        return self._queue.take_resting(
            workflow, record.accepted, counts=counts, run_id=record.run_id
        )

    # Runs that do not come into memory.

    async def _restore_due(self, run_id: str) -> datetime | None:
        await self._allowed.wait()
        if run_id in self._stored.unwritten or not self._turns.is_open(run_id):
            return self._clock() + timedelta(seconds=RETRY_PAUSE)
        record = await self._read(run_id)
        if record is None or record.phase is not Phase.WAITING or record.idle is None:
            return None
        if self._live.get(record.key) is not None:
            return None
        alive_since = self._clock() - timedelta(seconds=self._clock.measure_wait(record.idle))
        due = find_due(replace(record.idle, since=alive_since))
        if due is not None and due > self._clock() + timedelta(milliseconds=1):
            # The time in which no server ran does not count.
            claimed = await self._claim_one(run_id)
            if claimed is not None:
                await self._stored.write(claimed, replace(phase.acquit(claimed), due_at=due))
            return due
        del record  # as in `_restore`, which reads it again
        await self._restore(run_id)
        return None

    async def _cancel_stored(self, run_id: str) -> bool:
        record = await self._read(run_id)
        if record is None or record.phase is Phase.ENDED or self._live.get(record.key):
            return False
        if record.phase is not Phase.HELD and not self._turns.is_waiting(run_id):
            return False
        claimed = await self._claim_one(run_id)
        if claimed is not None:
            await self._stored.end(claimed, outcome.cancelled())
        return claimed is not None

    async def _hold_stranded(self, run_id: str) -> None:
        record = await self._claim_one(run_id)
        if record is None:
            return  # another server was faster
        if record.workflow_name in self._workflows:
            await self._go_on(record, None, is_claimed=True)  # which tells why it does not fit
        else:
            await self._stored.hold_stranded(record)

    async def _give_up(self, run_id: str) -> None:
        record = await self._claim_one(run_id)
        if record is not None:  # else it was cancelled meanwhile
            await self._stored.give_up(record)
