"""Event loops that code keeps: nothing in them can end the process, so a thread does."""

import asyncio
import os
import threading
import time
from queue import SimpleQueue

from workflow_server.app.telemetry.logs import get_logger

logger = get_logger(__name__)

BEAT = 0.25  # seconds between two looks at the loop of a server that stops
UNRESPONSIVE = 10.0  # seconds without a turn of that loop after which the process is ended
FAILURE = 1  # status of a process that does not end as it should


def turns(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a loop that another thread runs is open, and turns."""
    turned = threading.Event()
    try:
        loop.call_soon_threadsafe(turned.set)
    except RuntimeError:
        return False  # it is closed
    return turned.wait(UNRESPONSIVE)


class BlockedLoopGuard:
    """Ends the process where it was asked to stop, and its event loop does not turn any more.

    Until then the server has its grace. A loop that turns may do so for as long as it likes: what
    goes on in it may be the business of others.
    """

    def __init__(self, *, grace: float) -> None:
        self._grace = grace
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._is_over = threading.Event()

    def start(self) -> None:
        """Begin, before any signal: a handler that starts a thread may wait for itself."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._guard, args=[loop], name="end", daemon=True).start()

    def stop(self) -> None:
        """Let the process go on: the server has stopped."""
        self._is_over.set()
        self._asked.put(False)

    def ask(self) -> None:
        """Note that the process was asked to stop; a signal may call this at any instant."""
        self._asked.put(True)

    def _guard(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._asked.get():
            return
        self._is_over.wait(self._grace)
        while not self._is_over.is_set() and turns(loop):
            time.sleep(BEAT)
        if self._is_over.is_set() or loop.is_closed():
            return
        logger.warning("event loop is blocked, and the process is ended", status=FAILURE)
        os._exit(FAILURE)
