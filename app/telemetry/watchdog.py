"""Looks after the event loop: how late it is, and which step keeps it.

A step that computes, or waits without `await`, stops everything: no request is answered and no
stream moves. A thread notices when the loop has not beaten for a while and says where it is.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from workflow_server.app.telemetry.logs import get_logger
from workflow_server.app.telemetry.metrics import Metrics

logger = get_logger(__name__)

Finder = Callable[[FrameType | None], str | None]

BEAT = 0.25  # seconds between two beats of the loop
BLOCKED = 1.0  # seconds without a beat that are worth a warning


class Watchdog:
    """Beats in the event loop, and listens in a thread."""

    def __init__(self, metrics: Metrics, *, find_step: Finder, find_run: Finder) -> None:
        """`find_step` and `find_run` tell in which step, and of which run, a stack of calls is."""
        self._metrics = metrics
        self._find_step = find_step
        self._find_run = find_run
        self._last = time.monotonic()
        self._stopped = threading.Event()
        self._beating: asyncio.Task[None] | None = None
        self._loop_thread = 0

    def start(self) -> None:
        """Begin; needs a running event loop."""
        self._stopped.clear()
        self._last = time.monotonic()
        self._loop_thread = threading.get_ident()
        self._beating = asyncio.create_task(self._beat(), name="watchdog")
        threading.Thread(target=self._listen, name="watchdog", daemon=True).start()

    async def stop(self) -> None:
        """End the beat and the thread."""
        self._stopped.set()
        beating, self._beating = self._beating, None
        if beating is not None:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            now = time.monotonic()
            self._metrics.loop_lag.observe(max(now - self._last - BEAT, 0))
            self._last = now

    def _listen(self) -> None:
        reported = 0.0
        while not self._stopped.wait(BEAT):
            last = self._last
            seconds = time.monotonic() - last
            if seconds < BLOCKED or reported == last:
                continue
            reported = last
            frame = sys._current_frames().get(self._loop_thread)
            logger.warning(
                "event loop blocked",
                seconds=round(seconds, 1),
                step=self._find_step(frame),
                run_id=self._find_run(frame),
                at=_place(frame),
            )


def _place(frame: FrameType | None) -> str | None:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else None
