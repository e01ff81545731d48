"""Documents of JSON, checked without being built: one of a few megabytes has millions of values."""

from contextlib import closing

from pydantic_core import from_json

SMALL = 1 << 14  # bytes; to build so little takes less than a call of SQLite


def check_json(document: bytes) -> None:
    """Raise `ValueError` where a document is not JSON in UTF-8.

    SQLite checks the large ones: in about their own size of memory, and without the interpreter's
    lock, so that the event loop goes on where this is called in a thread.
    """
    if len(document) <= SMALL:
        from_json(document)
        return
    import sqlite3  # only now: a server that has no large ones may do without it

    with closing(sqlite3.connect(":memory:")) as connection:
        text = document.decode()
        if not connection.execute("SELECT json_valid(?)", (text,)).fetchone()[0]:
            raise ValueError("The document is not JSON.")
