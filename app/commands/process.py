"""The process of a server: its event loop goes on whatever ends it, and the process ends in time.

What a callback of a workflow raises may end an event loop, and a step that heeds no cancellation,
or a thread that never returns, would keep the process for ever.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Coroutine, Iterable
from queue import SimpleQueue
from types import FrameType
from typing import Any

from workflow_server.app.commands.loops import LoopFactory
from workflow_server.app.http.blocked_loops import BEAT, FAILURE, turns
from workflow_server.app.telemetry.logs import get_logger, place_of

logger = get_logger(__name__)

CLOSING = 0.5  # seconds that tasks get to end when the event loop is closed
LINGERING = 5.0  # seconds that threads get to end after everything else


class ServerProcess:
    """Runs a server to its end, and sees to it that the process ends then.

    `grace` is how many seconds its runs get to end once it is asked to stop.
    """

    def __init__(self, make_loop: LoopFactory, *, grace: float) -> None:
        self._loop = make_loop()
        self._grace = grace
        self._server: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._status = FAILURE
        self._unended: list[asyncio.Task[Any]] = []
        self._asked: SimpleQueue[None] = SimpleQueue()
        self._is_over = threading.Event()

    def run(self, server: Coroutine[None, None, None]) -> None:
        """Run the server to its end, and close the event loop."""
        asyncio.set_event_loop(self._loop)
        threading.excepthook = _log_end_of_thread
        self._server = self._loop.create_task(server, name="server")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._leave)
        threading.Thread(target=self._end_in_time, name="end", daemon=True).start()
        try:
            self._finish(self._server)
        except asyncio.CancelledError:
            if not self._is_stopping:
                logger.error("server was cancelled by code in its process", status=FAILURE)
                raise SystemExit(FAILURE) from None
            self._status = 0
        else:
            self._status = 0
        finally:
            self._is_stopping = True
            self._close()

    def ask_to_stop(self) -> None:
        """Note that the server was asked to stop; a signal may call this at any instant."""
        self._is_stopping = True
        self._asked.put(None)

    def leave(self) -> None:
        """Let the process end by itself, in time; or at once, where tasks of it would go on."""
        self._is_over.set()
        self._asked.put(None)
        if self._unended:
            # The interpreter would close their coroutines, and they may heed that no more.
            logger.warning("tasks that do not end are left behind", tasks=len(self._unended))
            sys.stdout.flush()
            os._exit(self._status)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        """Stop a server that does not serve yet; one that stops already goes on with it."""
        if not self._is_stopping and self._server is not None:
            self._loop.call_soon_threadsafe(self._server.cancel)
        self.ask_to_stop()

    def _finish(self, task: asyncio.Task[None]) -> None:
        """Run the loop until a task is done, also where something else ends the loop before."""
        while True:
            try:
                self._loop.run_until_complete(task)
            except BaseException as error:  # of a callback: the boundary of the event loop
                if task.done() or self._loop.is_closed():
                    raise
                logger.error(
                    "event loop was ended by code in its process, and goes on",
                    error=type(error).__name__,
                    at=place_of(error),
                )
            else:
                return

    def _close(self) -> None:
        """Cancel what is left in the loop, and close it, unless some of that goes on."""
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._wait(left)
        closing = self._loop.create_task(self._loop.shutdown_asyncgens())
        self._wait({closing})
        self._unended = [task for task in (*left, closing) if not task.done()]
        asyncio.set_event_loop(None)
        if not self._unended:
            self._loop.close()

    def _wait(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        async def wait() -> None:
            unended = [task for task in tasks if not task.done()]
            if unended:
                await asyncio.wait(unended, timeout=CLOSING)

        self._finish(self._loop.create_task(wait()))

    def _end_in_time(self) -> None:
        """End the process where it does not end by itself after it was asked to.

        A step that keeps the event loop, or a thread that does not return, would keep it.
        """
        self._asked.get()
        self._is_over.wait(self._grace)
        while not self._is_over.is_set() and turns(self._loop):
            time.sleep(BEAT)
        self._is_over.wait(LINGERING)  # where the loop is closed, and the rest has yet to end
        if self._is_over.is_set():
            time.sleep(LINGERING)
        logger.warning("process does not end by itself, and is ended", status=self._status)
        os._exit(self._status)


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    """Log what ends a thread, `SystemExit` too, of which Python says nothing.

    Its message and traceback are left out: they may quote what the workflow carries.
    """
    logger.warning(
        "thread was ended by an exception",
        ended=ended.thread.name if ended.thread is not None else None,
        error=ended.exc_type.__name__,
        at=place_of(ended.exc_value) if ended.exc_value is not None else None,
    )
