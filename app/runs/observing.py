"""The observer of a run, and calls that keep nothing in memory."""

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, Protocol

from workflow_server.schemas.records import RunRecord

if TYPE_CHECKING:
    from workflow_server.app.runs.run import LiveRun

P = ParamSpec("P")


class RunObserver(Protocol):
    """The holder of a run, told of its commits, of its waits and of its end."""

    def record_committed(self, before: RunRecord | None, after: RunRecord) -> None:
        """The run's record was committed; `before` is the one that was shown until now."""

    def run_ended(self, run: "LiveRun") -> None:
        """The run's end is committed, and nothing of it is left to do."""

    def run_lost(self, run: "LiveRun") -> None:
        """The run is another server's, and leaves memory."""

    def run_waits(self, run: "LiveRun") -> None:
        """The run waits for an event from outside or a timer."""


def weakly(method: Callable[P, None]) -> Callable[P, None]:
    """Return a function that calls the method of an object as long as that is there."""
    found = weakref.WeakMethod(method)

    def call(*args: P.args, **options: P.kwargs) -> None:
        bound = found()
        if bound is not None:
            bound(*args, **options)

    return call
