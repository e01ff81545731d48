"""Group commit: what all runs journalled since the last commit, handed to the store as one batch.

There are no timers: the next commit starts when the last one ends, and while a batch commits the
next one gathers. Nothing that a journal holds is shown to anybody before its commit returned.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from schemas.records import Batch
from stores.base import Store, StoreError, StoreUnavailable

logger = logging.getLogger(__name__)

RECOVERY_PAUSE = 0.5  # seconds between the failure of a batch and the next try


class Journal(Protocol):
    """What the commit log asks of a journal."""

    def drain(self, batch: Batch) -> None:
        """Move everything that is ready into the batch, in order."""

    def committed(self) -> None:
        """Show what the last drained batch held."""

    def failed(self) -> None:
        """Learn that the store failed for good; the drained records are kept for another try."""


class CommitLog:
    """The one writer of a store.

    A commit that fails is tried again after each of `backoff` seconds. When it still fails, the
    journals concerned are told, `healthy` turns false, and the log goes on trying until the store
    is back.
    """

    def __init__(self, store: Store, *, backoff: Sequence[float]) -> None:
        self._store = store
        self._backoff = tuple(backoff)
        self._dirty: dict[Journal, None] = {}
        self._purges: dict[str, asyncio.Future[None]] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self.healthy = True

    def start(self) -> None:
        """Start committing; needs a running event loop."""
        self._task = asyncio.create_task(self._run(), name="commit-log")

    async def stop(self) -> None:
        """Commit what is journalled, unless the store fails, and stop."""
        if self._task is None:
            return
        task, self._task = self._task, None
        while self.healthy and not self._idle.is_set():
            idle = asyncio.ensure_future(self._idle.wait())
            await asyncio.wait({idle, task}, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            idle.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def touch(self, journal: Journal) -> None:
        """Note that a journal has something to commit."""
        self._dirty[journal] = None
        self._idle.clear()
        self._wake.set()

    async def purge(self, handler_id: str) -> None:
        """Return when nothing of the handler is left in the store."""
        purged = self._purges.get(handler_id)
        if purged is None:
            purged = asyncio.get_running_loop().create_future()
            self._purges[handler_id] = purged
            self._idle.clear()
            self._wake.set()
        await asyncio.shield(purged)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            journals, self._dirty = list(self._dirty), {}
            purges, self._purges = self._purges, {}
            try:
                await self._commit(journals, purges)
            except Exception as error:  # noqa: BLE001  # the boundary of the one writer: were it to die, every run would hang
                self._fail(journals, purges, error)
                await asyncio.sleep(RECOVERY_PAUSE)
            if not self._dirty and not self._purges:
                self._idle.set()

    async def _commit(
        self, journals: list[Journal], purges: dict[str, asyncio.Future[None]]
    ) -> None:
        batch = Batch(purged=list(purges))
        for journal in journals:
            journal.drain(batch)
        await self._write(batch)
        self.healthy = True
        for journal in journals:
            journal.committed()
        for purged in purges.values():
            purged.set_result(None)

    async def _write(self, batch: Batch) -> None:
        for pause in self._backoff:
            try:
                await self._store.commit(batch)
            except StoreError as error:
                logger.warning("commit failed", extra={"error": str(error), "retry_in": pause})
                await asyncio.sleep(pause)
            else:
                return
        await self._store.commit(batch)

    def _fail(
        self,
        journals: list[Journal],
        purges: dict[str, asyncio.Future[None]],
        error: Exception,
    ) -> None:
        logger.error("store failed", extra={"runs": len(journals)}, exc_info=error)
        self.healthy = False
        for journal in journals:
            journal.failed()
            self._dirty[journal] = None
        for purged in purges.values():
            purged.set_exception(StoreUnavailable("The store cannot be reached."))
        # Tried again whether or not anybody writes meanwhile: health says when the store is back.
        self._wake.set()
