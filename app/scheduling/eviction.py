"""Eviction: runs that have waited for a while leave memory, and their timers are in the store.

Before that, after a short while, what a run waits for is written down whole: code that changes then
need not fit what the run has been through.
"""

import asyncio
from collections import OrderedDict
from itertools import islice

from workflow_server.app.runs.run import LiveRun
from workflow_server.app.scheduling.live import LiveRuns
from workflow_server.app.scheduling.timers import Timers
from workflow_server.app.scheduling.waits import wait_for
from workflow_server.schemas.records import HandlerKey

EVICTED_AT_ONCE = 100  # runs
WHOLE_AFTER = 2.0  # seconds of a wait, after which it is written down whole
SHORTEST_STAY = 0.05  # seconds that a run stays in memory, for what has restored it


class _Waits:
    """The waits of runs, each until it has lasted for some seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # By key, so that a run which has ended is not kept in memory.
        self._due: OrderedDict[HandlerKey, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._due)

    @property
    def first(self) -> float | None:
        """The time of the event loop at which the first of them is due."""
        return next(iter(self._due.values()), None)

    def note(self, key: HandlerKey) -> None:
        """Begin a wait, of a run that begins to wait."""
        self._due[key] = asyncio.get_running_loop().time() + self._seconds
        self._due.move_to_end(key)

    def take_due(self, now: float) -> list[HandlerKey]:
        """Return some of the handlers that have waited for long enough, and forget them."""
        due = [key for key, at in islice(self._due.items(), EVICTED_AT_ONCE) if at <= now]
        for key in due:
            del self._due[key]
        return due

    def forget(self, key: HandlerKey) -> None:
        """Forget the wait of a run that has left memory."""
        self._due.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._due.clear()


class Eviction:
    """Writes down whole and then evicts each run that has waited for `idle_timeout` seconds."""

    def __init__(self, live: LiveRuns, timers: Timers, *, idle_timeout: float) -> None:
        self._live = live
        self._timers = timers
        self._young = _Waits(WHOLE_AFTER)
        self._waiting = _Waits(max(idle_timeout, SHORTEST_STAY))
        self._changed = asyncio.Event()
        live.watch_waiting(self._note)

    def clear(self) -> None:
        """Watch no run any more."""
        self._young.clear()
        self._waiting.clear()

    async def run(self) -> None:
        """Evict runs for ever."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            old_enough = self._young.take_due(now)
            for key in old_enough:
                run = self._live.get(key)
                if run is not None and run.is_quiet:
                    await run.keep_whole()
            due = self._waiting.take_due(now)
            await asyncio.gather(*(self.evict(key) for key in due))
            if not due and not old_enough:
                firsts = (self._young.first, self._waiting.first)
                first = min((at for at in firsts if at is not None), default=None)
                await wait_for(self._changed, first - now if first is not None else None)

    def _note(self, run: LiveRun) -> None:
        self._young.note(run.key)
        self._waiting.note(run.key)
        if len(self._young) == 1 or len(self._waiting) == 1:
            self._changed.set()

    async def evict(self, key: HandlerKey) -> None:
        """Let go of a run that waits, unless something comes in for it meanwhile."""
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
        self._young.forget(key)
