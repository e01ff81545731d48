"""Claims: the runs of the store that this process goes on with, brought into memory at its start.

After a crash its suspects come back in turns (`trials`), the first of them before all others. Then
every run that was at work comes, then every queued one, both in the order of acceptance. Then those
that wait and cannot go on are ended, and every held one is tried again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Literal

from workflow_server.app.clocks import StoreClock
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.errors import StoreFailed
from workflow_server.app.reads import Reads
from workflow_server.app.scheduling.live import LiveRuns
from workflow_server.app.scheduling.queue import RunQueue
from workflow_server.app.scheduling.restoring import CLAIMED_AT_ONCE, RETRY_PAUSE, Restorer
from workflow_server.app.scheduling.trials import Trials
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.schemas.records import Phase, UnfinishedRun

logger = get_logger(__name__)


class Claims:
    """Claims the unfinished runs of a store, phase by phase.

    `on_misfit` says what becomes of a run that the served workflows do not fit.
    """

    def __init__(
        self,
        reads: Reads,
        workflows: Mapping[str, ServedWorkflow],
        live: LiveRuns,
        queue: RunQueue,
        restorer: Restorer,
        trials: Trials,
        *,
        clock: StoreClock,
        on_misfit: Literal["hold", "fail"],
    ) -> None:
        self._reads = reads
        self._store = reads.store
        self._workflows = workflows
        self._live = live
        self._queue = queue
        self._restorer = restorer
        self._trials = trials
        self._clock = clock
        self._holds = on_misfit == "hold"
        self._looked = asyncio.Event()
        self._counted = asyncio.Event()
        self._counting = asyncio.Lock()

    def start(self) -> None:
        """Begin with nothing counted and nothing claimed."""
        self._looked.clear()
        self._counted.clear()

    async def run(self) -> None:
        """Claim all that goes on, and let new runs begin behind it."""
        while True:
            try:
                try:
                    await self.count()
                finally:
                    self._looked.set()
                await self._claim_all()
            except StoreFailed as error:
                logger.warning("claiming runs was cut off", error=str(error))
                await asyncio.sleep(RETRY_PAUSE)
            else:
                return

    async def wait_first_look(self) -> None:
        """Return when the store was asked once what waits, whether it has answered or not."""
        await self._looked.wait()

    async def count(self) -> None:
        """Take in what the store says of its clock, of a crash and of the runs that wait, once.

        That is who may have ended the last process, what waiting runs hold, and up to which place
        runs were accepted. Raises `StoreFailed` where the store does not answer; `run` tries it
        again then, and no run is accepted or restored before.
        """
        async with self._counting:
            if self._counted.is_set():
                return
            if self._store.peers is not None:
                # The clock is that of all servers, and the runs that are elsewhere are not counted.
                self._queue.go_on_after(await self._reads.ask(self._store.last_accepted()))
                self._counted.set()
                self._restorer.allow()
                return
            clock = await self._reads.ask(self._store.get_clock())
            last_accepted = await self._reads.ask(self._store.last_accepted())
            await self._trials.judge()
            unfinished = await self._reads.ask(self._store.count_unfinished())
            self._clock.start(clock)
            self._queue.go_on_after(last_accepted)
            for counted in unfinished:
                self._live.phases[counted.phase] += counted.runs
                if counted.phase is Phase.WAITING:
                    self._queue.keep_slots(counted.workflow_name, counted.slots)
            self._counted.set()
            self._restorer.allow()

    async def _claim_all(self) -> None:
        if self._store.peers is not None:
            self._queue.open()
            self._restorer.forget_early()
            for name in self._workflows:
                await self._claim(Phase.HELD, workflow_name=name)
            return
        await self._trials.wait_begun()
        await self._claim(Phase.WORKING)
        self._clock.keep()
        await self._claim(Phase.QUEUED)
        self._queue.open()
        self._restorer.forget_early()
        await self._claim_page_by_page(self._store.list_not_resumable)
        await self._claim(Phase.HELD)
        for counted in await self._reads.ask(self._store.count_unfinished()):
            name = counted.workflow_name
            if counted.phase is not Phase.WAITING or name in self._workflows:
                continue
            logger.warning(
                "waiting runs of a workflow not served", workflow=name, runs=counted.runs
            )
            if self._holds:
                await self._claim(Phase.WAITING, workflow_name=name)

    async def _claim(self, claimed: Phase, *, workflow_name: str | None = None) -> None:
        """Restore all runs of a phase, in the order of acceptance."""
        pages = partial(self._store.list_unfinished, claimed, workflow_name=workflow_name)
        await self._claim_page_by_page(pages)

    async def _claim_page_by_page(
        self, list_page: Callable[..., Awaitable[Sequence[UnfinishedRun]]]
    ) -> None:
        after: UnfinishedRun | None = None
        while True:
            page = await self._reads.ask(list_page(after=after, limit=CLAIMED_AT_ONCE))
            run_ids = [place.run_id for place in page]
            await self._restorer.claim([r for r in run_ids if not self._restorer.is_put_off(r)])
            if len(page) < CLAIMED_AT_ONCE:
                return
            after = page[-1]
