"""What the SQL stores share of reading: the listing query, and the bounds of a page."""

from collections.abc import Callable, Sequence
from typing import Any

from schemas.records import HandlerQuery, RunPosition, split_key
from schemas.times import to_micros
from stores.packs import PACK_COLUMNS
from stores.rows import RUN_COLUMNS

SELECT_RUNS = f"SELECT {', '.join(RUN_COLUMNS)} FROM runs"

WAITING = "status = 'running' AND questions <> '[]'"  # as the index of it says
UNFINISHED_PAGE = 500  # rows a query when unfinished runs are listed
PAGE_BYTES = 1 << 17  # of events or ticks that one read brings into memory, and one row more
TICK_COLUMNS = ("run_id", "sequence", "tick")


def events_page(placeholder: Callable[[int], str]) -> str:
    """Return the SQL of a page of a run's packs of events, from the one after a cursor.

    Its values are the run, the cursor and the number of rows.
    """
    run_id, after = placeholder(1), placeholder(2)
    since = f"SELECT MAX(first) FROM events WHERE run_id = {run_id} AND first <= {after}"
    condition = f"first >= COALESCE(({since}), 0) AND last > {after}"
    return _page("events", PACK_COLUMNS, condition, placeholder)


def ticks_page(placeholder: Callable[[int], str]) -> str:
    """Return the SQL of a page of a run's ticks after a cursor.

    Its values are the run, the cursor and the number of rows.
    """
    return _page("ticks", TICK_COLUMNS, f"sequence > {placeholder(2)}", placeholder)


def _page(
    table: str, columns: Sequence[str], condition: str, placeholder: Callable[[int], str]
) -> str:
    """Return the SQL of a page of what a run has, in the order of the second column.

    The page ends early where its payloads, the last column, reach `PAGE_BYTES`, but has a row where
    there is one.
    """
    names, order, payload = ", ".join(columns), columns[1], columns[-1]
    rows = (
        f"SELECT {names} FROM {table} WHERE run_id = {placeholder(1)} AND {condition}"
        f" ORDER BY {order} LIMIT {placeholder(3)}"
    )
    before = f"SUM(length({payload})) OVER (ORDER BY {order}) - length({payload})"
    return (
        f"SELECT {names} FROM (SELECT {names}, {before} AS bytes_before FROM ({rows}) AS page)"
        f" AS pages WHERE bytes_before < {PAGE_BYTES} ORDER BY {order}"
    )


def listing(query: HandlerQuery, placeholder: Callable[[int], str]) -> tuple[str, list[Any]]:
    """Return the SQL of a listing, and its values for `placeholder(1)`, `placeholder(2)`, …

    Each pair of one status and one workflow is one walk over an index that is in order already,
    so that a page costs the same whatever the filters leave out.
    """
    values: list[Any] = []

    def value(item: Any) -> str:
        values.append(item)
        return placeholder(len(values))

    walks = []
    for status in (*query.statuses,) or (None,):
        for workflow_name in (*query.workflow_names,) or (None,):
            where = ["is_current", f"tenant = {value(query.tenant)}"]
            if workflow_name is not None:
                where.append(f"workflow_name = {value(workflow_name)}")
            if status is not None:
                where.append(f"status = {value(status.value)}")
            if query.waiting:
                where.append(WAITING)
            if query.after is not None:
                time, handler_id = to_micros(query.after.created_at), query.after.handler_id
                where.append(
                    f"(handler_created_at, handler_id) < ({value(time)}, {value(handler_id)})"
                )
            walks.append(
                f"SELECT * FROM ({SELECT_RUNS} WHERE {' AND '.join(where)}"
                f" ORDER BY handler_created_at DESC, handler_id DESC LIMIT {value(query.limit)})"
                f" AS walk"
            )
    sql = " UNION ALL ".join(walks)
    if len(walks) > 1:
        sql = f"SELECT * FROM ({sql}) AS walks"
    return (
        f"{sql} ORDER BY handler_created_at DESC, handler_id DESC LIMIT {value(query.limit)}",
        values,
    )


def listing_of_runs(
    key: str, after: RunPosition | None, limit: int, placeholder: Callable[[int], str]
) -> tuple[str, list[Any]]:
    """Return the SQL of a page of a handler's runs, and its values."""
    values: list[Any] = [*split_key(key), limit]
    where = f"tenant = {placeholder(1)} AND handler_id = {placeholder(2)}"
    if after is not None:
        where += f" AND (started_at, run_id) < ({placeholder(4)}, {placeholder(5)})"
        values += to_micros(after.started_at), after.run_id
    return (
        f"{SELECT_RUNS} WHERE {where} ORDER BY started_at DESC, run_id DESC LIMIT {placeholder(3)}",
        values,
    )
