"""The live runs: those that this process has in memory.

A run is held here by a strong reference from its acceptance to its committed end, unless it is
evicted while it waits.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

from workflow_server.app.clocks import Clock, StoreClock
from workflow_server.app.engine.run_input import RunInput
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.runs.commit_log import CommitLog
from workflow_server.app.runs.run import LiveRun
from workflow_server.app.runs.slots import Slot
from workflow_server.app.scheduling.recent import EndedRun, EndedRuns
from workflow_server.app.settings import Limits
from workflow_server.app.streams.tail import EventTail
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.records import HandlerKey, Phase, RunRecord

logger = get_logger(__name__)

WHOLE_TIME = 3.0  # seconds that a stop takes at most to write runs down whole
WHOLE_BYTES = 4 << 20  # of them, that are not committed yet


class LiveRuns:
    """The runs in memory, by the keys of their handlers, and what ended a short while ago.

    `phases` counts the runs of this server that have not ended, in memory or not, by phase.
    `is_shared` is whether other servers may go on with runs that leave memory, or that have ended.

    A third of the methods only read its two tables; they stand here, so that nobody else has them.
    """

    def __init__(
        self,
        log: CommitLog,
        *,
        clock: Clock,
        store_clock: StoreClock,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self.phases: Counter[Phase] = Counter()
        self.dismissed = False
        self.is_shared = False
        self._log = log
        self._clock = clock
        self._store_clock = store_clock
        self._limits = limits
        self._metrics = metrics
        self._runs: dict[HandlerKey, LiveRun] = {}
        self._tails: WeakValueDictionary[str, EventTail] = WeakValueDictionary()
        self._ended = EndedRuns()
        self._settled = asyncio.Event()
        self._well = asyncio.Event()
        self._watchers: list[Callable[[LiveRun], None]] = []
        self._leaving: list[Callable[[HandlerKey, str], None]] = []
        self._moving: list[Callable[[RunRecord], None]] = []

    def start(self) -> None:
        """Forget the runs of an earlier start; they stayed while the last commit was made."""
        self._runs.clear()
        self._tails.clear()  # they are closed
        self.phases.clear()
        self.dismissed = False

    def watch_leaving(self, watcher: Callable[[HandlerKey, str], None]) -> None:
        """Call a function with each run, by its handler and its id, that has left memory."""
        self._leaving.append(watcher)

    def watch_moving(self, watcher: Callable[[RunRecord], None]) -> None:
        """Call a function with each record that is committed, of a run in another phase."""
        self._moving.append(watcher)

    def watch_waiting(self, watcher: Callable[[LiveRun], None]) -> None:
        """Call a function whenever a run begins to wait."""
        self._watchers.append(watcher)

    async def wait_quiet(self, seconds: float) -> None:
        """Return when no run is at work, or after some seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self.at_work and loop.time() < deadline:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._settled.wait()
            except TimeoutError:
                return
            self._settled.clear()

    async def wait_well(self, runs: Sequence[LiveRun], seconds: float) -> None:
        """Return when no run of these is on probation, or after some seconds."""
        try:
            async with asyncio.timeout(seconds):
                while any(run.is_on_probation for run in runs):
                    await self._well.wait()
                    self._well.clear()
        except TimeoutError:
            pass

    def dismiss(self) -> None:
        """Send away everybody who reads a run or waits for one: the server stops."""
        self.dismissed = True
        for tail in list(self._tails.values()):
            tail.close()
        for run in self._runs.values():
            run.dismiss()

    async def abandon(self) -> None:
        """Stop all runs where they are."""
        self.dismiss()
        # At once, for a step may take its time to end.
        await asyncio.gather(*(run.abandon() for run in self._runs.values()))
        self._ended.clear()

    async def keep_whole(self) -> None:
        """Write down whole what runs wait for or are at, as far as `WHOLE_TIME` allows.

        Those that wait come first, since the others may be cut off in a step all the same.
        """
        loop = asyncio.get_running_loop()
        deadline, size = loop.time() + WHOLE_TIME, 0
        runs = sorted(self._runs.values(), key=lambda run: not run.is_quiet)
        try:
            async with asyncio.timeout_at(deadline):
                for run in runs:
                    before = run.journal.uncommitted_bytes
                    await run.keep_whole()
                    size += run.journal.uncommitted_bytes - before
                    if size > WHOLE_BYTES or loop.time() > deadline:
                        await run.journal.wait_committed()
                        size = 0
        except TimeoutError:
            logger.warning("not all runs were written down whole", runs=len(runs))

    @property
    def uncommitted_bytes(self) -> int:
        """The bytes that the live runs have journalled and that are not committed yet."""
        return sum(run.journal.uncommitted_bytes for run in self._runs.values())

    @property
    def idle(self) -> int:
        """The number of runs in memory that wait for an event from outside."""
        return sum(run.is_quiet for run in self._runs.values())

    @property
    def at_work(self) -> int:
        """The number of runs that are executed."""
        return sum(not (run.is_quiet or run.slot.is_pending) for run in self._runs.values())

    def list_runs(self) -> Sequence[LiveRun]:
        """Return all of them."""
        return list(self._runs.values())

    def get(self, key: HandlerKey) -> LiveRun | None:
        """Return the handler's run where it is in memory."""
        return self._runs.get(key)

    def get_ended(self, key: HandlerKey) -> EndedRun | None:
        """Return the handler's last run where it ended a short while ago."""
        return self._ended.get(key)

    def forget_ended(self, key: HandlerKey) -> None:
        """Keep nothing of a handler that was purged."""
        self._ended.forget(key)

    def share_tail(self, run_id: str) -> EventTail:
        """Return the one tail of a run that has not ended, not `known` yet where it is new."""
        return self._tails.setdefault(run_id, EventTail(known=False))

    def get_tail(self, run_id: str) -> EventTail | None:
        """Return the tail of a run where somebody has it."""
        return self._tails.get(run_id)

    def has_tail(self, run_id: str) -> bool:
        """Return whether a run has a tail here, as every run in memory has."""
        return run_id in self._tails

    def begin(
        self,
        record: RunRecord,
        workflow: ServedWorkflow,
        run_input: RunInput,
        slot: Slot,
        *,
        superseded: RunRecord | None,
    ) -> LiveRun:
        """Start a run that was accepted."""
        tail = self._tails[record.run_id] = EventTail(last=record.first_sequence - 1)
        run = self.add(record, workflow, run_input, slot, tail)
        self._ended.forget(record.key)
        run.start(superseded=superseded)
        logger.info("run accepted", **ids_of(record), workflow=workflow.name)
        self._metrics.count_start(workflow.name)
        return run

    def add(
        self,
        record: RunRecord,
        workflow: ServedWorkflow,
        run_input: RunInput,
        slot: Slot,
        tail: EventTail,
        *,
        next_tick: int = 0,
        next_delivery: int = 0,
    ) -> LiveRun:
        """Take a run in; the caller then starts, resumes or restores it."""
        run = LiveRun(
            record,
            workflow,
            run_input,
            self._log,
            tail=tail,
            slot=slot,
            observer=self,
            clock=self._clock,
            store_clock=self._store_clock,
            metrics=self._metrics,
            max_event_size=self._limits.max_event_size,
            next_tick=next_tick,
            next_delivery=next_delivery,
        )
        self._runs[record.key] = run
        return run

    def evict(self, run: LiveRun) -> None:
        """Let go of a run that waits, and that is ready to leave."""
        run.evict()
        del self._runs[run.key]
        if self.is_shared:
            run.slot.release()  # also that of its workflow: the run may go on elsewhere
            if run.visible is not None:
                self.phases[run.visible.phase] -= 1
        for watcher in self._leaving:
            watcher(run.key, run.run_id)

    # What runs tell.

    def record_committed(self, before: RunRecord | None, after: RunRecord) -> None:
        """Count a run in its phase; `before` is its record until now, or None for a new run."""
        if before is not None and before.attempted:
            self._well.set()
        if before is not None and before.phase is after.phase:
            return
        if before is not None and before.phase is not Phase.ENDED:
            self.phases[before.phase] -= 1
        if after.phase is not Phase.ENDED:
            self.phases[after.phase] += 1
        self._settled.set()
        for watcher in self._moving:
            watcher(after)

    def run_ended(self, run: LiveRun) -> None:
        """Let go of a run whose end is committed."""
        if run.visible is not None:
            self.count_end(run.visible)
            if not self.is_shared:
                self._ended.keep(EndedRun(run.visible, run.tail))
        self._settled.set()
        if self._runs.get(run.key) is run:
            del self._runs[run.key]

    def run_lost(self, run: LiveRun) -> None:
        """Let go of a run that another server has."""
        logger.warning("run lost", handler_id=run.key.id, run_id=run.run_id)
        if run.visible is not None and run.visible.phase is not Phase.ENDED:
            self.phases[run.visible.phase] -= 1
        self._settled.set()
        self._tails.pop(run.run_id, None)
        if self._runs.get(run.key) is run:
            del self._runs[run.key]

    def run_waits(self, run: LiveRun) -> None:
        """Pass on that a run begins to wait."""
        self._settled.set()
        for watcher in self._watchers:
            watcher(run)

    def count_end(self, record: RunRecord) -> None:
        """Count a run that has ended, and log it."""
        self._metrics.count_end(record)
        logger.info("run ended", **ids_of(record), status=record.status.value)


def ids_of(record: RunRecord) -> dict[str, str]:
    """Return the ids of a run for a line of the log."""
    return {"handler_id": record.handler_id, "run_id": record.run_id}
