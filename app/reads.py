"""The store, asked with a bound: every read ends, and one that fails does so in one way."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from workflow_server.app.errors import StoreFailed
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.stores.base import Store, StoreError, StoreUnavailable

READ_TIMEOUT = 30.0  # seconds; as long as a commit may take
UNREACHABLE = "The store cannot be reached, and nothing was done; try again later."

T = TypeVar("T")


class Reads:
    """The reading side of a store, as in `await reads.ask(reads.store.get_run(run_id))`."""

    def __init__(self, store: Store, metrics: Metrics, *, timeout: float | None = None) -> None:
        self.store = store
        self._metrics = metrics
        self._timeout = READ_TIMEOUT if timeout is None else timeout

    async def ask(self, answer: Awaitable[T]) -> T:
        """Return what the store answers; `StoreFailed` where it fails or takes too long."""
        try:
            return await self.bound(answer)
        except StoreError as error:
            raise self.failed() from error

    async def bound(self, answer: Awaitable[T]) -> T:
        """Return what the store answers; `StoreUnavailable` where it takes too long."""
        bound = asyncio.timeout(self._timeout)
        try:
            async with bound:
                return await answer
        except TimeoutError as error:
            if not bound.expired():
                raise
            sentence = f"The store has not answered within {self._timeout:g} s."
            raise StoreUnavailable(sentence) from error

    def failed(self) -> StoreFailed:
        """Count what the store refused to read, and return what to say of it."""
        self._metrics.read_errors.inc()
        return StoreFailed(UNREACHABLE)
