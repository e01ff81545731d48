"""Signals that ask a process to stop, where the process is another server's.

uvicorn waits for open connections before it stops what it serves, and an event stream is open for
as long as its run. So the signal itself begins the drain, and the handler that was there, which is
uvicorn's or the user's, does what it did.
"""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

from workflow_server.app.http.blocked_loops import BlockedLoopGuard
from workflow_server.app.http.connections import Stopping
from workflow_server.app.telemetry.logs import get_logger

logger = get_logger(__name__)

Handler = Callable[[int, FrameType | None], Any]

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Hooks on the handlers of SIGTERM and SIGINT, which drain at the first signal.

    A second signal hurries. The handler that was there is called at each signal, at once, or, where
    `hook` is given a `stop`, after that. Only handlers that Python knows are hooked: by default a
    signal ends the process, and one that is ignored asks for nothing. The event loop calls what
    `loop.add_signal_handler` has set in any case.
    """

    def __init__(self, stopping: Stopping, *, grace: float) -> None:
        self._stopping = stopping
        self._grace = grace
        self._loop: asyncio.AbstractEventLoop | None = None
        self._guard: BlockedLoopGuard | None = None
        self._previous: dict[int, Handler] = {}
        self._stop: Callable[[], Awaitable[None]] | None = None
        self._held: list[int] = []
        self._draining: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def is_active(self) -> bool:
        """Return whether a signal begins a drain."""
        return self._loop is not None

    def hook(self, *, stop: Callable[[], Awaitable[None]] | None = None) -> None:
        """Begin; needs a running event loop, and does nothing outside of the main thread.

        `stop` is what stops the server, where nobody else does.
        """
        if threading.current_thread() is not threading.main_thread() or self.is_active:
            return
        self._loop, self._stop = asyncio.get_running_loop(), stop
        self._draining = self._ending = None
        self._held.clear()
        for number in SIGNALS:
            present = signal.getsignal(number)
            if callable(present) and present is not signal.default_int_handler:
                self._previous[number] = _skip_inactive(present, number)
                signal.signal(number, self._on_signal)
        if self._previous:
            self._guard = BlockedLoopGuard(grace=self._grace)
            self._guard.start()

    def give_back(self) -> None:
        """Put the handlers back that were there, unless others have been put over these."""
        guard, self._guard, self._loop = self._guard, None, None
        if guard is not None:
            guard.stop()
        if threading.current_thread() is not threading.main_thread():
            return
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, _skip_inactive(previous, number))

    async def wait_drained(self) -> None:
        """Return when a drain that has begun is over."""
        if self._draining is not None:
            await asyncio.wait({self._draining})

    def find_previous(self, number: int) -> Handler:
        """Return the handler that was there before."""
        self._previous[number] = _skip_inactive(self._previous[number], number)
        return self._previous[number]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        loop = self._loop
        if self._guard is not None:
            self._guard.ask()
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._begin, number)
            if self._stop is not None:
                return
        self.find_previous(number)(number, frame)

    def _begin(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        if self._stop is not None:
            self._held.append(number)
        if self._draining is not None:
            self._stopping.dismiss()
            self._draining.cancel()
            return
        logger.info("draining", grace=self._grace)
        self._draining = loop.create_task(self._stopping.drain(self._grace), name="drain")
        if self._stop is not None:
            self._ending = loop.create_task(self._end(self._stop), name="end")

    async def _end(self, stop: Callable[[], Awaitable[None]]) -> None:
        """Stop the server, and pass on the signals that were held back until then."""
        loop = asyncio.get_running_loop()
        try:
            await self.wait_drained()
            await stop()
        finally:
            for number in self._held:
                # Not here: a handler may raise what ends the event loop.
                loop.call_soon(self.find_previous(number), number, None)
            self._stop = None  # later ones are passed on at once


def _skip_inactive(handler: Any, number: int) -> Handler:
    """Return a handler, or the one before it where it is a hook that has nothing to do any more.

    So servers that come and go leave nothing behind, in whatever order they go.
    """
    owner = getattr(handler, "__self__", None)
    while isinstance(owner, StopSignals):
        before = owner.find_previous(number)
        if owner.is_active:
            break
        handler, owner = before, getattr(before, "__self__", None)
    found: Handler = handler
    return found
