"""Reads that nobody awaits any more: one that has not begun never does."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.backends import FRESH_URLS, opened_store
from tests.support.records import batch_of, make_record
from workflow_server.schemas.listings import HandlerQuery
from workflow_server.schemas.records import HandlerKey
from workflow_server.stores.base import Store
from workflow_server.stores.postgres import PostgresStore
from workflow_server.stores.sqlite import SqliteStore

READS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "a listing": lambda store: store.list_handlers(HandlerQuery(limit=10)),
    "runs": lambda store: store.list_runs(HandlerKey("", "r"), after=None, limit=10),
    "a run": lambda store: store.get_run("r"),
    "events": lambda store: store.read_events("r", after=-1, limit=10),
    "ticks": lambda store: store.read_ticks("r", after=-1, limit=10),
}


async def cancel_waiting(read: Awaitable[object]) -> None:
    """Begin to wait for a read, and cancel that."""
    waiting = asyncio.ensure_future(read)
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done  # It waits for another one.
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()


@pytest.mark.parametrize("read", READS)
async def test_sqlite_reads_nothing_that_was_cancelled_before(read: str, tmp_path: Path) -> None:
    async with FRESH_URLS["sqlite"](tmp_path) as url, opened_store(url) as store:
        assert isinstance(store, SqliteStore)
        assert store._reader is not None
        await store.commit(batch_of(make_record()))
        begun: list[str] = []
        may_go_on = threading.Event()

        def wait(connection: Any) -> list[Any]:
            connection.set_trace_callback(begun.append)
            may_go_on.wait()
            return []

        other = asyncio.ensure_future(store._reader.call(wait))
        await cancel_waiting(READS[read](store))
        may_go_on.set()
        await other
        await store.last_accepted()
        assert len(begun) == 1


@pytest.mark.parametrize("read", READS)
async def test_postgres_reads_nothing_that_was_cancelled_before(read: str, tmp_path: Path) -> None:
    async with FRESH_URLS["postgres"](tmp_path) as url, opened_store(url) as store:
        assert isinstance(store, PostgresStore)
        assert store._pool is not None
        await store.commit(batch_of(make_record()))
        begun: list[str] = []
        async with AsyncExitStack() as stack:
            for _ in range(store._pool.get_max_size()):
                connection = await stack.enter_async_context(store._pool.acquire())
                pooled = connection._con  # type: ignore[attr-defined]  # its stubs
                pooled.add_query_logger(lambda query: begun.append(query.query))
            await cancel_waiting(READS[read](store))
        await store.last_accepted()
        assert len([query for query in begun if " FROM " in query]) == 1
