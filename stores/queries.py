"""Queries of the SQL stores that depend on what is asked, and the bounds of a page.

A query for some of the runs has the conditions of an index in the index's own words, so that both
databases see that the index will do.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from workflow_server.schemas.records import (
    DueRun,
    HandlerKey,
    HandlerQuery,
    Phase,
    RunPosition,
    Status,
    UnfinishedRun,
)
from workflow_server.schemas.times import to_micros
from workflow_server.stores.packs import PACK_COLUMNS
from workflow_server.stores.rows import PAYLOAD_COLUMNS, RUN_COLUMNS, TICK_COLUMNS

Query = tuple[str, list[Any]]  # its SQL, and its values
Placeholder = Callable[[int], str]  # of a value, numbered from 1

SELECT_RUNS = f"SELECT {', '.join(RUN_COLUMNS)} FROM runs"

RUNNING = "status = 'running'"
ENDED = "status <> 'running'"
WAITING_FOR_AN_ANSWER = "questions <> '[]'"
HAS_TIMER = f"{RUNNING} AND phase = 'waiting' AND due_at IS NOT NULL"
SUPERSEDED = "NOT is_current"
NOT_RESUMABLE = f"{RUNNING} AND phase = 'waiting' AND unresumable IS NOT NULL"
NOT_WORKING = "phase <> 'working'"
UNFINISHED = tuple(phase for phase in Phase if phase is not Phase.ENDED)

WALKED_APART = 10  # workflows; Postgres plans hundreds of walks for a second
PAGE_BYTES = 1 << 17  # of events or ticks that one read brings into memory, and one row more
UNFINISHED_COLUMNS = ("accepted", "run_id")
DUE_COLUMNS = ("due_at", "run_id")

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


class _Values(list[Any]):
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
    run_id, after = placeholder(1), placeholder(2)
    since = f"SELECT MAX(first) FROM events WHERE run_id = {run_id} AND first <= {after}"
    condition = f"first >= COALESCE(({since}), 0) AND last > {after}"
    return _page("events", PACK_COLUMNS, condition, placeholder)


def ticks_page(placeholder: Placeholder) -> str:
    """Return the SQL of a page of a run's ticks after a cursor.

    Its values are the run, the cursor and the number of rows.
    """
    return _page("ticks", TICK_COLUMNS, f"sequence > {placeholder(2)}", placeholder)


def payloads_page(placeholder: Placeholder) -> str:
    """Return the SQL of a page of a run's payloads after a cursor.

    Its values are the run, the cursor and the number of rows.
    """
    return _page("payloads", PAYLOAD_COLUMNS, f"number > {placeholder(2)}", placeholder)


def _page(table: str, columns: Sequence[str], condition: str, placeholder: Placeholder) -> str:
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


def unfinished_page(
    phase: Phase,
    workflow_name: str | None,
    after: UnfinishedRun | None,
    limit: int,
    placeholder: Placeholder,
) -> Query:
    """Return the query for the running runs of a phase after a place."""
    value = _Values(placeholder)
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
    value = _Values(placeholder)
    where = NOT_RESUMABLE
    if after is not None:
        where += f" AND (accepted, run_id) > ({value(after.accepted)}, {value(after.run_id)})"
    return (
        f"SELECT {', '.join(UNFINISHED_COLUMNS)} FROM runs WHERE {where}"
        f" ORDER BY accepted, run_id LIMIT {value(limit)}",
        value,
    )


def due_page(after: DueRun | None, limit: int, placeholder: Placeholder) -> Query:
    """Return the query for the waiting runs with a timer after a place."""
    value = _Values(placeholder)
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
    value = _Values(placeholder)
    return (
        f"SELECT run_id FROM runs WHERE {SUPERSEDED} AND completed_at < {value(to_micros(before))}"
        f" ORDER BY completed_at LIMIT {value(limit)}",
        value,
    )


def listing(query: HandlerQuery, placeholder: Placeholder) -> Query:
    """Return the query of a listing.

    Each pair of a place where runs stand and a workflow is one walk over an index that is in order
    already, so that a page costs the same whatever the filters leave out. Many workflows have one
    walk together, which passes over the others.
    """
    value = _Values(placeholder)
    where = f"is_current AND tenant = {value(query.tenant)}"
    order = f"ORDER BY handler_created_at DESC, handler_id DESC LIMIT {value(query.limit)}"
    if query.after is not None:
        time, handler_id = to_micros(query.after.created_at), query.after.handler_id
        where += f" AND (handler_created_at, handler_id) < ({value(time)}, {value(handler_id)})"
    names = [value(name) for name in sorted(query.workflow_names)]
    if len(names) > WALKED_APART:
        names = [", ".join(names)]
    walks = [
        f"{SELECT_RUNS} WHERE {where}{workflow}{place} {order}"
        for workflow in [f" AND workflow_name IN ({name})" for name in names] or [""]
        for place in _places(query)
    ]
    if len(walks) == 1:
        return walks[0], value
    parts = " UNION ALL ".join(f"SELECT * FROM ({walk}) AS part" for walk in walks)
    return f"SELECT * FROM ({parts}) AS parts {order}", value


def _places(query: HandlerQuery) -> list[str]:
    """Return the conditions of each place where the runs of a listing may stand."""
    walked_apart = 0 < len(query.workflow_names) <= WALKED_APART
    if not (query.statuses or query.phases or query.waiting or walked_apart):
        return [""]
    statuses = query.statuses or frozenset(Status)
    phases = query.phases or frozenset(Phase)
    conditions: list[str] = []
    if Status.RUNNING in statuses:
        question = f" AND {WAITING_FOR_AN_ANSWER}" if query.waiting else ""
        conditions += [
            f" AND {RUNNING} AND phase = '{phase}'{question}"
            for phase in UNFINISHED
            if phase in phases
        ]
    if Phase.ENDED in phases and not query.waiting:
        conditions += [
            f" AND {ENDED} AND status = '{status}'"
            for status in Status
            if status in statuses and status is not Status.RUNNING
        ]
    return conditions or [" AND FALSE"]


def listing_of_runs(
    key: HandlerKey, after: RunPosition | None, limit: int, placeholder: Placeholder
) -> Query:
    """Return the query for a page of a handler's runs."""
    value = _Values(placeholder)
    where = f"tenant = {value(key.tenant)} AND handler_id = {value(key.id)}"
    if after is not None:
        time = to_micros(after.started_at)
        where += f" AND (started_at, run_id) < ({value(time)}, {value(after.run_id)})"
    return (
        f"{SELECT_RUNS} WHERE {where} ORDER BY started_at DESC, run_id DESC LIMIT {value(limit)}",
        value,
    )
