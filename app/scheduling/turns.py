"""Turns: the runs that wait in the store, after a crash, until it is their turn to come back."""

import asyncio
from collections.abc import Iterable

from workflow_server.app.errors import NotStarted

STOPS = "The server stops; ask again in a moment."


class Turns:
    """Lets nobody restore a run before its turn, nor any other run while one is alone.

    `were_at_work` are the runs that the crash has cut off; they are queued since.
    """

    def __init__(self) -> None:
        self.were_at_work: frozenset[str] = frozenset()
        self._waiting: set[str] = set()
        self._alone: str | None = None
        self._is_stopped = False
        self._changed = asyncio.Event()

    def start(self) -> None:
        """Begin with no run that waits."""
        self.were_at_work = frozenset()
        self._waiting.clear()
        self._alone = None
        self._is_stopped = False

    def stop(self) -> None:
        """Send away all who wait: the server stops."""
        self._is_stopped = True
        self._tell()

    def is_waiting(self, run_id: str) -> bool:
        """Return whether a run waits for its turn."""
        return run_id in self._waiting

    def is_open(self, run_id: str) -> bool:
        """Return whether a run may be restored now."""
        return run_id not in self._waiting and self._alone in (None, run_id)

    async def wait(self, run_id: str) -> None:
        """Return when a run may be restored; `NotStarted` where the server stops before."""
        while not self.is_open(run_id):
            if self._is_stopped:
                raise NotStarted(STOPS)
            await self._changed.wait()

    def put_off(self, run_ids: Iterable[str]) -> None:
        """Let runs wait for their turn."""
        self._waiting.update(run_ids)

    def begin(self, run_ids: Iterable[str], *, alone: str | None = None) -> None:
        """Let runs come back; with `alone`, no run but that until the turn ends."""
        self._waiting.difference_update(run_ids)
        self._alone = alone
        self._tell()

    def end(self) -> None:
        """Let others come back beside the run that was alone."""
        self._alone = None
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
