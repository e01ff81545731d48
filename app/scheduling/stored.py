"""Stored runs: what is written down of runs that are not in memory."""

from workflow_server.app.engine.outcome import Outcome
from workflow_server.app.engine.session import Clock
from workflow_server.app.errors import StoreFailed
from workflow_server.app.reads import UNREACHABLE, Reads
from workflow_server.app.runs import phase
from workflow_server.app.runs.commit_log import CommitLog
from workflow_server.app.runs.journal import RunJournal
from workflow_server.app.scheduling.live import LiveRuns, ids_of
from workflow_server.app.scheduling.queue import RunQueue
from workflow_server.app.streams.tail import EventTail
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.schemas.records import Phase, RunRecord

logger = get_logger(__name__)


class StoredRuns:
    """Moves runs from phase to phase that are not in memory, through the commit log.

    Every method returns once it is committed, and raises `StoreFailed` where that has to wait for
    the store. `unwritten` are the runs of which something waits so, by their ids.
    """

    def __init__(
        self, reads: Reads, log: CommitLog, live: LiveRuns, queue: RunQueue, *, clock: Clock
    ) -> None:
        self.unwritten: set[str] = set()
        self._reads = reads
        self._log = log
        self._live = live
        self._queue = queue
        self._clock = clock

    async def hold(self, record: RunRecord, because: str) -> None:
        """Hold a run for a reason; one that is held for that reason already stays as it is."""
        if record.held_because == because:
            return
        logger.warning("run held", **ids_of(record), reason=because)
        await self.write(record, phase.hold(record, because, now=self._clock()))

    async def write(self, before: RunRecord, after: RunRecord) -> None:
        """Write down where a run stands."""
        journal = self._open_journal(before, self._live.share_tail(before.run_id))
        journal.set_record(after)
        await self._wait_written(journal)

    async def end(self, record: RunRecord, ended: Outcome) -> None:
        """Write down the end of a run that does not go on."""
        store, run_id = self._reads.store, record.run_id
        tail = self._live.share_tail(run_id)
        tail.reach(await self._reads.ask(store.next_sequence(run_id)) - 1)
        inbox = await self._reads.ask(store.read_inbox(run_id))
        next_delivery = inbox[-1].number + 1 if inbox else 0
        journal = self._open_journal(record, tail, next_delivery=next_delivery)
        journal.open_unit()
        journal.end(ended.status, ended.envelope, ended.error, now=self._clock())
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
            self._live.record_committed(before, after)
            if after.phase is Phase.ENDED:
                tail.end()
                self._live.count_end(after)
            if before.phase is Phase.WAITING and before.slot and not after.slot:
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
        )

    async def _wait_written(self, journal: RunJournal) -> None:
        await journal.wait_committed()
        if journal.is_failed:
            raise StoreFailed(UNREACHABLE)
