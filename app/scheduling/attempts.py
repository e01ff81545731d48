"""Attempts: that a run is about to be read back is written down before, for that may end it all."""

import asyncio
from collections.abc import Sequence

from workflow_server.app.errors import StoreFailed
from workflow_server.app.reads import Reads

ATTEMPTED_AT_ONCE = 100  # runs


class Attempts:
    """Claims runs in the store; those who ask meanwhile share the next claim."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._asked: dict[str, asyncio.Future[bool]] = {}
        self._task: asyncio.Task[None] | None = None

    async def write(self, run_ids: Sequence[str]) -> Sequence[str]:
        """Return the runs of which it is written; ended ones and those of others are left out."""
        if not run_ids:
            return ()
        return await self._reads.ask(self._reads.store.claim(run_ids))

    async def write_one(self, run_id: str) -> bool:
        """Return whether it is written of a run; it is not where that has ended, or is another's.

        How the run is then has to be read: what was read before may be out of date.
        """
        asked = self._asked.get(run_id)
        if asked is None:
            asked = self._asked[run_id] = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.create_task(self._write_asked(), name="attempts")
        return await asyncio.shield(asked)

    async def stop(self) -> None:
        """Write nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _write_asked(self) -> None:
        try:
            while self._asked:
                taken = dict(list(self._asked.items())[:ATTEMPTED_AT_ONCE])
                for run_id in taken:
                    del self._asked[run_id]
                await self._answer(taken)
        finally:
            self._task = None

    async def _answer(self, asked: dict[str, asyncio.Future[bool]]) -> None:
        try:
            written = await self.write(list(asked))
        except StoreFailed as error:
            for future in asked.values():
                future.set_exception(error)
        except BaseException:
            for future in asked.values():
                future.cancel()
            raise
        else:
            for run_id, future in asked.items():
                future.set_result(run_id in written)
