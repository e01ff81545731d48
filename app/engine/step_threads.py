"""The threads of steps that are no coroutines: they know of no cancellation.

The task of such a step ends as soon as it is cancelled, and its thread goes on.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import Lock, Thread
from typing import Any, Protocol

from workflows import Workflow


class StepThreads:
    """The threads in which steps of one run are at work.

    The engine calls a step in a thread of the event loop's pool. Whoever runs that loop waits for
    those, and so does the interpreter at its exit, whatever they do. So a step has a thread of its
    own, a daemon, and that of the pool waits for it no longer than the run does.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._is_closed = False
        self._ended: asyncio.Future[None] | None = None
        self._answers: set[Future[Any]] = set()
        self.at_work = 0

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a step in a thread of its own; not any more where its run has ended.

        Raises `CancelledError` as soon as the run has ended, though the step goes on.
        """
        answer: Future[Any] = Future()
        with self._lock:
            if self._is_closed:
                raise CancelledError
            self._answers.add(answer)
            self.at_work += 1
        call = partial(copy_context().run, function, *args, **kwargs)
        try:
            Thread(target=self._call, args=[call, answer], name="step", daemon=True).start()
        except RuntimeError:  # of a system that has no more threads
            self._end(answer)
            raise
        return answer.result()

    def close(self) -> asyncio.Future[None] | None:
        """Let no step begin any more; return what is done when those at work have ended, if any."""
        with self._lock:
            self._is_closed = True
            for answer in self._answers:
                answer.cancel()
            if self.at_work and self._ended is None:
                self._ended = asyncio.get_running_loop().create_future()
            return self._ended

    def _call(self, call: Callable[[], Any], answer: Future[Any]) -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  # the step is the user's, and its task raises this
            self._end(answer)
            if not answer.cancelled():
                answer.set_exception(error)
        else:
            self._end(answer)
            if not answer.cancelled():
                answer.set_result(result)

    def _end(self, answer: Future[Any]) -> None:
        with self._lock:
            self._answers.discard(answer)  # so it is cancelled now, or never
            self.at_work -= 1
            ended = self._ended if not self.at_work else None
        if ended is not None:
            _set(ended)


class HasThreads(Protocol):
    """A run with threads of its own."""

    threads: StepThreads


class ThreadWatcher:
    """A workflow's dispatcher, which the engine asks for the span of each step before it runs it.

    So it is where a step that runs in a thread can be seen to begin and to end.
    """

    def __init__(self, dispatcher: Any, find_run: Callable[[], HasThreads | None]) -> None:
        self._dispatcher = dispatcher
        self._find_run = find_run

    def span(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function in a span; one that is no coroutine also counts as a thread."""
        spanned: Callable[..., Any] = self._dispatcher.span(func)
        run = None if asyncio.iscoroutinefunction(func) else self._find_run()
        return spanned if run is None else partial(run.threads.run, spanned)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dispatcher, name)


def watch_threads(workflow: Workflow, find_run: Callable[[], HasThreads | None]) -> None:
    """Count the threads of a workflow's steps; `find_run` finds the run of the present step."""
    watcher = ThreadWatcher(workflow._dispatcher, find_run)
    workflow._dispatcher = watcher  # type: ignore[assignment]  # as good as one, for the engine


def _set(ended: asyncio.Future[None]) -> None:
    with suppress(RuntimeError):  # of a closed loop, in which nobody waits any more
        ended.get_loop().call_soon_threadsafe(_set_here, ended)


def _set_here(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
