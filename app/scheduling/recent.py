"""The runs that ended last, kept for a while: clients often ask for a run after its end."""

from collections import OrderedDict
from dataclasses import dataclass

from workflow_server.app.streams.tail import EventTail
from workflow_server.schemas.records import HandlerKey, RunRecord

MAX_RUNS = 256
MAX_BYTES = 32 << 20  # of events


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run's committed end, and its last events."""

    record: RunRecord
    tail: EventTail


class EndedRuns:
    """Handlers' last runs, the latest of them, by the handlers' keys."""

    def __init__(self) -> None:
        self._runs: OrderedDict[HandlerKey, EndedRun] = OrderedDict()
        self._bytes = 0

    def keep(self, run: EndedRun) -> None:
        """Keep a handler's run, and let go of the oldest beyond the bounds."""
        key = run.record.key
        self.forget(key)
        self._runs[key] = run
        self._bytes += run.tail.size
        while self._bytes > MAX_BYTES or len(self._runs) > MAX_RUNS:
            self.forget(next(iter(self._runs)))

    def get(self, key: HandlerKey) -> EndedRun | None:
        """Return a handler's run where it is kept."""
        return self._runs.get(key)

    def forget(self, key: HandlerKey) -> None:
        """Let go of a handler's run: it begins another one, or was purged."""
        run = self._runs.pop(key, None)
        if run is not None:
            self._bytes -= run.tail.size

    def clear(self) -> None:
        """Let go of everything."""
        self._runs.clear()
        self._bytes = 0
