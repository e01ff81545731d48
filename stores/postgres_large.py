"""Large rows for Postgres, which costs half as much to give one by one as in the array of a table.

The array is taken apart there, put into rows and copied each time, and a copy of all of it is made
here. Beside what a small row costs that is nothing, and small ones go faster together.
"""

from dataclasses import replace
from typing import Any, NamedTuple

from workflow_server.stores.batches import BatchRows, Row
from workflow_server.stores.packs import PACK_COLUMNS
from workflow_server.stores.rows import (
    CHANGE_COLUMNS,
    INBOX_COLUMNS,
    PAYLOAD_COLUMNS,
    SNAPSHOT_COLUMNS,
    STATE_COLUMNS,
    TICK_COLUMNS,
)

LARGE_ROW = 1 << 14  # bytes of its document
ENOUGH = 1 << 17  # bytes of large rows, below which they go with the others


class _Table(NamedTuple):
    """A table whose rows may be large.

    `rows` is their name in `BatchRows`, and `document` the place of what is large in each of them.
    """

    rows: str
    document: int
    insert: str


def _table(
    name: str, columns: tuple[str, ...], document: str, conflict: str, *, rows: str = ""
) -> _Table:
    values = ", ".join(f"${index}" for index in range(1, len(columns) + 1))
    insert = f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({values}) ON CONFLICT {conflict}"
    return _Table(rows or name, columns.index(document), insert)


def replace_by(columns: tuple[str, ...], *key: str) -> str:
    """Return what becomes of a row that is there: it gets the values of the new one."""
    changed = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in key)
    return f"({', '.join(key)}) DO UPDATE SET {changed}"


TABLES = (
    _table("events", PACK_COLUMNS, "envelopes", replace_by(PACK_COLUMNS, "run_id", "first")),
    _table("ticks", TICK_COLUMNS, "tick", "DO NOTHING"),
    _table("states", STATE_COLUMNS, "state", replace_by(STATE_COLUMNS, "run_id")),
    _table("state_changes", CHANGE_COLUMNS, "change", "DO NOTHING", rows="changes"),
    _table("snapshots", SNAPSHOT_COLUMNS, "snapshot", replace_by(SNAPSHOT_COLUMNS, "run_id")),
    _table("inbox", INBOX_COLUMNS, "delivery", "DO NOTHING"),
    _table("payloads", PAYLOAD_COLUMNS, "payload", "DO NOTHING"),
)


def take_large(rows: BatchRows) -> tuple[BatchRows, list[tuple[str, list[Row]]]]:
    """Return the rows of a batch without its large ones, and these with their statements.

    The statements may come after that of the others, in its transaction.
    """
    large: list[tuple[str, list[Row]]] = []
    left: dict[str, Any] = {}
    size = 0
    for table in TABLES:
        all_rows: list[Row] = getattr(rows, table.rows)
        document = table.document
        found = [row for row in all_rows if len(row[document]) >= LARGE_ROW]
        if found:
            size += sum(len(row[document]) for row in found)
            large.append((table.insert, found))
            left[table.rows] = [row for row in all_rows if len(row[document]) < LARGE_ROW]
    return (replace(rows, **left), large) if size >= ENOUGH else (rows, [])
