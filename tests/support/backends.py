"""The kinds of stores, each as a URL of a fresh one."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path

from tests.support.postgres import temporary_schema
from workflow_server.stores.backends import open_store
from workflow_server.stores.base import Store

FRESH_URLS: dict[str, Callable[[Path], AbstractAsyncContextManager[str]]] = {
    "memory": lambda _folder: nullcontext("memory:"),
    "sqlite": lambda folder: nullcontext(f"sqlite:///{folder / 'runs.db'}"),
    "postgres": lambda _folder: temporary_schema(),
}
DURABLE = ("sqlite", "postgres")


@asynccontextmanager
async def opened_store(url: str) -> AsyncIterator[Store]:
    """Yield the store of a URL, started."""
    store = open_store(url)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()
