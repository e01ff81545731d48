"""The table of stores: which URL opens which.

Each is imported when it is opened: a server on SQLite needs no driver of Postgres.
"""

import re
from collections.abc import Callable

from workflow_server.stores.base import Store, StoreError
from workflow_server.stores.replicas import Replicas

SCHEME = re.compile(r"(?P<name>[a-z][a-z0-9.-]*)(\+[a-z0-9_]+)?:", re.IGNORECASE)


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


def _open_postgres(url: str, replicas: Replicas | None = None) -> Store:
    from workflow_server.stores.postgres import PostgresStore

    return PostgresStore(url, replicas=replicas)


BACKENDS: dict[str, Callable[[str], Store]] = {
    "memory": _open_memory,
    "sqlite": _open_sqlite,
    "postgresql": _open_postgres,
    "postgres": _open_postgres,
}


def open_store(url: str, *, replicas: Replicas | None = None) -> Store:
    """Return the store that a URL names, not yet started; `StoreError` for an unknown one.

    With `replicas` many servers share it, which only Postgres can do.
    SQLAlchemy's name of a driver, as in `postgresql+asyncpg:`, may follow the scheme.
    """
    scheme = SCHEME.match(url)
    known = ", ".join(f"{name}:" for name in BACKENDS)
    if scheme is None:  # Not quoted, for libpq's other form has the password in it.
        raise StoreError(f"The store's URL must begin with its scheme; known are {known}")
    name = scheme["name"].lower()
    if name not in BACKENDS:
        raise StoreError(f"No store is known for '{name}:'; known are {known}")
    if replicas is None:
        return BACKENDS[name](url)
    if BACKENDS[name] is not _open_postgres:
        raise StoreError(
            f"--replicas takes a Postgres that the servers share, and '{name}:' is a store of one"
            " server; give --store postgresql://…, or leave --replicas out."
        )
    return _open_postgres(url, replicas)
