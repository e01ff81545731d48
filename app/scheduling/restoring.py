"""Restoring: a run of the store brought into memory, once, whoever asks for it.

A run that waits stays in the store until an event, a request to cancel or a timer restores it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal

from workflow_server.app.engine import outcome
from workflow_server.app.engine.outcome import RunFailed
from workflow_server.app.engine.replay import (
    Misfit,
    NotRecoverable,
    Recovered,
    StoredJournal,
    read_journal,
    recover,
)
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.session import Clock
from workflow_server.app.errors import NotStarted, StoreFailed
from workflow_server.app.reads import UNREACHABLE, Reads
from workflow_server.app.runs.commit_log import CommitLog
from workflow_server.app.runs.recorder import find_due
from workflow_server.app.runs.run import LiveRun
from workflow_server.app.runs.slots import Slot
from workflow_server.app.scheduling.live import LiveRuns, ids_of
from workflow_server.app.scheduling.queue import RunQueue
from workflow_server.app.scheduling.stored import StoredRuns
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.records import Idle, Phase, RunRecord

logger = get_logger(__name__)

STOPS = "The server stops; ask again in a moment."
RETRY_PAUSE = 1.0  # seconds until what the store's failure has cut off is tried again


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
        *,
        clock: Clock,
        max_resumes: int,
        on_misfit: Literal["hold", "fail"],
        metrics: Metrics,
    ) -> None:
        self._reads = reads
        self._workflows = workflows
        self._live = live
        self._queue = queue
        self._clock = clock
        self._max_resumes = max_resumes
        self._holds = on_misfit == "hold"
        self._metrics = metrics
        self._started_at = clock()
        self._stored = StoredRuns(reads, log, live, queue, clock=clock)
        self._allowed = asyncio.Event()
        self._is_stopped = False
        self._restored_early: set[str] = set()
        self._at_work: dict[str, asyncio.Task[Any]] = {}
        # Held by one run after the other, so that requests are served between two of them.
        self._recovering = asyncio.Lock()

    def start(self) -> None:
        """Begin anew, with nothing allowed."""
        self._started_at = self._clock()
        self._is_stopped = False
        self._allowed.clear()
        self._restored_early.clear()
        self._stored.unwritten.clear()

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

    async def claim(self, run_ids: list[str], claimed: Phase) -> None:
        """Restore runs of a phase together; they take slots in this order."""
        tasks: list[asyncio.Task[Any]] = []
        for run_id in run_ids:
            behind = tasks[-1] if tasks else None
            tasks.append(
                self._single(run_id, self._restore(run_id, behind=behind, claimed=claimed))
            )
        restored = await asyncio.gather(*tasks, return_exceptions=True)
        for run_id, result in zip(run_ids, restored, strict=True):
            # What cannot be written of one run keeps no other from being claimed.
            if isinstance(result, BaseException) and run_id not in self._stored.unwritten:
                raise result

    def forget_early(self) -> None:
        """Forget which runs were restored before they were claimed: all are claimed now."""
        self._restored_early.clear()

    async def restore(self, run_id: str) -> None:
        """Bring a run into memory, unless it is there, has ended, or cannot go on and is held.

        Two callers at once bring it in once. Raises `StoreFailed`, or `NotStarted` where the
        server stops before.
        """
        await self._await(self._single(run_id, self._restore(run_id)))

    async def restore_due(self, run_id: str) -> datetime | None:
        """Restore a waiting run, or return when its timer is really due, if that is later."""
        due: datetime | None = await self._alone(run_id, self._restore_due)
        return due

    async def cancel_held(self, run_id: str) -> bool:
        """End a held run as cancelled; any other one is left as it is, which false says."""
        ended: bool = await self._alone(run_id, self._cancel_held)
        return ended

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
        behind: asyncio.Task[Any] | None = None,
        claimed: Phase | None = None,
    ) -> LiveRun | None:
        """Restore a run; `behind` another one, so that slots are taken in order."""
        await self._allowed.wait()
        record = await self._read(run_id)
        if record is None or record.phase is Phase.ENDED:
            return None
        live = self._live.get(record.key)
        if live is not None:
            if claimed is not None and run_id in self._restored_early:
                self._queue.claim(live.slot)
            return live
        workflow = self._workflows.get(record.workflow_name)
        try:
            if record.not_resumable_because is not None:
                raise NotRecoverable(
                    f"The run could not be resumed: {record.not_resumable_because}."
                )
            if workflow is None:
                raise Misfit(
                    "The run could not be resumed: its workflow is no longer served as"
                    f" '{record.workflow_name}'."
                )
            self._check_resumes(record)
            journal = await read_journal(record, self._reads)
            if behind is not None:
                await asyncio.wait({behind})
            if claimed is None and not self._queue.is_open:
                self._restored_early.add(run_id)
            return await self._take_in(journal, workflow, earlier=claimed is not None)
        except Misfit as reason:
            if self._holds:
                await self._stored.hold(record, outcome.clean_text(str(reason)))
            else:
                await self._stored.end(record, outcome.failed(RunFailed(str(reason)), None))
        except NotRecoverable as reason:
            logger.warning("run not resumed", **ids_of(record), reason=str(reason))
            await self._stored.end(record, outcome.failed(RunFailed(str(reason)), None))
        return None

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
            recovered = recover(journal, workflow)
        if recovered.ended is not None:
            await self._stored.end(record, recovered.ended)
            return None
        tail = self._live.share_tail(record.run_id)
        tail.reach(journal.next_sequence - 1)
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
            run.restore(recovered, waited=self._waited(record.idle))
            return run
        run.resume(recovered)
        if recovered.has_begun:
            logger.info("run resumed", **ids_of(record), resumes=record.resumes + 1)
            self._metrics.resumes.inc()
        return run

    def _slot_of(
        self, recovered: Recovered, record: RunRecord, workflow: ServedWorkflow, *, earlier: bool
    ) -> Slot:
        if record.idle is None:
            return self._queue.take(
                workflow, record.accepted, earlier=earlier, has_begun=recovered.has_begun
            )
        counts = record.slot
        if record.phase is Phase.HELD and workflow.concurrent_runs is not None:
            self._queue.keep_slots(workflow.name, 1)
            counts = True
        return self._queue.take_resting(workflow, record.accepted, counts=counts)

    def _check_resumes(self, record: RunRecord) -> None:
        was_at_work = record.idle is None and record.phase is not Phase.QUEUED
        if was_at_work and record.resumes >= self._max_resumes:
            raise NotRecoverable(
                f"The run was resumed {record.resumes} times, and each time the process ended"
                " before a step of it had finished; it is not resumed again."
            )

    def _waited(self, idle: Idle) -> float:
        """Return the seconds since the run began to wait in which a server ran."""
        return (self._clock() - self._alive_since(idle)).total_seconds()

    def _alive_since(self, idle: Idle) -> datetime:
        """Return the start of the wait, or of this server where that is later.

        It is never later than now, for clocks may be set back.
        """
        return min(max(idle.since, self._started_at), self._clock())

    # Runs that do not come into memory.

    async def _restore_due(self, run_id: str) -> datetime | None:
        if run_id in self._stored.unwritten:
            return self._clock() + timedelta(seconds=RETRY_PAUSE)
        record = await self._read(run_id)
        if record is None or record.phase is not Phase.WAITING or record.idle is None:
            return None
        if self._live.get(record.key) is not None:
            return None
        due = find_due(replace(record.idle, since=self._alive_since(record.idle)))
        if due is not None and due > self._clock() + timedelta(milliseconds=1):
            # The time in which no server ran does not count.
            await self._stored.write(record, replace(record, due_at=due))
            return due
        await self._restore(run_id)
        return None

    async def _cancel_held(self, run_id: str) -> bool:
        record = await self._read(run_id)
        if record is None or record.phase is not Phase.HELD or self._live.get(record.key):
            return False
        await self._stored.end(record, outcome.cancelled())
        return True
