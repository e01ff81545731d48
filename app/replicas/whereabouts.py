"""Whereabouts: which server has a run, asked of the store for many runs at once."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from workflow_server.app.errors import StoreFailed
from workflow_server.app.reads import Reads
from workflow_server.stores.replicas import Peers, Whereabouts

LOOK_PAUSE = 0.1  # seconds between two looks at the same runs
LOOKED_AT_ONCE = 1_000  # runs; so many more take so many pauses more


@dataclass(slots=True, eq=False)
class Watcher:
    """Somebody who waits until a run is elsewhere than it was."""

    run_id: str
    known: Whereabouts | None
    found: asyncio.Future[Whereabouts | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Watch:
    """Looks where runs are, one query for all that are waited for."""

    def __init__(self, reads: Reads, store: Peers) -> None:
        self._reads = reads
        self._store = store
        self._watchers: set[Watcher] = set()
        self._is_wanted = asyncio.Event()

    async def wait(
        self, run_id: str, known: Whereabouts | None, *, timeout: float | None
    ) -> Whereabouts | None:
        """Return where a run is once that is not as `known`, or after `timeout` seconds.

        None is for a run that is not in the store. Raises `StoreFailed`.
        """
        watcher = Watcher(run_id, known)
        self._watchers.add(watcher)
        self._is_wanted.set()
        try:
            async with asyncio.timeout(timeout):
                return await watcher.found
        except TimeoutError:
            return known
        finally:
            self._watchers.discard(watcher)

    async def run(self) -> None:
        """Look for all who wait, and again for those whose runs are where they were."""
        while True:
            await self._is_wanted.wait()
            self._is_wanted.clear()
            watchers = list(self._watchers)
            for first in range(0, len(watchers), LOOKED_AT_ONCE):
                await self._look(watchers[first : first + LOOKED_AT_ONCE])
                await asyncio.sleep(LOOK_PAUSE)
            if self._watchers:
                self._is_wanted.set()

    async def _look(self, watchers: Sequence[Watcher]) -> None:
        run_ids = list({watcher.run_id for watcher in watchers})
        try:
            found = await self._reads.ask(self._store.find_runs(run_ids))
        except StoreFailed as error:
            for watcher in watchers:
                if not watcher.found.done():
                    watcher.found.set_exception(error)
            return
        places = {place.run_id: place for place in found}
        for watcher in watchers:
            place = places.get(watcher.run_id)
            if not watcher.found.done() and (place is None or place != watcher.known):
                watcher.found.set_result(place)
