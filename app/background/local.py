"""Work beside the runs of a server that shares its store with nobody."""

import asyncio

from workflow_server.app.background.contract import Background, Work


class LocalBackground(Background):
    """Does all work here, first when it is started."""

    async def _take_turn(self, work: Work) -> None:
        await self._attempt(work)
        await asyncio.sleep(work.period)

    async def _leave(self) -> None:
        """Leave nothing: there is nobody else."""
