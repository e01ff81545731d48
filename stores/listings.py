"""Queries of the listings of the SQL stores: which runs a page has, and what is read of them.

A page is found by a walk over an index that is in order already, and then its runs are read by
their ids, so that what comes or goes between the two moves nothing.
"""

from workflow_server.schemas.listings import Documents, HandlerQuery, RunPosition
from workflow_server.schemas.records import HandlerKey, Phase, Status
from workflow_server.schemas.times import to_micros
from workflow_server.stores.queries import (
    ENDED,
    RUNNING,
    UNFINISHED,
    WAITING_FOR_AN_ANSWER,
    Placeholder,
    Query,
    Values,
)
from workflow_server.stores.rows import RUN_COLUMNS

SELECT_RUNS = f"SELECT {', '.join(RUN_COLUMNS)} FROM runs"
PLACED_COLUMNS = ("size", "run_id")  # what is read of a page first
TEXTS = ("error", "held_because", "unresumable", "questions", "awaits")  # they may be large
PLACE = "run_id, handler_created_at, handler_id, started_at"  # and by what listings are in order

WALKED_APART = 10  # workflows; Postgres plans hundreds of walks for a second
NEAR = 1_000_000  # microseconds between a handler's place and the start of its first run
# The place goes by the store's clock, and the start by the wall clock; a later run starts later.
APART = f"abs(started_at - handler_created_at) > {NEAR}"


def select_runs(documents: Documents) -> str:
    """Return the SQL that selects runs without the documents that are not wanted."""
    names = [
        f"NULL AS {name}" if name in ("start_event", "result") and name not in documents else name
        for name in RUN_COLUMNS
    ]
    return f"SELECT {', '.join(names)} FROM runs"


def _select_places(documents: Documents) -> str:
    """Return the SQL that selects how large runs are, and where they stand."""
    lengths = [f"COALESCE(length({name}), 0)" for name in (*sorted(documents), *TEXTS)]
    return f"SELECT {' + '.join(lengths)} AS size, {PLACE} FROM runs"


def listing(query: HandlerQuery, placeholder: Placeholder) -> Query:
    """Return the query for the places of a listing.

    Each pair of a place where runs stand and a workflow is one walk over an index that is in order
    already, so that a page costs the same whatever the filters leave out. Many workflows have one
    walk together, which passes over the others. Ids that begin alike are found by their index, and
    put in order.
    """
    value = Values(placeholder)
    select = _select_places(query.documents)
    where = f"is_current AND tenant = {value(query.tenant)}"
    direction, is_behind = ("ASC", ">") if query.oldest_first else ("DESC", "<")
    order = f"ORDER BY handler_created_at {direction}, handler_id {direction}"
    if query.after is not None:
        time, handler_id = to_micros(query.after.created_at), query.after.handler_id
        place = f"({value(time)}, {value(handler_id)})"
        where += f" AND (handler_created_at, handler_id) {is_behind} {place}"
    limit = f"LIMIT {value(query.limit)}"
    where += _started(query, value)
    if query.handler_id_prefix:
        where += _begins_with(query.handler_id_prefix, value) + _passes(query, value)
        # The sum keeps the databases from walking over all handlers in their order.
        order = order.replace("handler_created_at", "handler_created_at + 0")
        return f"{select} WHERE {where} {order} {limit}", value
    names = [value(name) for name in sorted(query.workflow_names)]
    if len(names) > WALKED_APART:
        names = [", ".join(names)]
    near, apart = _spans(query, value)
    conditions = [
        f"{workflow}{place}{near}"
        for workflow in [f" AND workflow_name IN ({name})" for name in names] or [""]
        for place in _places(query)
    ]
    if apart:
        passes = _passes(query, value)
        conditions += [f" AND {APART}{span}{passes}" for span in apart]
    walks = [f"{select} WHERE {where}{condition} {order} {limit}" for condition in conditions]
    if len(walks) == 1:
        return walks[0], value
    parts = " UNION ALL ".join(f"SELECT * FROM ({walk}) AS part" for walk in walks)
    return f"SELECT * FROM ({parts}) AS parts {order} {limit}", value


def _started(query: HandlerQuery, value: Values) -> str:
    """Return the conditions of when a run has started."""
    conditions = ""
    if query.started_after is not None:
        conditions += f" AND started_at > {value(to_micros(query.started_after))}"
    if query.started_before is not None:
        conditions += f" AND started_at < {value(to_micros(query.started_before))}"
    return conditions


def _spans(query: HandlerQuery, value: Values) -> tuple[str, list[str]]:
    """Return the span of places of runs that started near theirs, and the spans beside it.

    In the spans beside it only runs that started `APART` from their places may pass.
    """
    near, apart = "", []
    if query.started_after is not None:
        first = value(to_micros(query.started_after) - NEAR)
        near += f" AND handler_created_at > {first}"
        apart.append(f" AND handler_created_at <= {first}")
    if query.started_before is not None:
        last = value(to_micros(query.started_before) + NEAR)
        near += f" AND handler_created_at < {last}"
        apart.append(f" AND handler_created_at >= {last}")
    return near, apart


def _begins_with(prefix: str, value: Values) -> str:
    """Return the condition of ids that begin alike, as a range of an index."""
    condition = f" AND handler_id >= {value(prefix)}"
    return f"{condition} AND handler_id < {value(prefix + chr(0x10FFFF))}"


def _passes(query: HandlerQuery, value: Values) -> str:
    """Return the conditions of the filters where they shall not choose the index."""
    conditions = ""
    if query.workflow_names:
        names = ", ".join(value(name) for name in sorted(query.workflow_names))
        conditions += f" AND (workflow_name || '') IN ({names})"
    places = _places(query)
    if places != [""]:
        parts = " OR ".join(f"({place.removeprefix(' AND ')})" for place in places)
        conditions += f" AND ({parts})".replace("status ", "(status || '') ").replace(
            "phase ", "(phase || '') "
        )
    return conditions


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
    key: HandlerKey,
    after: RunPosition | None,
    limit: int,
    placeholder: Placeholder,
    *,
    documents: Documents,
) -> Query:
    """Return the query for the places of a page of a handler's runs."""
    value = Values(placeholder)
    where = f"tenant = {value(key.tenant)} AND handler_id = {value(key.id)}"
    if after is not None:
        time = to_micros(after.started_at)
        where += f" AND (started_at, run_id) < ({value(time)}, {value(after.run_id)})"
    return (
        f"{_select_places(documents)} WHERE {where}"
        f" ORDER BY started_at DESC, run_id DESC LIMIT {value(limit)}",
        value,
    )
