"""The lifecycle of a server: its parts are built here, and started, drained and stopped in order.

Start: the store (it refuses a second server), the commit log (so that whatever follows can write),
the claims of runs (those at work before, then the queued, then the held), eviction and timers,
retention, the watchdog.

Drain: no new runs are taken, and no queued run begins; runs at work get their grace; then everybody
who reads or waits is sent away, while events that were sent may still be taken.

Stop: what begins runs (claims, timers, eviction, retention); the runs, where they are; the commit
log, after what they did is written; the store.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from workflow_server.app.engine.adapters import find_run, find_step
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.engine.session import Clock, utc_now
from workflow_server.app.handlers.registry import HandlerRegistry, new_id
from workflow_server.app.handlers.retention import Purges, keep_pruning
from workflow_server.app.reads import Reads
from workflow_server.app.runs.commit_log import CommitLog
from workflow_server.app.scheduling.claims import Claims
from workflow_server.app.scheduling.eviction import Eviction
from workflow_server.app.scheduling.live import LiveRuns
from workflow_server.app.scheduling.queue import RunQueue
from workflow_server.app.scheduling.restoring import Restorer
from workflow_server.app.scheduling.timers import Timers
from workflow_server.app.settings import ServiceSettings
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.app.telemetry.watchdog import Watchdog
from workflow_server.schemas.records import Phase
from workflow_server.stores.base import Store, StoreError

logger = get_logger(__name__)

CHECK_TIMEOUT = 3.0  # seconds in which a store that can be reached says so


class Lifecycle:
    """The parts of one server, from its start to its stop; it may be started again."""

    def __init__(
        self,
        store: Store,
        workflows: Mapping[str, ServedWorkflow],
        settings: ServiceSettings,
        *,
        clock: Clock = utc_now,
        make_id: Callable[[], str] = new_id,
    ) -> None:
        self.metrics = Metrics()
        self._store = store
        self._workflows = workflows
        self._settings = settings
        self._clock = clock
        self.reads = Reads(store, self.metrics)
        self.log = CommitLog(store, backoff=settings.persistence_backoff, metrics=self.metrics)
        self.live = LiveRuns(self.log, clock=clock, limits=settings, metrics=self.metrics)
        self.queue = RunQueue(settings, clock=clock)
        self.restorer = Restorer(
            self.reads,
            workflows,
            self.log,
            self.live,
            self.queue,
            clock=clock,
            max_resumes=settings.max_resumes,
            on_misfit=settings.on_misfit,
            metrics=self.metrics,
        )
        self.claims = Claims(
            self.reads,
            workflows,
            self.live,
            self.queue,
            self.restorer,
            on_misfit=settings.on_misfit,
        )
        self.timers = Timers(self.reads, self.restorer.restore_due, clock=clock)
        self.eviction = Eviction(self.live, self.timers, idle_timeout=settings.idle_timeout)
        self.registry = HandlerRegistry(
            self.reads,
            self.log,
            self.live,
            self.claims,
            self.restorer,
            self.queue,
            limits=settings,
            clock=clock,
            metrics=self.metrics,
            make_id=make_id,
        )
        self._watchdog = Watchdog(self.metrics, find_step=find_step, find_run=find_run)
        self._tasks: list[asyncio.Task[None]] = []
        self._observe()

    async def start(self) -> None:
        """Open the store and begin to take requests; `StoreError` where it cannot be opened."""
        await self._store.start()
        self.log.start()
        self.live.start()
        self.queue.start()
        self.restorer.start()
        self.claims.start()
        self._spawn(self.claims.run(), "claims")
        await self.claims.wait_first_look()
        self._spawn(self.eviction.run(), "eviction")
        self._spawn(self.timers.run(), "timers")
        if self._settings.retention is not None:
            self._spawn(
                keep_pruning(
                    self.reads,
                    Purges(self.registry.purge_ended, self.registry.purge_superseded),
                    retention=self._settings.retention,
                    clock=self._clock,
                ),
                "retention",
            )
        self._watchdog.start()
        self.registry.is_started, self.registry.is_draining = True, False

    async def drain(self, grace: float) -> None:
        """Take no new runs, give those at work up to `grace` seconds, and send everybody away.

        What is then still at work is cut off by `stop`, and goes on at the next start.
        """
        self.registry.is_draining = True
        self.queue.close()
        await self.live.wait_quiet(grace)
        self.dismiss()

    def dismiss(self) -> None:
        """Send away everybody who reads a live run or waits for one: the server stops."""
        self.live.dismiss()

    async def stop(self) -> None:
        """Stop all runs where they are, commit what they did, and close the store."""
        self.registry.is_started = False
        self.queue.close()
        self.dismiss()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.restorer.stop()
        await self._watchdog.stop()
        self.eviction.clear()
        await self.live.abandon()
        await self.log.stop()
        await self._store.stop()

    async def check_ready(self) -> bool:
        """Return whether new runs are taken.

        That is as `check`, and the server is not about to stop, and no work beside the requests
        (claims, timers, eviction, retention) was broken off.
        """
        goes_on = all(not task.done() or task.exception() is None for task in self._tasks)
        return goes_on and not self.registry.is_draining and await self.check()

    async def check(self) -> bool:
        """Return whether requests can be served: started, and the store answers."""
        if not self.registry.is_started or not self.log.healthy:
            return False
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await self._store.check()
        except (StoreError, TimeoutError):
            return False
        return True

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_log_broken_off)
        self._tasks.append(task)

    def _observe(self) -> None:
        observe, live = self.metrics.observe, self.live
        observe("uncommitted_bytes", "Journalled, not committed.", lambda: live.uncommitted_bytes)
        observe("runs_idle", "Runs in memory that wait for an event.", lambda: live.idle)
        observe("runs_pending", "Runs that wait for a slot.", lambda: self.queue.pending)
        observe("runs_at_work", "Runs that are executed.", lambda: live.at_work)
        phases = [phase for phase in Phase if phase is not Phase.ENDED]
        self.metrics.observe_each(
            "runs",
            "Runs that have not ended, by phase.",
            "phase",
            {phase.value: partial(live.phases.__getitem__, phase) for phase in phases},
        )


def _log_broken_off(task: asyncio.Task[None]) -> None:
    """Log what breaks off work that nobody awaits."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("work was broken off", work=task.get_name(), exc_info=error)
