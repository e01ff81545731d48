"""Eviction: runs that have waited for a while leave memory, and their timers are in the store."""

import asyncio
from collections import OrderedDict
from itertools import islice

from workflow_server.app.runs.run import LiveRun
from workflow_server.app.scheduling.live import LiveRuns
from workflow_server.app.scheduling.timers import Timers
from workflow_server.app.scheduling.waits import wait_for
from workflow_server.schemas.records import HandlerKey

EVICTED_AT_ONCE = 100  # runs
SHORTEST_STAY = 0.05  # seconds that a run stays in memory, for what has restored it


class Eviction:
    """Evicts each run that has waited for `idle_timeout` seconds."""

    def __init__(self, live: LiveRuns, timers: Timers, *, idle_timeout: float) -> None:
        self._live = live
        self._timers = timers
        self._stay = max(idle_timeout, SHORTEST_STAY)
        # By key, so that a run which has ended is not kept in memory.
        self._waiting: OrderedDict[HandlerKey, float] = OrderedDict()
        self._changed = asyncio.Event()
        live.watch_waiting(self._note)

    def clear(self) -> None:
        """Watch no run any more."""
        self._waiting.clear()

    async def run(self) -> None:
        """Evict runs for ever."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            due = self._take_due(now)
            await asyncio.gather(*(self._evict(key) for key in due))
            if not due:
                first = next(iter(self._waiting.values()), None)
                await wait_for(self._changed, first - now if first is not None else None)

    def _note(self, run: LiveRun) -> None:
        self._waiting[run.key] = asyncio.get_running_loop().time() + self._stay
        self._waiting.move_to_end(run.key)
        if len(self._waiting) == 1:
            self._changed.set()

    def _take_due(self, now: float) -> list[HandlerKey]:
        """Return some of the handlers that have waited for long enough; watch them no more."""
        due = [key for key, at in islice(self._waiting.items(), EVICTED_AT_ONCE) if at <= now]
        for key in due:
            del self._waiting[key]
        return due

    async def _evict(self, key: HandlerKey) -> None:
        run = self._live.get(key)
        if run is None or not run.is_quiet:
            return
        if not await run.prepare_eviction():
            if run.is_quiet:
                self._note(run)
            return
        if run.visible is not None and run.visible.due_at is not None:
            self._timers.note(run.visible.due_at)
        self._live.evict(run)
