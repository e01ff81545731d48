"""SQL that removes purged runs, a part of bounded size at a time.

The rows of runs go first, so that the runs are seen no more. Their ids are noted in `purged_runs`
until nothing that belonged to them is left, however often the process ends in between. Of what
belongs to a run the last rows go first: a reader who is in the middle of them comes to an early
end, and never over a gap.
"""

from collections.abc import Iterable, Sequence

from workflow_server.stores.queries import Placeholder

PURGED_RUNS = 128  # rows of runs that one batch removes, and runs whose belongings it removes
PURGED_ROWS = 512  # of a table, that one batch removes of a run
PURGED_BYTES = 1 << 23  # that one batch removes of a table, and one row more of each run

# What belongs to runs, by its table: what orders it in its run, and the size of a row.
TABLES_OF_RUN = {
    "events": ("first", "length(envelopes)"),
    "ticks": ("sequence", "length(tick) + length(beside)"),
    "states": ("run_id", "length(state)"),
    "snapshots": ("run_id", "length(snapshot)"),
    "inbox": ("number", "length(delivery)"),
    "payloads": ("number", "length(payload)"),
    "state_changes": ("number", "length(change)"),
    "histories": ("first", "length(ticks)"),
}

REMOVE_RUNS = "DELETE FROM runs WHERE run_id IN (SELECT run_id FROM purged_runs)"
LIST_PURGED = f"SELECT run_id FROM purged_runs ORDER BY run_id LIMIT {PURGED_RUNS}"

_EARLIER = (
    "runs AS last JOIN runs ON runs.tenant = last.tenant AND runs.handler_id = last.handler_id"
)


def note_earlier(current: str) -> str:
    """Return the SQL that notes the earlier runs of handlers whose current runs are the given."""
    return _note(
        _EARLIER, f"last.run_id IN ({current}) AND last.is_current AND NOT runs.is_current"
    )


def note_current(current: str) -> str:
    """Return the SQL that notes those of the given runs that are their handlers' only ones.

    So they go last, and what is left until then is a handler with fewer runs.
    """
    earlier = (
        "SELECT 1 FROM runs AS earlier WHERE earlier.tenant = runs.tenant"
        " AND earlier.handler_id = runs.handler_id AND NOT earlier.is_current"
    )
    condition = f"runs.run_id IN ({current}) AND runs.is_current AND NOT EXISTS ({earlier})"
    return _note("runs", condition)


def note_superseded(run_ids: str) -> str:
    """Return the SQL that notes those of the given runs that are no handler's current one."""
    return _note("runs", f"runs.run_id IN ({run_ids}) AND NOT runs.is_current")


def _note(source: str, condition: str) -> str:
    found = (
        "SELECT runs.run_id,"
        " COALESCE(length(runs.start_event), 0) + COALESCE(length(runs.result), 0) AS bytes"
        f" FROM {source} WHERE {condition} LIMIT {PURGED_RUNS}"
    )
    counted = (
        "SELECT run_id, SUM(bytes) OVER (ROWS UNBOUNDED PRECEDING) - bytes AS bytes_before"
        f" FROM ({found}) AS found"
    )
    return (
        f"INSERT INTO purged_runs (run_id) SELECT run_id FROM ({counted}) AS counted"
        f" WHERE bytes_before < {PURGED_BYTES} ON CONFLICT DO NOTHING"
    )


def removals(placeholder: Placeholder) -> list[str]:
    """Return the SQL of statements that remove a part of what belongs to a run.

    Their values are the run, and the bytes after which a part ends.
    """
    return [_remove_part(table, placeholder) for table in TABLES_OF_RUN]


def list_parts(purged: Sequence[Iterable[str]]) -> list[tuple[str, int]]:
    """Return the values of `removals` for each of the purged runs."""
    return [(run_id, PURGED_BYTES // len(purged)) for (run_id,) in purged]


def _remove_part(table: str, placeholder: Placeholder) -> str:
    order, size = TABLES_OF_RUN[table]
    run_id = placeholder(1)
    found = (
        f"SELECT {order}, {size} AS bytes FROM {table} WHERE run_id = {run_id}"
        f" ORDER BY {order} DESC LIMIT {PURGED_ROWS}"
    )
    counted = (
        f"SELECT {order}, SUM(bytes) OVER (ORDER BY {order} DESC) - bytes AS bytes_before"
        f" FROM ({found}) AS found"
    )
    return (
        f"DELETE FROM {table} WHERE run_id = {run_id} AND {order} IN"
        f" (SELECT {order} FROM ({counted}) AS counted WHERE bytes_before < {placeholder(2)})"
    )


def forget_runs() -> str:
    """Return the SQL that takes back the notes of the first purged runs, where nothing is left."""
    left = " AND ".join(
        f"NOT EXISTS (SELECT 1 FROM {table} WHERE {table}.run_id = purged_runs.run_id)"
        for table in TABLES_OF_RUN
    )
    return f"DELETE FROM purged_runs WHERE run_id IN ({LIST_PURGED}) AND {left}"
