"""Timers of runs that are not in memory: the store knows when each is due, one waiter asks it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from workflow_server.app.clocks import StoreClock
from workflow_server.app.errors import StoreFailed
from workflow_server.app.reads import Reads
from workflow_server.app.scheduling.waits import LONGEST_WAIT, wait_for
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.schemas.records import DueRun
from workflow_server.schemas.times import to_micros

logger = get_logger(__name__)

DUE_AT_ONCE = 100  # runs that are asked for at once
RETRY_PAUSE = 1.0  # seconds until what the store's failure has cut off is tried again
MICROS = 1_000_000


class Timers:
    """Restores each run when a timer of it is due.

    `restore` restores a run by its id, or returns when its timer is really due, if that is later.
    It leaves alone a run that is in memory, where the engine has the timers, or that has ended.
    """

    def __init__(
        self,
        reads: Reads,
        restore: Callable[[str], Awaitable[datetime | None]],
        *,
        clock: StoreClock,
    ) -> None:
        self._reads = reads
        self._restore = restore
        self._clock = clock
        self._next: int | None = None  # in microseconds since the epoch
        self._changed = asyncio.Event()

    def note(self, due_at: datetime) -> None:
        """Ask the store again by this time: a run with a timer has just left memory."""
        self._note(to_micros(due_at))
        self._changed.set()

    def _note(self, due_at: int) -> None:
        self._next = due_at if self._next is None else min(self._next, due_at)

    async def run(self) -> None:
        """Restore runs for ever."""
        await self._clock.wait_started()
        while True:
            try:
                self._next = None
                first = await self._restore_due()
            except StoreFailed as error:
                logger.warning("restoring runs was cut off", error=str(error))
                await asyncio.sleep(RETRY_PAUSE)
                continue
            if first is not None:
                self._note(first)
            await wait_for(self._changed, self._seconds_left())

    def _seconds_left(self) -> float | None:
        if self._next is None:
            return None
        seconds = (self._next - self._clock.micros) / MICROS
        return min(max(seconds, 0.001), LONGEST_WAIT)

    async def _restore_due(self) -> int | None:
        """Restore all runs that are due; return when the first one after them is, or None."""
        after: DueRun | None = None
        while True:
            due = await self._reads.ask(self._reads.store.list_due(after=after, limit=DUE_AT_ONCE))
            now = self._clock.micros
            restored = (self._restore(run.run_id) for run in due if run.due_at <= now)
            for really_due in await asyncio.gather(*restored):
                if really_due is not None:
                    self.note(really_due)
            later = next((run.due_at for run in due if run.due_at > now), None)
            if later is not None or len(due) < DUE_AT_ONCE:
                return later
            after = due[-1]
