"""What the store says of handlers: every answer, or that it has failed, and that is counted."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from app.errors import StoreFailed
from app.telemetry.metrics import Metrics
from schemas.records import HandlerPosition, HandlerQuery, RunPosition, RunRecord
from stores.base import Store, StoreError

UNREACHABLE = "The store cannot be reached; try again later."

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HandlerPage:
    """Some handlers of a listing, and the position after which the next page begins."""

    records: Sequence[RunRecord]
    next: HandlerPosition | None


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs of a handler, and the position after which the next page begins."""

    records: Sequence[RunRecord]
    next: RunPosition | None


class StoredHandlers:
    """Asks the store; every method raises `StoreFailed` when that cannot be reached."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    async def get(self, key: str) -> RunRecord | None:
        """Return the current run of a handler, or None for an unknown one."""
        return await self.ask(self._store.get_handler(key))

    async def get_run(self, run_id: str) -> RunRecord | None:
        """Return a run, or None for an unknown one."""
        return await self.ask(self._store.get_run(run_id))

    async def get_state(self, run_id: str) -> bytes | None:
        """Return the state that a run has left, or None where no step has written any."""
        return await self.ask(self._store.get_state(run_id))

    async def list(self, query: HandlerQuery) -> HandlerPage:
        """Return a page of a tenant's handlers, newest first."""
        found = await self.ask(self._store.list_handlers(replace(query, limit=query.limit + 1)))
        records = found[: query.limit]
        if len(found) == len(records):
            return HandlerPage(records, None)
        last = records[-1]
        return HandlerPage(records, HandlerPosition(last.handler_created_at, last.handler_id))

    async def list_runs(self, key: str, *, after: RunPosition | None, limit: int) -> RunPage:
        """Return a page of a handler's runs, newest first."""
        found = await self.ask(self._store.list_runs(key, after=after, limit=limit + 1))
        records = found[:limit]
        if len(found) == len(records):
            return RunPage(records, None)
        return RunPage(records, RunPosition(records[-1].started_at, records[-1].run_id))

    async def ask(self, answer: Awaitable[T]) -> T:
        """Return what the store answers."""
        try:
            return await answer
        except StoreError as error:
            raise self.failed() from error

    def failed(self) -> StoreFailed:
        """Count what the store refused to read, and return what to say of it."""
        self._metrics.read_errors.inc()
        return StoreFailed(UNREACHABLE)
