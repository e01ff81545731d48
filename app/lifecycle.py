"""The lifecycle of a server: its parts are built here, and started, drained and stopped in order.

Start: the store (it refuses a second server), the commit log (so that whatever follows can write),
the claims of runs (those at work before, then the queued, then the held), eviction and timers,
work in the background, the watchdog.

Drain: no new runs are taken, no queued run begins, and work in the background is left to others;
runs at work get their grace; then everybody who reads or waits is sent away, while events that were
sent may still be taken.

A server that has lost its store to another one stops its runs without writing, and joins anew: it
stops and starts, and reads its runs from the store.

Stop: what begins runs (claims, timers, eviction), and work in the background; the runs, where they
are; the commit log, after what they did is written; that all runs are let go of; the store.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from workflow_server.app.background.choosing import make_background
from workflow_server.app.clocks import Clock, StoreClock, utc_now
from workflow_server.app.description import CHECK_TIMEOUT, Description
from workflow_server.app.engine.adapters import find_run, find_step
from workflow_server.app.engine.left_behind import StepTasks
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.errors import StoreFailed
from workflow_server.app.forks import drop_in_children
from workflow_server.app.handlers.ids import new_id
from workflow_server.app.handlers.registry import HandlerRegistry
from workflow_server.app.handlers.retention import Purges, make_works
from workflow_server.app.reads import Reads
from workflow_server.app.replicas.draining import give_up_runs
from workflow_server.app.replicas.exchange import Exchange
from workflow_server.app.replicas.members import Members
from workflow_server.app.replicas.others import Others
from workflow_server.app.replicas.registry import SharedRegistry
from workflow_server.app.replicas.slots import SharedQueue
from workflow_server.app.runs.commit_log import LAST_WRITE, CommitLog
from workflow_server.app.scheduling.claims import Claims
from workflow_server.app.scheduling.eviction import Eviction
from workflow_server.app.scheduling.live import LiveRuns
from workflow_server.app.scheduling.queue import RunQueue
from workflow_server.app.scheduling.restoring import Restorer
from workflow_server.app.scheduling.timers import Timers
from workflow_server.app.scheduling.trials import Trials
from workflow_server.app.scheduling.turns import Turns
from workflow_server.app.settings import ServiceSettings
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.app.telemetry.watchdog import Watchdog
from workflow_server.schemas.records import Phase
from workflow_server.stores.base import Store, StoreError, StoreFenced
from workflow_server.stores.copying import refuse_unfinished

logger = get_logger(__name__)

CLOCK_PAUSE = 10.0  # seconds of uptime that a crash may leave out at most
WATCH_PAUSE = 1.0  # seconds between two looks at whose the store is
CLAIM_TIME = 3.0  # seconds in which the runs of a dead server are claimed by others
JOIN_PAUSE = 1.0  # seconds between two tries to have the store again


class Lifecycle:
    """The parts of one server, from its start to its stop; it may be started again.

    `address` is the URL under which others reach it, where that is known.
    """

    def __init__(
        self,
        store: Store,
        workflows: Mapping[str, ServedWorkflow],
        settings: ServiceSettings,
        *,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        make_id: Callable[[], str] = new_id,
    ) -> None:
        self.metrics = Metrics()
        self._store = store
        self._workflows = workflows
        self._settings = settings
        self._clock = clock
        self.store_clock = store_clock = StoreClock(wall=clock, monotonic=monotonic)
        self.reads = Reads(store, self.metrics)
        self.log = CommitLog(
            store, backoff=settings.persistence_backoff, metrics=self.metrics, clock=store_clock
        )
        self.live = LiveRuns(
            self.log, clock=clock, store_clock=store_clock, limits=settings, metrics=self.metrics
        )
        self.queue = (RunQueue if store.peers is None else SharedQueue)(settings, clock=store_clock)
        self.turns = Turns()
        self.restorer = Restorer(
            self.reads,
            workflows,
            self.log,
            self.live,
            self.queue,
            self.turns,
            clock=clock,
            store_clock=store_clock,
            on_misfit=settings.on_misfit,
            metrics=self.metrics,
        )
        self.trials = Trials(
            self.reads, self.live, self.restorer, self.turns, max_resumes=settings.max_resumes
        )
        self.claims = Claims(
            self.reads,
            workflows,
            self.live,
            self.queue,
            self.restorer,
            self.trials,
            clock=store_clock,
            on_misfit=settings.on_misfit,
        )
        self.timers = Timers(self.reads, self.restorer.restore_due, clock=store_clock)
        self._others: Others | None = None
        if store.peers is not None:
            self._others = Others(
                store.peers,
                self.reads,
                workflows,
                self.log,
                self.live,
                self.queue,
                self.restorer,
                self.turns,
                self.timers,
                clock=store_clock,
                settings=settings,
                metrics=self.metrics,
            )
        self.eviction = Eviction(self.live, self.timers, idle_timeout=settings.idle_timeout)
        self.exchange: Exchange | None = None
        self.registry = (HandlerRegistry if store.peers is None else SharedRegistry)(
            self.reads,
            self.log,
            self.live,
            self.claims,
            self.restorer,
            self.queue,
            limits=settings,
            keeps_history=settings.keep_history,
            clock=clock,
            metrics=self.metrics,
            make_id=make_id,
        )
        if isinstance(self.registry, SharedRegistry) and self._others is not None:
            bound = self._others.peers.replicas.stale_after + CLAIM_TIME
            self.exchange = Exchange(
                self.reads,
                self._others.peers,
                self.live,
                bound=bound,
                is_draining=lambda: self.registry.is_draining,
                metrics=self._others.metrics,
            )
            self.registry.exchange = self.exchange
        self.members = Members(self.reads, self.live, self.exchange, drain=self.begin_drain)
        works = make_works(
            self.reads,
            Purges(self.registry.purge_ended, self.registry.purge_superseded),
            self.registry.sweep,
            retention=settings.retention,
            clock=lambda: min(clock(), store_clock()),
        )
        self._background = make_background(works, self.metrics, store.peers)
        self._watchdog = Watchdog(self.metrics, find_step=find_step, find_run=find_run)
        self._step_tasks = StepTasks()
        self._tasks: list[asyncio.Task[None]] = []
        self._watch: asyncio.Task[None] | None = None
        self._is_watched = False
        self.address: str | None = None
        self._description = Description(store, workflows)
        self._observe()
        drop_in_children(store.descriptors)

    async def start(self) -> None:
        """Open the store and begin to take requests; `StoreError` where it cannot be opened."""
        self.registry.is_draining = False
        await self._start_parts()
        self._watch = asyncio.create_task(self._keep_store(), name="fence")
        self._watch.add_done_callback(_log_broken_off)

    async def _start_parts(self) -> None:
        if self._others is not None:
            await self._others.introduce()
        await self._store.start()
        await refuse_unfinished(self._store, within=CHECK_TIMEOUT)
        self._description.forget()
        self._step_tasks.watch()
        self.store_clock.reset()
        if self._others is not None:
            await self._join(self._others)
        self.log.start()
        self.live.start()
        self.queue.start()
        self.restorer.start()
        self.trials.start()
        self.claims.start()
        self._spawn(self.claims.run(), "claims")
        judging = {"trials": self.trials.run} if self._others is None else self._others.work
        for name, work in judging.items():
            self._spawn(work(), name)
        await self.claims.wait_first_look()
        self._spawn(self.eviction.run(), "eviction")
        self._spawn(self.timers.run(), "timers")
        self._spawn(self._keep_time(), "clock")
        self._background.start()
        self._watchdog.start()
        if self.exchange is not None:
            await self.exchange.start()
        self.registry.is_started = True

    async def _join(self, others: Others) -> None:
        try:
            self.address = await others.join(self.address)
        except StoreError:
            await self._store.stop()
            raise

    async def drain(self, grace: float) -> None:
        """Take no new runs, give those at work up to `grace` seconds, and send everybody away.

        What is then still at work is cut off by `stop`, and goes on at the next start; or at
        another server, which has those that wait, and the queued ones, at once.
        """
        self.registry.is_draining = True
        self.queue.close()
        self._spawn(self._describe(), "description")
        self._spawn(self._background.stop(), "background")
        if self._others is not None:
            self._others.takeover.close()
            self._spawn(give_up_runs(self.live, self.eviction), "giving up")
        await self.live.wait_quiet(grace)
        self.dismiss()

    def begin_drain(self) -> None:
        """Drain in the background, with the grace of a stop, unless that has begun."""
        if not self.registry.is_draining:
            self._spawn(self.drain(self._settings.shutdown_timeout), "drain")

    def dismiss(self) -> None:
        """Send away everybody who reads a live run or waits for one: the server stops."""
        self.turns.stop()
        self.live.dismiss()

    async def stop(self) -> None:
        """Stop all runs where they are, commit what they did, and close the store."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        self.registry.is_draining = True
        await self._stop_parts()

    async def _stop_parts(self) -> None:
        self.registry.is_started = False
        self.queue.close()
        self.dismiss()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._background.stop()
        await self.restorer.stop()
        await self._watchdog.stop()
        self.eviction.clear()
        if self.exchange is not None:
            await self.exchange.stop()
        if not self.log.fenced.is_set():
            await self.live.keep_whole()
        await self.live.abandon()
        await self.log.stop()
        self._step_tasks.leave()
        if self.log.healthy:
            await self._let_go()
        if self._others is not None:
            await self._others.membership.stop()
        await self._store.stop()

    async def _keep_store(self) -> None:
        """Join anew whenever the store was lost to another server, until this one stops."""
        while not self.registry.is_draining:
            await self._describe()
            try:
                async with asyncio.timeout(WATCH_PAUSE):
                    await self.log.fenced.wait()
            except TimeoutError:
                if not await self._is_lost():
                    continue
            await self._join_anew()

    async def _describe(self) -> None:
        await self._description.write(self.address, is_draining=self.registry.is_draining)

    async def _is_lost(self) -> bool:
        """Return whether the store is another's; one that cannot be reached may still be ours."""
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await self._store.check()
        except StoreFenced:
            return True
        except (StoreError, TimeoutError):
            return False
        return False

    async def _join_anew(self) -> None:
        """Stop without writing, and start again when the store can be had."""
        logger.error("store is no longer this server's, and nothing is written to it")
        self.log.fence()
        if self._others is not None:
            self._others.lose()
        await self._stop_parts()
        reason = ""
        while not self.registry.is_started and not self.registry.is_draining:
            try:
                await self._start_parts()
            except (StoreError, OSError) as error:
                if str(error) != reason:
                    reason = str(error)
                    logger.warning("store cannot be had again", error=reason)
                await asyncio.sleep(JOIN_PAUSE)
            else:
                logger.warning("store had again; runs are read from it")

    async def check_ready(self) -> bool:
        """Return whether new runs are taken.

        That is as `check`, and the server is not about to stop, and nothing beside the requests
        (claims, timers, eviction, work in the background) was broken off.
        """
        goes_on = not self._background.is_broken_off and all(
            not task.done() or task.exception() is None for task in self._tasks
        )
        return goes_on and not self.registry.is_draining and await self.check()

    async def check(self) -> bool:
        """Return whether requests can be served: started, and the store answers and is written."""
        self._is_watched = True
        if not self.registry.is_started or not self.log.healthy:
            return False
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await self._store.check()
        except (StoreError, TimeoutError):
            return False
        return True

    async def _let_go(self) -> None:
        """Write down that no run has to do with the end of this process, where that can be."""
        try:
            async with asyncio.timeout(LAST_WRITE):
                await self.reads.ask(self._store.let_go())
        except (StoreFailed, TimeoutError) as error:
            logger.warning("runs stay suspects of a crash", error=str(error))

    async def _keep_time(self) -> None:
        """Write down the clock while runs wait or are at work and nothing else is written.

        Also while somebody asks whether this server is healthy: only a write shows that the store
        takes one.
        """
        while True:
            await asyncio.sleep(CLOCK_PAUSE)
            if self._is_watched or self.live.phases.total() > 0:
                self._is_watched = False
                self.log.write_clock()

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
