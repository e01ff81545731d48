"""Group commit: what all runs journalled since the last commit, handed to the store as one batch.

There are no timers: the next commit starts when the last one ends, and while a batch commits the
next one gathers. Nothing that a journal holds is shown to anybody before its commit returned.

A commit lets the event loop turn a few times before it begins. A run that has nothing to wait for
comes to its end in them, and is one commit and not two.
"""

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Protocol

from workflow_server.app.telemetry.logs import get_logger
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.records import Batch, HandlerKey
from workflow_server.stores.base import Store, StoreError, StoreUnavailable

logger = get_logger(__name__)

Purges = dict[HandlerKey | str, asyncio.Future[None]]  # by handlers, and by the ids of runs

COMMIT_TIMEOUT = 30.0  # seconds after which a commit counts as failed
SLOW_COMMIT = 5.0  # seconds after which a commit that goes on is no sign of health
LOOP_TURNS = 20  # that a commit waits; a step takes about eight
RECOVERY_PAUSE = 0.5  # seconds between the failure of a batch and the next try


class Journal(Protocol):
    """The part of a journal that the commit log uses."""

    def drain(self, batch: Batch) -> None:
        """Move everything that is ready into the batch, in order."""

    def committed(self) -> None:
        """Show what the last drained batch held."""

    @property
    def can_wait(self) -> bool:
        """Return whether the run may live on although its drained records are not written.

        It may where no client learns less, or later, because of that.
        """

    def failed(self) -> None:
        """Learn that the store failed for good; the drained records are kept for another try."""


class CommitLog:
    """The one writer of a store.

    A commit that fails, or takes longer than `timeout` seconds, is tried again after each of
    `backoff` seconds. When it still fails, the journals concerned are told, `healthy` turns false,
    and the log goes on trying until the store is back.
    """

    def __init__(
        self,
        store: Store,
        *,
        backoff: Sequence[float],
        timeout: float | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._store = store
        self._timeout = COMMIT_TIMEOUT if timeout is None else timeout
        self._metrics = metrics or Metrics()
        self._backoff = tuple(backoff)
        self._dirty: dict[Journal, None] = {}
        self._purges: Purges = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._failed = False
        self._began: float | None = None

    @property
    def healthy(self) -> bool:
        """Return whether the last batch was committed, and the present one is not too slow."""
        waited = perf_counter() - self._began if self._began is not None else 0.0
        return not self._failed and waited < SLOW_COMMIT

    def start(self) -> None:
        """Start committing, and know nothing of an earlier life; needs a running event loop.

        What the store did not take then is read from it anew, so it is not written any more.
        """
        self._dirty.clear()
        self._purges.clear()
        self._wake.clear()
        self._idle.set()
        self._failed = False
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

    async def purge(self, target: HandlerKey | str) -> None:
        """Return when nothing of a handler, or of a superseded run, is left in the store."""
        purged = self._purges.get(target)
        if purged is None:
            purged = asyncio.get_running_loop().create_future()
            self._purges[target] = purged
            self._idle.clear()
            self._wake.set()
        await asyncio.shield(purged)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            for _ in range(LOOP_TURNS):
                await asyncio.sleep(0)
            self._wake.clear()
            journals, self._dirty = list(self._dirty), {}
            purges, self._purges = self._purges, {}
            try:
                await self._commit(journals, purges)
            except StoreError as error:
                self._fail(journals, purges, error)
                await asyncio.sleep(RECOVERY_PAUSE)
            except Exception:  # the boundary of the one writer: were it to die, all would hang
                logger.exception("batch cannot be written")
                await self._commit_apart(journals, purges)
            if not self._dirty and not self._purges:
                self._idle.set()

    async def _commit(self, journals: list[Journal], purges: Purges) -> None:
        batch = Batch(
            purged=[target for target in purges if isinstance(target, HandlerKey)],
            purged_runs=[target for target in purges if isinstance(target, str)],
        )
        for journal in journals:
            journal.drain(batch)
        await self._write(batch)
        self._failed = False
        for journal in journals:
            journal.committed()
        for purged in purges.values():
            purged.set_result(None)

    async def _commit_apart(self, journals: list[Journal], purges: Purges) -> None:
        """Commit each journal by itself, so that a record nobody can write harms its run alone."""
        for journal in journals:
            try:
                await self._commit([journal], {})
            except StoreError as error:
                self._fail([journal], {}, error)
            except Exception:  # as above
                logger.exception("journal cannot be written")
                journal.failed()
        self._purges.update(purges)
        self._wake.set()

    async def _write(self, batch: Batch) -> None:
        for pause in self._backoff:
            try:
                await self._try_write(batch)
            except StoreError as error:
                logger.warning("commit failed", error=str(error), retry_in=pause)
                await asyncio.sleep(pause)
            else:
                return
        await self._try_write(batch)

    async def _try_write(self, batch: Batch) -> None:
        self._began = began = perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                await self._store.commit(batch)
        except TimeoutError as error:
            self._metrics.commit_errors.inc()
            raise StoreUnavailable(f"A commit took longer than {self._timeout:g} s.") from error
        except StoreError:
            self._metrics.commit_errors.inc()
            raise
        finally:
            self._began = None
        self._metrics.count_commit(batch, perf_counter() - began)

    def _fail(
        self,
        journals: list[Journal],
        purges: Purges,
        error: Exception,
    ) -> None:
        logger.error("store failed", runs=len(journals), exc_info=error)
        self._failed = True
        for journal in journals:
            if not journal.can_wait:
                journal.failed()
            self._dirty[journal] = None
        for purged in purges.values():
            purged.set_exception(StoreUnavailable("The store cannot be reached."))
        # Tried again whether or not anybody writes meanwhile: health says when the store is back.
        self._wake.set()
