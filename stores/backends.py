"""The table of stores: which URL opens which."""

from collections.abc import Callable

from stores.base import Store, StoreError
from stores.memory import MemoryStore
from stores.postgres import PostgresStore
from stores.sqlite import SqliteStore


def _open_sqlite(url: str) -> Store:
    path = url.partition("://")[2]
    if not path.startswith("/") or path == "/":
        raise StoreError(
            f"'{url}' names no file: sqlite:///FILE is relative, sqlite:////FOLDER/FILE absolute."
        )
    return SqliteStore(path[1:])


BACKENDS: dict[str, Callable[[str], Store]] = {
    "memory": lambda _url: MemoryStore(),
    "sqlite": _open_sqlite,
    "postgresql": PostgresStore,
    "postgres": PostgresStore,
}


def open_store(url: str) -> Store:
    """Return the store that a URL names, not yet started; `StoreError` for an unknown one."""
    scheme = url.partition(":")[0]
    try:
        make_store = BACKENDS[scheme]
    except KeyError:
        known = ", ".join(f"{name}:" for name in BACKENDS)
        raise StoreError(f"No store is known for '{scheme}:'; known are {known}") from None
    return make_store(url)
