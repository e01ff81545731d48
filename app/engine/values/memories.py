"""Memories of agents whose own form does not carry their messages.

A `Memory` of llama-index-core keeps its messages in a chat store, and that, by default, in a
database of SQLite in this process, where nothing but the store's private attributes leads to it.
Nothing is imported here: the class is known by its name.
"""

import json
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from workflow_server.app.engine.values.faults import NotFaithful
from workflow_server.app.engine.values.objects import layout_of_model
from workflow_server.app.engine.values.registry import RegisteredType

CHAT_STORE = "llama_index.core.storage.chat_store.sql:SQLAlchemyChatStore"
COLUMNS = ("key", "timestamp", "role", "status", "data")
IN_MEMORY = (None, "", ":memory:")  # as the name of a database
LONGEST_READ = 30.0  # seconds, that the database's own thread may take


def find_memory(cls: type) -> RegisteredType | None:
    """Return the form of a chat store's class, or None for another class."""
    names = {f"{parent.__module__}:{parent.__qualname__}" for parent in cls.__mro__}
    if CHAT_STORE not in names:
        return None
    return RegisteredType(cls, _dump_store, _loader_of(cls))


def _dump_store(store: Any) -> dict[str, Any]:
    return {**store.__dict__, "rows": _read_rows(store)}


def _loader_of(cls: type) -> Callable[[dict[str, Any]], Any]:
    layout = layout_of_model(cls)

    def load(stored: dict[str, Any]) -> Any:
        private: dict[str, Any] = {"_db_data": stored.pop("rows")}
        layout.public.complete(stored, ())
        layout.private.complete(private, ())
        return layout.build(stored, private, None, set(stored))

    return load


def _read_rows(store: Any) -> list[dict[str, Any]] | None:
    """Return the messages of a database in memory; None where they lie in another."""
    engine, table = store._async_engine, store._table
    if not store._is_in_memory_uri(store.async_database_uri):
        return None
    if engine is not None and engine.url.database not in IN_MEMORY:
        raise NotFaithful(
            "its messages lie where an engine leads that the program made; give the chat store an"
            " `async_database_uri`"
        )
    if engine is None or table is None:
        return store._db_data or []
    columns = ", ".join(f'"{column}"' for column in COLUMNS)
    name = str(table.name).replace('"', '""')
    rows = _ask(engine, f'SELECT {columns} FROM "{name}" ORDER BY "id"')
    return [{**dict(zip(COLUMNS, row, strict=True)), "data": json.loads(row[-1])} for row in rows]


class _Reply(Future[Any]):
    """A reply that a thread waits for; for the database's thread it is one of an event loop."""

    def get_loop(self) -> "_Reply":
        """Return what calls a function in the loop of the reply: itself."""
        return self

    def call_soon_threadsafe(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function at once."""
        function(*arguments)


def _ask(engine: Any, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of a statement, read in the one connection's own thread.

    To borrow the connection would roll back what another step is about to write.
    """
    try:
        connection = engine.pool.connection.dbapi_connection.driver_connection
        reply = _Reply()
        connection._tx.put_nowait((reply, lambda: connection._conn.execute(statement).fetchall()))
    except AttributeError as error:
        raise NotFaithful(f"its database cannot be read ({error})") from error
    rows: list[tuple[Any, ...]] = reply.result(LONGEST_READ)
    return rows
