"""Stored runs: what is written down of runs that are not in memory."""

from workflow_server.app.clocks import Clock
from workflow_server.app.engine import outcome
from workflow_server.app.engine.misfits import nobody_fits
from workflow_server.app.engine.outcome import Outcome, RunFailed
from workflow_server.app.engine.replay import read_kept
from workflow_server.app.errors import OutcomeUnknown, StoreFailed
from workflow_server.app.reads import Reads
from workflow_server.app.runs import phase
from workflow_server.app.runs.answers import UNKNOWN
from workflow_server.app.runs.commit_log import CommitLog
from workflow_server.app.runs.journal import RunJournal
from workflow_server.app.scheduling.live import LiveRuns, ids_of
from workflow_server.app.scheduling.queue import RunQueue
from workflow_server.app.streams.tail import EventTail
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.schemas.records import Phase, RunRecord

logger = get_logger(__name__)

UNWRITABLE = "The store cannot write what becomes of the run, which stays as it is."


class StoredRuns:
    """Moves runs from phase to phase that are not in memory, through the commit log.

    Every method returns once it is committed, and raises `OutcomeUnknown` where that has to wait
    for the store. `unwritten` are the runs of which something waits so, by their ids, and
    `unwritable` those of which the store can never write it: `StoreFailed` is raised then.
    """

    def __init__(
        self, reads: Reads, log: CommitLog, live: LiveRuns, queue: RunQueue, *, clock: Clock
    ) -> None:
        self.unwritten: set[str] = set()
        self.unwritable: set[str] = set()
        self._reads = reads
        self._log = log
        self._live = live
        self._queue = queue
        self._clock = clock

    async def hold(self, record: RunRecord, because: str) -> None:
        """Hold a run for a reason; one that is held for that reason already stays so."""
        if record.held_because == because:
            await self.write(record, phase.acquit(record))
            return
        logger.warning("run held", **ids_of(record), reason=because)
        await self.write(record, phase.hold(phase.acquit(record), because, now=self._clock()))

    async def hold_stranded(self, record: RunRecord) -> None:
        """Hold a run that goes on, and that no server can have; others stay as they are."""
        if record.phase in {Phase.QUEUED, Phase.WORKING}:
            await self.hold(record, str(nobody_fits(record.workflow_name)))
        else:
            await self.write(record, phase.acquit(record))

    async def give_up(self, record: RunRecord) -> None:
        """End a run as failed that has ended the process too often."""
        times = "once" if record.strikes == 1 else f"{record.strikes} times"
        alone = "while no run but this one was at work"
        if self._live.is_shared:
            alone = "with this run as the only suspect"  # others may have been at work beside it
        reason = (
            f"The process ended {times} {alone}, before a step of it had finished; it is not"
            " resumed again."
        )
        logger.warning("run given up", **ids_of(record), reason=reason)
        await self.end(record, outcome.failed(RunFailed(reason), None))

    async def write(self, before: RunRecord, after: RunRecord) -> None:
        """Write down where a run stands."""
        journal = self._open_journal(before, self._live.share_tail(before.run_id))
        journal.set_record(after)
        journal.release()
        await self._wait_written(journal)

    async def end(self, record: RunRecord, ended: Outcome) -> None:
        """Write down the end of a run that does not go on."""
        store, run_id = self._reads.store, record.run_id
        tail = self._live.share_tail(run_id)
        tail.reach(await self._reads.ask(store.next_sequence(run_id)) - 1)
        inbox = await self._reads.ask(store.read_inbox(run_id))
        next_delivery = inbox[-1].number + 1 if inbox else 0
        kept = await read_kept(record, self._reads)
        journal = self._open_journal(record, tail, next_delivery=next_delivery)
        journal.history.restore(kept)
        journal.open_unit()
        journal.end(ended, now=self._clock())
        journal.close_unit()
        await self._wait_written(journal)

    def _open_journal(
        self, before: RunRecord, tail: EventTail, *, next_delivery: int = 0
    ) -> RunJournal:
        """Return a journal for one record of a run."""

        def committed(after: RunRecord | None) -> None:
            self.unwritten.discard(before.run_id)
            if after is None:
                return
            if not self._live.is_shared:
                self._live.record_committed(before, after)
            if after.phase is Phase.ENDED:
                tail.end()
                self._live.count_end(after)
            is_kept = before.phase is Phase.WAITING and before.slot and not self._live.is_shared
            if is_kept and not after.slot:
                # Others may have the slot that it kept while it waited.
                self._queue.give_back(before.workflow_name)

        return RunJournal(
            before,
            self._log,
            tail=tail,
            next_delivery=next_delivery,
            has_payloads=True,
            on_committed=committed,
            on_failed=lambda: self.unwritten.add(before.run_id),
            on_refused=lambda: self.unwritable.add(before.run_id),  # the run stays as it is
            on_lost=lambda: None,
        )

    async def _wait_written(self, journal: RunJournal) -> None:
        await journal.wait_committed()
        if journal.is_refused:
            raise StoreFailed(UNWRITABLE)
        if journal.is_failed:
            raise OutcomeUnknown(UNKNOWN)
