"""Group commit: what all runs journalled since the last commit, handed to the store in batches.

There are no timers: the next commit starts when the last one ends, and while a batch commits the
next one gathers. A batch ends with the journal that makes it large; those that have waited longest
come first. Nothing that a journal holds is shown to anybody before its commit returned.

A commit lets the event loop turn a few times before it begins. A run that has nothing to wait for
comes to its end in them, and is one commit and not two.
"""

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

from workflow_server.app.clocks import StoreClock
from workflow_server.app.runs.doubt import Alone, Doubt
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.records import Batch, EndedHandler
from workflow_server.stores.base import Store, StoreError, StoreFenced, StoreFull, StoreUnavailable

logger = get_logger(__name__)

Purges = dict[EndedHandler | str, asyncio.Future[None]]  # by handlers, and by the ids of runs

COMMIT_TIMEOUT = 30.0  # seconds after which a commit counts as failed
SLOW_COMMIT = 5.0  # seconds after which a commit that goes on is no sign of health
LOOP_TURNS = 20  # that a commit waits; a step takes about eight
LAST_WRITE = 1.0  # seconds that a stop gives the store for its clock
RECOVERY_PAUSE = 0.5  # seconds between the failure of a batch and the next try
BATCH_BYTES = 8 << 20  # after which a batch takes no more journals
BATCH_PURGES = 100
SEARCH_TIME = 60.0  # seconds after which the search for what cannot be written is given up


class Journal(Protocol):
    """The part of a journal that the commit log uses."""

    @property
    def run_id(self) -> str:
        """Return the run whose journal it is."""

    def drain(self, batch: Batch) -> int:
        """Move everything that is ready into the batch, in order; return its bytes, about."""

    def committed(self) -> None:
        """Show what the last drained batch held."""

    @property
    def can_wait(self) -> bool:
        """Return whether the run may live on although its drained records are not written.

        It may where no client learns less, or later, because of that.
        """

    def failed(self) -> None:
        """Learn that the store failed for good; the drained records are kept for another try."""

    def refused(self) -> None:
        """Learn that the store cannot write the drained records, which are given up."""

    def lost(self) -> None:
        """Learn that the run is another server's, and that nothing more of it is written here."""


@dataclass(frozen=True, slots=True)
class _Share:
    """Part of a batch: all that it writes and removes of these journals, and of these purges."""

    journals: Sequence[Journal]
    purges: Purges

    def __len__(self) -> int:
        return len(self.journals) + len(self.purges)

    def halve(self) -> "tuple[_Share, _Share]":
        """Return two halves of a share that has more than one journal or purge."""
        if len(self.journals) > 1 or not self.purges:
            middle = len(self.journals) // 2
            first = _Share(self.journals[:middle], {})
            return first, _Share(self.journals[middle:], self.purges)
        purges = list(self.purges.items())
        middle = 0 if self.journals else len(purges) // 2
        first = _Share(self.journals, dict(purges[:middle]))
        return first, _Share((), dict(purges[middle:]))


@dataclass(slots=True)
class _Search:
    """The search for what cannot be written; `has_written` where the store has taken a part.

    `suspects` are parts of which the store says that it is away.
    """

    ends_at: float
    has_written: bool = False
    suspects: "list[tuple[_Share, Exception]]" = field(default_factory=list)


class _TimedOut(StoreUnavailable):
    """A commit took too long."""


class CommitLog:
    """The one writer of a store.

    A commit that fails, or takes longer than `timeout` seconds, is tried again after each of
    `backoff` seconds. When it still fails, the journals concerned are told, `healthy` turns false,
    and the log goes on trying until the store is back. Where the store is there, and does not take
    the batch, that is written in halves, and halves of halves, so that what cannot be written harms
    its run alone.

    `fenced` is set when the store belongs to another process: nothing more is written then, and
    all that was not is lost, for that process goes on with the runs.
    """

    def __init__(
        self,
        store: Store,
        *,
        backoff: Sequence[float],
        timeout: float | None = None,
        metrics: Metrics | None = None,
        clock: StoreClock | None = None,
    ) -> None:
        self._store = store
        self._timeout = COMMIT_TIMEOUT if timeout is None else timeout
        self._metrics = metrics or Metrics()
        self._clock = clock
        self._backoff = tuple(backoff)
        self._dirty: dict[Journal, None] = {}
        self._purges: Purges = {}
        self._share = _Share([], {})  # what is being written
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._failed = False
        self._began: float | None = None
        self._elsewhere: Collection[str] = ()
        self.doubt: Doubt = Alone()
        self.fenced = asyncio.Event()

    @property
    def healthy(self) -> bool:
        """Return whether the last batch was committed, and the present one is not too slow."""
        waited = perf_counter() - self._began if self._began is not None else 0.0
        return not self._failed and waited < SLOW_COMMIT

    @property
    def is_failing(self) -> bool:
        """Return whether the store has failed for good, and is not back yet; or is not heard."""
        return self._failed or self.doubt.is_in_doubt

    def start(self) -> None:
        """Start committing, and know nothing of an earlier life; needs a running event loop.

        What the store did not take then is read from it anew, so it is not written any more.
        """
        self._dirty.clear()
        self._purges.clear()
        self._share = _Share([], {})
        self._wake.clear()
        self._idle.set()
        self._failed = False
        self.fenced.clear()
        self._task = asyncio.create_task(self._run(), name="commit-log")

    async def stop(self) -> None:
        """Commit what is journalled, unless the store fails, and stop."""
        if self._task is None:
            return
        task, self._task = self._task, None
        while self.healthy and not self._idle.is_set() and not task.done():
            idle = asyncio.ensure_future(self._idle.wait())
            await asyncio.wait({idle, task}, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            idle.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if self.fenced.is_set():
            self.fence()
        elif self.healthy:
            await self._write_last_clock()

    def fence(self) -> None:
        """Write nothing more: the store belongs to another process."""
        self._failed = True
        self.fenced.set()
        journals, self._dirty = self._dirty, {}
        purges, self._purges = self._purges, {}
        share, self._share = self._share, _Share([], {})
        _lose([*share.journals, *journals], {**share.purges, **purges})

    async def _write_last_clock(self) -> None:
        clock = self._clock.write() if self._clock is not None else None
        if clock is None:
            return
        try:
            async with asyncio.timeout(LAST_WRITE):
                await self._store.commit(Batch(clock=clock))
        except (StoreError, TimeoutError) as error:
            logger.warning("clock not written", error=str(error))

    def write_clock(self) -> None:
        """Write down the store's clock, also where no run does anything."""
        self._wake.set()

    def touch(self, journal: Journal) -> None:
        """Note that a journal has something to commit."""
        self._dirty[journal] = None
        self._idle.clear()
        self._wake.set()

    async def purge(self, target: EndedHandler | str) -> None:
        """Return when a part of a handler, or of a superseded run, is removed from the store."""
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
            share, batch = self._take()
            self._share = share
            error = await _error_of(self._write(batch))
            if isinstance(error, StoreFenced):
                logger.error("store lost", exc_info=error)
                self.fence()
                return
            if error is None:
                self._committed(share)
            else:
                await self._write_apart(share, error)
            self._share = _Share([], {})
            if self._failed:
                await asyncio.sleep(RECOVERY_PAUSE)
            if self._dirty or self._purges:
                continue
            self._idle.set()
            if not self._failed:
                # Else tried again, though nobody writes: health says when the store is back.
                self._wake.clear()

    def _take(self) -> tuple[_Share, Batch]:
        """Take the next batch, of what has waited longest."""
        clock = self._clock.write_seldom() if self._clock is not None else None
        batch, journals, size = Batch(clock=clock), list[Journal](), 0
        while self._dirty and size < BATCH_BYTES:
            journal = next(iter(self._dirty))
            del self._dirty[journal]
            journals.append(journal)
            size += journal.drain(batch)
        purges = {target: self._purges.pop(target) for target in list(self._purges)[:BATCH_PURGES]}
        _add_purges(batch, purges)
        return _Share(journals, purges), batch

    async def _write_share(self, share: _Share) -> None:
        """Write a part of a batch that could not be written, once."""
        batch = Batch()
        for journal in share.journals:
            journal.drain(batch)
        _add_purges(batch, share.purges)
        await self._try_write(batch)
        self._committed(share)

    def _committed(self, share: _Share) -> None:
        self._failed = False
        for journal in share.journals:
            try:
                if journal.run_id in self._elsewhere:
                    journal.lost()
                else:
                    journal.committed()
            except Exception:  # the boundary of the one writer: were it to die, all would hang
                logger.exception("commit cannot be shown")
        for purged in share.purges.values():
            purged.set_result(None)

    async def _write_apart(self, share: _Share, error: Exception) -> None:
        """Write what can be written of a batch that could not be, unless the store is away."""
        if await self._is_away(error):
            self._fail(share, error)
            return
        search = _Search(perf_counter() + SEARCH_TIME)
        await self._search(share, error, search)
        for suspect, reason in search.suspects:
            # Where the store has written others, it is asked once more.
            again = await _error_of(self._write_share(suspect)) if search.has_written else reason
            if again is None:
                continue
            if search.has_written and not await self._is_away(again):
                _refuse(suspect, again)
            else:
                self._fail(suspect, again)

    async def _search(self, share: _Share, error: Exception, search: _Search) -> None:
        """Write halves of what could not be written, down to the one that cannot be."""
        if len(share) <= 1:
            if isinstance(error, StoreUnavailable | StoreFenced):
                search.suspects.append((share, error))
            else:
                _refuse(share, error)
            return
        for half in share.halve():
            if perf_counter() > search.ends_at:
                self._fail(half, error)
                continue
            failure = await _error_of(self._write_share(half))
            if failure is None:
                search.has_written = True
            else:
                await self._search(half, failure, search)

    async def _is_away(self, error: Exception) -> bool:
        """Return whether it is because the store is away that it has not taken a batch."""
        if isinstance(error, StoreFull | StoreFenced):
            return True
        if not isinstance(error, StoreUnavailable):
            return False
        checked = await _error_of(asyncio.wait_for(self._store.check(), self._timeout))
        if checked is None and isinstance(error, _TimedOut):
            checked = await _error_of(self._try_write(Batch()))
        return checked is not None

    async def _write(self, batch: Batch) -> None:
        # While it is failing nobody waits for the store to come back, and it is asked often.
        for pause in () if self._failed else self._backoff:
            try:
                await self._try_write(batch)
            except StoreUnavailable as error:
                logger.warning("commit failed", error=str(error), retry_in=pause)
                await asyncio.sleep(pause)
            else:
                return
        await self._try_write(batch)

    async def _try_write(self, batch: Batch) -> None:
        self._began = began = perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                self._elsewhere = await self._store.commit(batch)
        except TimeoutError as error:
            self._metrics.commit_errors.inc()
            raise _TimedOut(f"A commit took longer than {self._timeout:g} s.") from error
        except StoreError:
            self._metrics.commit_errors.inc()
            raise
        finally:
            self._began = None
        self._metrics.count_commit(batch, perf_counter() - began)

    def _fail(self, share: _Share, error: Exception) -> None:
        logger.error("store failed", runs=len(share.journals), exc_info=error)
        self._failed = True
        for journal in share.journals:
            if not journal.can_wait:
                journal.failed()
            self._dirty[journal] = None
        for purged in share.purges.values():
            purged.set_exception(StoreUnavailable("The store cannot be reached."))
        self._wake.set()


async def _error_of(work: Coroutine[Any, Any, None]) -> Exception | None:
    """Return what work raises: whatever the error is, it harms no more than its own run."""
    try:
        await work
    except Exception as error:  # noqa: BLE001  # it is returned
        return error
    return None


def _refuse(share: _Share, error: Exception) -> None:
    """Give up what the store cannot write, or remove, whatever it says of itself."""
    logger.error("what a run has done cannot be written", exc_info=error)
    for journal in share.journals:
        journal.refused()
    for purged in share.purges.values():
        purged.set_exception(StoreError("The store cannot remove this."))


def _lose(journals: Iterable[Journal], purges: Purges) -> None:
    for journal in journals:
        journal.lost()
    for purged in purges.values():
        if not purged.done():
            purged.set_exception(StoreUnavailable("The store belongs to another process."))


def _add_purges(batch: Batch, purges: Purges) -> None:
    batch.purged = [target for target in purges if isinstance(target, EndedHandler)]
    batch.purged_runs = [target for target in purges if isinstance(target, str)]
