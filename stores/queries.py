"""Queries of the SQL stores that depend on what is asked, and the bounds of a page.

A query for some of the runs has the conditions of an index in the index's own words, so that both
databases see that the index will do.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from workflow_server.schemas.records import (
    DueRun,
    Phase,
    Suspect,
    UnfinishedRun,
)
from workflow_server.schemas.times import to_micros
from workflow_server.stores.packs import PACK_COLUMNS
from workflow_server.stores.rows import (
    CLOCK_COLUMNS,
    HISTORY_COLUMNS,
    PAYLOAD_COLUMNS,
    SERVER_COLUMNS,
    TICK_COLUMNS,
)

Query = tuple[str, list[Any]]  # its SQL, and its values
Placeholder = Callable[[int], str]  # of a value, numbered from 1

RUNNING = "status = 'running'"
ENDED = "status <> 'running'"
# An ended run does not run again, whoever writes it: another one follows it.
STAYS_ENDED = "(runs.status = 'running' OR excluded.status <> 'running')"
WAITING_FOR_AN_ANSWER = "questions <> '[]'"
HAS_TIMER = f"{RUNNING} AND phase = 'waiting' AND due_at IS NOT NULL"
SUPERSEDED = "NOT is_current"
NOT_RESUMABLE = f"{RUNNING} AND phase = 'waiting' AND unresumable IS NOT NULL"
NOT_WORKING = "phase <> 'working'"
SUSPECTED = f"{RUNNING} AND {NOT_WORKING} AND (attempted OR resumes > 0)"
AT_WORK = f"{RUNNING} AND phase = 'working' AND owner IS NOT NULL"
UNFINISHED = tuple(phase for phase in Phase if phase is not Phase.ENDED)

PAGE_BYTES = 1 << 17  # of events that one read brings into memory, and one row more
JOURNAL_BYTES = 1 << 22  # of ticks or payloads, all of which a run that comes back has in memory
UNFINISHED_COLUMNS = ("accepted", "run_id")
SUSPECT_COLUMNS = ("run_id", "accepted", "phase", "was_present", "attempted", "resumes", "strikes")
DUE_COLUMNS = ("due_at", "run_id")

SELECT_SERVERS = f"SELECT {', '.join(SERVER_COLUMNS)} FROM incarnations ORDER BY id"
SELECT_CLOCK = f"SELECT {', '.join(CLOCK_COLUMNS)} FROM clock"
SELECT_COPY = "SELECT source FROM copies"

_COUNT = "SELECT phase, workflow_name, COUNT(*), COUNT(*) FILTER (WHERE slot) FROM runs WHERE"
# In two parts: the runs that are not at work, many perhaps, are counted in the index alone.
COUNT_NOT_WORKING = f"{_COUNT} {RUNNING} AND {NOT_WORKING} GROUP BY phase, workflow_name"
COUNT_WORKING = f"{_COUNT} {RUNNING} AND phase = 'working' GROUP BY phase, workflow_name"
COUNT_UNFINISHED = f"{COUNT_NOT_WORKING} UNION ALL {COUNT_WORKING}"
LAST_ACCEPTED = "SELECT MAX(accepted) FROM ({}) AS last_of_phases".format(
    " UNION ALL ".join(
        f"SELECT MAX(accepted) AS accepted FROM runs WHERE {RUNNING} AND phase = '{phase}'"
        for phase in UNFINISHED
    )
)


class Values(list[Any]):
    """Values of a query; a new one is called for its placeholder."""

    def __init__(self, placeholder: Placeholder) -> None:
        super().__init__()
        self._placeholder = placeholder

    def __call__(self, value: Any) -> str:
        self.append(value)
        return self._placeholder(len(self))


def state_with_changes(placeholder: Placeholder) -> str:
    """Return the SQL of a run's state and then its changes, numbered, in one consistent read.

    Its value is the run. The number of the state is one less than that of its first change.
    """
    run_id = placeholder(1)
    return (
        f"SELECT first_change - 1 AS number, state AS document FROM states WHERE run_id = {run_id}"
        f" UNION ALL SELECT number, change FROM state_changes WHERE run_id = {run_id}"
        f" AND number >= (SELECT first_change FROM states WHERE run_id = {run_id})"
        " ORDER BY number"
    )


def events_page(placeholder: Placeholder) -> str:
    """Return the SQL of a page of a run's packs of events, from the one after a cursor.

    Its values are the run, the cursor and the number of rows.
    """
    condition = _in_packs("events", placeholder)
    return _page("events", PACK_COLUMNS, condition, PAGE_BYTES, placeholder)


def history_page(placeholder: Placeholder) -> str:
    """Return the SQL of a page of a run's history, from the pack with the tick after a cursor.

    Its values are the run, the cursor and the number of packs.
    """
    condition = _in_packs("histories", placeholder)
    return _page("histories", HISTORY_COLUMNS, condition, PAGE_BYTES, placeholder)


def _in_packs(table: str, placeholder: Placeholder) -> str:
    run_id, after = placeholder(1), placeholder(2)
    since = f"SELECT MAX(first) FROM {table} WHERE run_id = {run_id} AND first <= {after}"
    return f"first >= COALESCE(({since}), 0) AND last > {after}"


def ticks_page(placeholder: Placeholder) -> str:
    """Return the SQL of a page of a run's ticks after a cursor.

    Its values are the run, the cursor and the number of rows.
    """
    condition = f"sequence > {placeholder(2)}"
    sizes = "length(tick) + length(beside)"
    return _page("ticks", TICK_COLUMNS, condition, JOURNAL_BYTES, placeholder, size=sizes)


def payloads_page(placeholder: Placeholder) -> str:
    """Return the SQL of a page of a run's payloads after a cursor.

    Its values are the run, the cursor and the number of rows.
    """
    condition = f"number > {placeholder(2)}"
    return _page("payloads", PAYLOAD_COLUMNS, condition, JOURNAL_BYTES, placeholder)


def _page(
    table: str,
    columns: Sequence[str],
    condition: str,
    max_bytes: int,
    placeholder: Placeholder,
    *,
    size: str = "",
) -> str:
    """Return the SQL of a page of what a run has, in the order of the second column.

    The page ends early where its rows reach `max_bytes`, but has a row where there is one. `size`
    is the SQL of a row's size, by default of the last column alone.
    """
    names, order, size = ", ".join(columns), columns[1], size or f"length({columns[-1]})"
    where = f"FROM {table} WHERE run_id = {placeholder(1)} AND {condition}"
    # Of the lengths alone, or the payloads of all rows would be copied for each page.
    sizes = f"SELECT {order}, {size} AS size {where} ORDER BY {order}"
    before = f"SUM(size) OVER (ORDER BY {order}) - size"
    last = (
        f"SELECT MAX({order}) FROM (SELECT {order}, {before} AS bytes_before"
        f" FROM ({sizes} LIMIT {placeholder(3)}) AS sizes) AS page WHERE bytes_before < {max_bytes}"
    )
    return f"SELECT {names} {where} AND {order} <= ({last}) ORDER BY {order}"


def run_ids_page(after: str | None, limit: int, placeholder: Placeholder) -> Query:
    """Return the query for the ids of runs after one of them."""
    value = Values(placeholder)
    where = f" WHERE run_id > {value(after)}" if after is not None else ""
    return f"SELECT run_id FROM runs{where} ORDER BY run_id LIMIT {value(limit)}", value


def unfinished_page(
    phase: Phase,
    workflow_name: str | None,
    after: UnfinishedRun | None,
    limit: int,
    placeholder: Placeholder,
) -> Query:
    """Return the query for the running runs of a phase after a place."""
    value = Values(placeholder)
    where = [RUNNING, f"phase = '{phase}'"]
    if workflow_name is not None:
        where.append(f"workflow_name = {value(workflow_name)}")
        if phase is not Phase.WORKING:
            where.append(NOT_WORKING)
    if after is not None:
        where.append(f"(accepted, run_id) > ({value(after.accepted)}, {value(after.run_id)})")
    return (
        f"SELECT {', '.join(UNFINISHED_COLUMNS)} FROM runs WHERE {' AND '.join(where)}"
        f" ORDER BY accepted, run_id LIMIT {value(limit)}",
        value,
    )


def not_resumable_page(after: UnfinishedRun | None, limit: int, placeholder: Placeholder) -> Query:
    """Return the query for the waiting runs that cannot go on after a restart, after a place."""
    value = Values(placeholder)
    where = NOT_RESUMABLE
    if after is not None:
        where += f" AND (accepted, run_id) > ({value(after.accepted)}, {value(after.run_id)})"
    return (
        f"SELECT {', '.join(UNFINISHED_COLUMNS)} FROM runs WHERE {where}"
        f" ORDER BY accepted, run_id LIMIT {value(limit)}",
        value,
    )


def suspects_page(after: Suspect | None, limit: int, placeholder: Placeholder) -> Query:
    """Return the query for the runs that may have ended a process, after one of them.

    In two parts, for the runs at work have an index of their own.
    """
    value = Values(placeholder)
    place = ""
    if after is not None:
        place = f" AND (accepted, run_id) > ({value(after.accepted)}, {value(after.run_id)})"
    is_present = "owner IS NOT NULL AND (phase = 'working' OR attempted) AS was_present"
    columns = ", ".join(SUSPECT_COLUMNS).replace("was_present", is_present)
    parts = (f"SELECT {columns} FROM runs WHERE {part}{place}" for part in (AT_WORK, SUSPECTED))
    sql = f"{' UNION ALL '.join(parts)} ORDER BY accepted, run_id LIMIT {value(limit)}"
    return sql, value


def due_page(after: DueRun | None, limit: int, placeholder: Placeholder) -> Query:
    """Return the query for the waiting runs with a timer after a place."""
    value = Values(placeholder)
    where = HAS_TIMER
    if after is not None:
        where += f" AND (due_at, run_id) > ({value(after.due_at)}, {value(after.run_id)})"
    return (
        f"SELECT {', '.join(DUE_COLUMNS)} FROM runs WHERE {where}"
        f" ORDER BY due_at, run_id LIMIT {value(limit)}",
        value,
    )


def superseded_page(before: datetime, limit: int, placeholder: Placeholder) -> Query:
    """Return the query for the superseded runs that ended before a time, oldest first."""
    value = Values(placeholder)
    return (
        f"SELECT run_id FROM runs WHERE {SUPERSEDED} AND completed_at < {value(to_micros(before))}"
        f" ORDER BY completed_at LIMIT {value(limit)}",
        value,
    )
