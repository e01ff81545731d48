"""The table of stores: which URL opens which.

Each is imported when it is opened: a server on SQLite needs no driver of Postgres.
"""

from collections.abc import Callable

from workflow_server.stores.base import Store, StoreError


def _open_memory(_url: str) -> Store:
    from workflow_server.stores.memory import MemoryStore

    return MemoryStore()


def _open_sqlite(url: str) -> Store:
    from workflow_server.stores.sqlite import SqliteStore

    path = url.partition("://")[2]
    if not path.startswith("/") or path == "/":
        raise StoreError(
            f"'{url}' names no file: sqlite:///FILE is relative, sqlite:////FOLDER/FILE absolute."
        )
    return SqliteStore(path[1:])


def _open_postgres(url: str) -> Store:
    from workflow_server.stores.postgres import PostgresStore

    return PostgresStore(url)


BACKENDS: dict[str, Callable[[str], Store]] = {
    "memory": _open_memory,
    "sqlite": _open_sqlite,
    "postgresql": _open_postgres,
    "postgres": _open_postgres,
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
