"""Work beside the runs of servers that share a store."""

import asyncio
from collections.abc import Sequence

from workflow_server.app.background.contract import Background, Work
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.stores.base import StoreError
from workflow_server.stores.replicas import Jobs, Peers

logger = get_logger(__name__)

LOOK_PAUSE = 10.0  # seconds between two looks for a job, at most


class SharedBackground(Background):
    """Does each work whose job this server gets from the store.

    A server that is dead to the others has no jobs: another one does its work anew.
    """

    def __init__(self, works: Sequence[Work], metrics: Metrics, peers: Peers) -> None:
        super().__init__(works, metrics)
        self._peers = peers
        self._jobs: Jobs | None = None

    def start(self) -> None:
        self._jobs = self._peers.open_jobs()
        super().start()

    async def _take_turn(self, work: Work) -> None:
        jobs = self._jobs
        assert jobs is not None  # since the start
        try:
            if await jobs.take(work.name):
                await self._attempt(work)
                await jobs.end(work.name, again_in=work.period)
        except StoreError as error:
            logger.warning("work is put off", work=work.name, error=str(error))
        await asyncio.sleep(min(work.period, LOOK_PAUSE))

    async def _leave(self) -> None:
        """Give back the jobs of this server, so that others need not wait for its death."""
        jobs, self._jobs = self._jobs, None
        if jobs is None:
            return
        try:
            await jobs.give_back()
        except StoreError as error:
            logger.warning("work waits for the death of this server", error=str(error))
        await jobs.close()
