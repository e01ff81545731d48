"""The contract of work beside the runs: periodic, and done by one server at a time.

What must not be lost is a row of the store, written with what caused it. Work looks for such rows
each time that it is done, so a time that fails, or is cut off, costs nothing but a delay.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from workflow_server.app.errors import StoreFailed
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.app.telemetry.metrics import Metrics

logger = get_logger(__name__)

COMPLETED, FAILED = STATUSES = "completed", "failed"
STOP_TIMEOUT = 3.0  # seconds in which work that was cut off ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Work that is done again `period` seconds after it was done.

    `do` may be cut off at any point, and is begun anew later, perhaps by another server. Servers
    that share a store call the same work by the same name.
    """

    name: str
    period: float
    do: Callable[[], Awaitable[None]]


class Background(ABC):
    """Work beside the runs, from the start of a server until it drains.

    Each work is done by one server at a time, and does not wait for other work. One that fails is
    logged, counted, and done again after its period. Where a server ends, another one goes on.
    """

    def __init__(self, works: Sequence[Work], metrics: Metrics) -> None:
        self._works = works
        self._done = metrics.background_work
        for work in works:  # or the first failure of all would be no increase
            for status in STATUSES:
                self._done.labels(work.name, status)
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = asyncio.Event()

    def start(self) -> None:
        """Begin; it may be started again after a stop."""
        self._stopped = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._repeat(work, self._stopped), name=work.name)
            for work in self._works
        ]
        for task in self._tasks:
            task.add_done_callback(self._log_broken_off)

    async def stop(self) -> None:
        """Cut off what is being done, and begin nothing any more.

        Returns after `STOP_TIMEOUT` at the latest, and a moment for the store. Another server may
        go on with the work at once.
        """
        if not self._stopped.is_set():
            self._stopped.set()
            for task in self._tasks:
                task.cancel()
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=STOP_TIMEOUT)
            for task in stuck:
                logger.error("work does not end", work=task.get_name())
            self._tasks.clear()
            await self._leave()

    @property
    def is_broken_off(self) -> bool:
        """Return whether some work is not done any more, though nobody has stopped it."""
        return not self._stopped.is_set() and any(task.done() for task in self._tasks)

    @abstractmethod
    async def _take_turn(self, work: Work) -> None:
        """Do the work, if it is this server's turn, and return after a pause."""

    @abstractmethod
    async def _leave(self) -> None:
        """Leave what was cut off to other servers."""

    async def _attempt(self, work: Work) -> None:
        """Do the work once; whatever it raises is logged and counted."""
        try:
            await work.do()
        except StoreFailed as error:
            logger.warning("work was cut off", work=work.name, error=str(error))
            self._count(work, FAILED)
        except Exception:  # of any work: it is done again, and nobody else hears of it
            logger.exception("work failed", work=work.name)
            self._count(work, FAILED)
        else:
            self._count(work, COMPLETED)

    def _count(self, work: Work, status: str) -> None:
        self._done.labels(work.name, status).inc()

    async def _repeat(self, work: Work, stopped: asyncio.Event) -> None:
        while not stopped.is_set():  # work may swallow its cancellation
            await self._take_turn(work)

    def _log_broken_off(self, task: asyncio.Task[None]) -> None:
        if not self._stopped.is_set():
            error = None if task.cancelled() else task.exception()
            logger.error("work was broken off", work=task.get_name(), exc_info=error)
