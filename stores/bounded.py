"""A store of which every read ends: it answers, or fails after a while."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import datetime
from typing import TypeVar

from schemas.records import (
    Batch,
    EventRecord,
    HandlerQuery,
    RunPosition,
    RunRecord,
    SnapshotRecord,
    TickRecord,
)
from stores.base import Store, StoreUnavailable

T = TypeVar("T")

READ_TIMEOUT = 30.0  # seconds; as long as a commit may take


class BoundedStore(Store):
    """Passes everything on; a read that takes too long raises `StoreUnavailable`."""

    def __init__(self, store: Store, *, timeout: float | None = None) -> None:
        self._store = store
        self._timeout = READ_TIMEOUT if timeout is None else timeout

    async def start(self) -> None:
        await self._store.start()

    async def stop(self) -> None:
        await self._store.stop()

    async def commit(self, batch: Batch) -> None:
        await self._store.commit(batch)

    async def check(self) -> None:
        await self._bound(self._store.check())

    async def get_handler(self, key: str) -> RunRecord | None:
        return await self._bound(self._store.get_handler(key))

    async def get_run(self, run_id: str) -> RunRecord | None:
        return await self._bound(self._store.get_run(run_id))

    async def list_handlers(self, query: HandlerQuery) -> Sequence[RunRecord]:
        return await self._bound(self._store.list_handlers(query))

    async def list_runs(
        self, key: str, *, after: RunPosition | None, limit: int
    ) -> Sequence[RunRecord]:
        return await self._bound(self._store.list_runs(key, after=after, limit=limit))

    async def list_unfinished(self) -> AsyncIterator[RunRecord]:
        runs = aiter(self._store.list_unfinished())
        while True:
            try:
                run = await self._bound(anext(runs))
            except StopAsyncIteration:
                return
            yield run

    async def list_ended(self, *, before: datetime, limit: int) -> Sequence[str]:
        return await self._bound(self._store.list_ended(before=before, limit=limit))

    async def count_events(self, run_id: str) -> int:
        return await self._bound(self._store.count_events(run_id))

    async def read_events(self, run_id: str, *, after: int, limit: int) -> Sequence[EventRecord]:
        return await self._bound(self._store.read_events(run_id, after=after, limit=limit))

    async def read_ticks(self, run_id: str, *, after: int, limit: int) -> Sequence[TickRecord]:
        return await self._bound(self._store.read_ticks(run_id, after=after, limit=limit))

    async def get_state(self, run_id: str) -> bytes | None:
        return await self._bound(self._store.get_state(run_id))

    async def get_snapshot(self, run_id: str) -> SnapshotRecord | None:
        return await self._bound(self._store.get_snapshot(run_id))

    async def _bound(self, answer: Awaitable[T]) -> T:
        bound = asyncio.timeout(self._timeout)
        try:
            async with bound:
                return await answer
        except TimeoutError as error:
            if not bound.expired():
                raise
            sentence = f"The store has not answered within {self._timeout:g} s."
            raise StoreUnavailable(sentence) from error
