"""Tasks that steps make, and may leave behind: what they raise ends the task, and not the loop.

They wait for room as their step does.

asyncio passes `KeyboardInterrupt` and `SystemExit` of a task through the event loop, which ends
with it, whoever runs it.
"""

import asyncio
from collections.abc import Coroutine, Generator
from types import CoroutineType
from typing import Any, NoReturn

from workflow_server.app.engine.adapters import find_outermost
from workflow_server.app.engine.pace import Room, paced
from workflow_server.app.engine.steps import as_failure, guard_runner
from workflow_server.app.telemetry.logs import get_logger, place_of

logger = get_logger(__name__)


class _Watched(Coroutine[Any, Any, Any]):
    """A coroutine that raises an `Exception` in place of what would end the event loop.

    It goes on at the pace of its run.

    A wrapper that is a coroutine function would leave the coroutine of a task that is cancelled
    before it begins without anybody who awaits it, of which Python warns.
    """

    __slots__ = ("__name__", "__qualname__", "__weakref__", "_coroutine", "_room", "_work")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], room: Room) -> None:
        self._coroutine = coroutine
        self._room = room
        self._work: Generator[Any, Any, Any] | None = None
        self.__name__ = getattr(coroutine, "__name__", type(coroutine).__name__)
        self.__qualname__ = getattr(coroutine, "__qualname__", self.__name__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)  # its frame and code, for who looks at the task

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        """Go on, after a wait only where the run has room."""
        if self._work is None:
            self._work = paced(self._coroutine, self._room)
        try:
            return self._work.send(value)
        except (KeyboardInterrupt, SystemExit) as leaving:
            self._fail(leaving)

    def throw(self, *error: Any) -> Any:
        """Go on with an exception."""
        work = self._work or self._coroutine  # which has not begun: it would never be awaited
        try:
            return work.throw(*error)
        except (KeyboardInterrupt, SystemExit) as leaving:
            self._fail(leaving)

    def close(self) -> None:
        """End without going on."""
        if self._work is not None:
            self._work.close()
        self._coroutine.close()

    def _fail(self, leaving: BaseException) -> NoReturn:
        logger.warning(
            "task of a step asked the process to end",
            task=self.__qualname__,
            error=type(leaving).__name__,
            at=place_of(leaving),
        )
        raise as_failure(leaving) from leaving


class _Factory:
    """A way to make tasks that watches those of steps, and makes them as `before` did.

    The servers of one event loop share it; `users` is their number.
    """

    def __init__(self, before: Any) -> None:
        self.users = 0
        self.before = before

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Future[Any]:
        room = find_outermost()
        if room is not None and isinstance(coroutine, CoroutineType):
            guard_runner(coroutine)
            coroutine = _Watched(coroutine, room)
        if self.before is not None:
            made: asyncio.Future[Any] = self.before(loop, coroutine, **options)
            return made
        return asyncio.Task(coroutine, loop=loop, **options)


class StepTasks:
    """The loop's way to make tasks, with an eye on those that steps make."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._factory = _Factory(None)

    def watch(self) -> None:
        """Watch the tasks that steps make in the running event loop from now on."""
        self._loop = asyncio.get_running_loop()
        present = self._loop.get_task_factory()
        self._factory = present if isinstance(present, _Factory) else _Factory(present)
        self._factory.users += 1
        self._loop.set_task_factory(self._factory)

    def leave(self) -> None:
        """Make tasks as before, unless another server needs it or others have changed it."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        self._factory.users -= 1
        if self._factory.users == 0 and loop.get_task_factory() is self._factory:
            loop.set_task_factory(self._factory.before)
