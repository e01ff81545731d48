"""A real store that can be told to fail and to wait."""

import asyncio
from collections.abc import Collection, Sequence

from workflow_server.schemas.listings import HandlerQuery, ListedRuns
from workflow_server.schemas.records import (
    Batch,
    EventRecord,
    HandlerKey,
    RunRecord,
)
from workflow_server.stores.base import StoreUnavailable
from workflow_server.stores.memory import MemoryStore

SECRET = "postgres://user:secret@db.internal/runs"


class ScriptedStore(MemoryStore):
    """Fails its next `failures` commits, everything while `down`, and commits only while `open`.

    A batch with an event of the run `refused` cannot be written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.down = False
        self.refused: str | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.commits: list[Batch] = []
        self.tries = 0

    async def check(self) -> None:
        self._check_up()

    async def commit(self, batch: Batch) -> Collection[str]:
        self.tries += 1
        await self.open.wait()
        self._check_up()
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable(f"{SECRET} refuses this commit")
        if any(event.run_id == self.refused for event in batch.events):
            raise ValueError("an event cannot be written")
        refused = await super().commit(batch)
        self.commits.append(batch)
        return refused

    async def get_handler(self, key: HandlerKey) -> RunRecord | None:
        self._check_up()
        return await super().get_handler(key)

    async def list_handlers(self, query: HandlerQuery) -> ListedRuns:
        self._check_up()
        return await super().list_handlers(query)

    async def read_events(self, run_id: str, *, after: int, limit: int) -> Sequence[EventRecord]:
        self._check_up()
        return await super().read_events(run_id, after=after, limit=limit)

    def _check_up(self) -> None:
        if self.down:
            raise StoreUnavailable(f"{SECRET} cannot be reached")


def list_leftovers(store: MemoryStore) -> list[object]:
    """Return the collections of a memory store that still hold something."""
    return [held for held in vars(store).values() if isinstance(held, dict | list) and held]
