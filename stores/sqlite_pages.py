"""Rows of SQLite: many fetched in one step of a statement, and large ones written in parts.

Each step lets go of the interpreter's lock, and while the event loop is busy it takes up to
`sys.getswitchinterval()`, 5 ms, to get it back.
"""

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from pydantic_core import from_json


def fetch_page(
    connection: sqlite3.Connection,
    columns: Sequence[str],
    blobs: Collection[str],
    source: str,
    values: Sequence[Any],
) -> Sequence[Sequence[Any]]:
    """Return the rows of a query, of which some columns are bytes, perhaps large ones.

    Those are fetched as one piece, and the others with their lengths as JSON: neither may be larger
    than a value of SQLite, a billion bytes.
    """
    described = ", ".join(f"length({name})" if name in blobs else name for name in columns)
    texts = [f"CAST(COALESCE({name}, '') AS TEXT)" for name in columns if name in blobs]
    piece_of_row = " || ".join(texts) or "''"
    sql = (
        f"SELECT json_group_array(json_array({described})),"
        f" CAST(group_concat({piece_of_row}, '') AS BLOB) FROM ({source})"
    )
    written, piece = connection.execute(sql, values).fetchone()
    rows: list[list[Any]] = from_json(written)
    places = [place for place, name in enumerate(columns) if name in blobs]
    start = 0
    for row in rows:
        for place in places:
            if row[place] is not None:
                end = start + row[place]
                row[place] = piece[start:end]
                start = end
    return rows


PART_BYTES = 8 << 20  # of runs that one transaction writes, or one run


def split_runs(sizes: Iterable[Sequence[Any]]) -> list[list[str]]:
    """Return runs, each given with its bytes, in parts that a transaction may write.

    SQLite writes a row again as a whole, whatever of it has changed.
    """
    parts: list[list[str]] = []
    room = 0
    for run_id, size in sizes:
        if size > room or not parts:
            parts.append([])
            room = PART_BYTES
        parts[-1].append(run_id)
        room -= size
    return parts
