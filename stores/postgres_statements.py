"""The statements with which the Postgres store writes.

Each begins with the fence: where the incarnation `$1` is dead, it writes nothing. They name tables
alone, and `qualify` puts the schema before them: what `search_path` says, a pooler may change.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import count
from typing import Any, NamedTuple

from workflow_server.schemas.journals import RUN_FORMAT
from workflow_server.stores.batches import (
    TABLES_OF_CURRENT,
    TABLES_OF_UNFINISHED,
    BatchRows,
)
from workflow_server.stores.packs import PACK_COLUMNS
from workflow_server.stores.purging import (
    TABLES_OF_RUN,
    forget_runs,
    note_current,
    note_earlier,
    note_superseded,
    removals,
)
from workflow_server.stores.queries import AT_WORK, STAYS_ENDED, SUSPECTED
from workflow_server.stores.rows import (
    CHANGE_COLUMNS,
    CLOCK_COLUMNS,
    HISTORY_COLUMNS,
    INBOX_COLUMNS,
    PAYLOAD_COLUMNS,
    SNAPSHOT_COLUMNS,
    STATE_COLUMNS,
    TICK_COLUMNS,
    WRITTEN_RUN_COLUMNS,
)

OTHER_TABLES = (
    *("runs", "purged_runs", "incarnations", "clock", "copies"),
    *("procrastinate_workers", "shared_secret"),
)
# The types of the rows that are written; those of the tables have what later releases add, too.
ROWS = (
    *("runs_row", "events_row", "ticks_row", "states_row", "state_changes_row", "snapshots_row"),
    *("inbox_row", "payloads_row", "histories_row", "clock_row"),
)
TABLES = "|".join((*TABLES_OF_RUN, *OTHER_TABLES, *ROWS))
TABLE = re.compile(rf"(\b(?:FROM|INTO|UPDATE|JOIN) |::)({TABLES})\b(?!\.)")
LARGE_COLUMNS = frozenset({"start_event", "result", "envelopes", "tick", "state", "change"}) | {
    "snapshot",
    "delivery",
    "payload",
    "ticks",
    "beside",
}
STATEMENT_BYTES = 8 << 20  # after which a statement takes no more rows: it is 1 GiB at most
QUALIFIED = 1_024  # statements that are kept; listings have many forms

# The row of this incarnation, `$1`; nobody takes it before the transaction ends.
FENCE = "fence AS MATERIALIZED (SELECT code FROM incarnations WHERE id = $1 FOR KEY SHARE)"
FENCED = "EXISTS (SELECT FROM fence)"
CODE = "(SELECT code FROM fence)"


def _insert(
    table: str, columns: Sequence[str], conflict: str, further: Mapping[str, str] | None = None
) -> str:
    """Return the SQL that writes rows, given as one array of them.

    An array for each column takes Postgres and us a third longer. `further` are columns that are no
    part of the rows, and what new rows have there.
    """
    further = further or {}
    names, values = ", ".join((*columns, *further)), ", ".join((*columns, *further.values()))
    return (
        f"INSERT INTO {table} ({names}) SELECT {values} FROM unnest({{}}::{table}_row[])"
        f" WHERE {FENCED} ON CONFLICT {conflict}"
    )


def _replace(columns: Sequence[str], *key: str) -> str:
    changed = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in key)
    return f"({', '.join(key)}) DO UPDATE SET {changed}"


def _delete(table: str, condition: str) -> str:
    """Return the SQL that removes what belongs to runs up to a number, given as two arrays."""
    return (
        f"DELETE FROM {table} USING unnest({{}}::text[], {{}}::bigint[]) AS gone (run_id, number)"
        f" WHERE {table}.run_id = gone.run_id AND {condition} AND {FENCED}"
    )


def _empty(table: str) -> str:
    """Return the SQL that removes all that belongs to runs, given as an array."""
    return f"DELETE FROM {table} WHERE run_id = ANY({{}}::text[]) AND {FENCED}"


class _Part(NamedTuple):
    """A part of a commit; each `{}` of its SQL stands for one of the arrays.

    `large` are the places in the rows of the first array of values that may be large.
    """

    sql: str
    arrays: Sequence[Sequence[Any]]
    large: Sequence[int] = ()

    def cut(self) -> "Iterator[_Part]":
        """Yield parts of the part that are small enough for a statement, or of one row."""
        if not self.large:
            yield self
            return
        (rows,) = self.arrays
        start = size = 0
        for index, row in enumerate(rows):
            row_size = sum(len(row[place] or b"") for place in self.large)
            if index > start and size + row_size > STATEMENT_BYTES:
                yield _Part(self.sql, [rows[start:index]])
                start, size = index, 0
            size += row_size
        yield _Part(self.sql, [rows[start:]])

    @property
    def size(self) -> int:
        """The bytes of the values that may be large."""
        large = self.large
        return sum(len(row[place] or b"") for row in self.arrays[0] for place in large)


def _large(columns: Sequence[str]) -> Sequence[int]:
    return tuple(place for place, column in enumerate(columns) if column in LARGE_COLUMNS)


# The columns are all that the types of their rows have, in the order of those. A run that is held
# has no slot any more.
PUT_RUNS = _insert(
    "runs",
    WRITTEN_RUN_COLUMNS,
    _replace([name for name in WRITTEN_RUN_COLUMNS if name != "epoch"], "run_id")
    + ", is_granted = runs.is_granted AND excluded.phase <> 'held'"
    " WHERE runs.epoch = excluded.epoch AND (runs.owner IS NULL OR runs.owner = $1)"
    f" AND {STAYS_ENDED} RETURNING 1",
    {"code": CODE, "format": str(RUN_FORMAT)},
)
PUT_EVENTS = _insert("events", PACK_COLUMNS, _replace(PACK_COLUMNS, "run_id", "first"))
ADD_TICKS = _insert("ticks", TICK_COLUMNS, "DO NOTHING")
PUT_STATES = _insert("states", STATE_COLUMNS, _replace(STATE_COLUMNS, "run_id"))
ADD_CHANGES = _insert("state_changes", CHANGE_COLUMNS, "DO NOTHING")
PUT_SNAPSHOTS = _insert("snapshots", SNAPSHOT_COLUMNS, _replace(SNAPSHOT_COLUMNS, "run_id"))
ADD_TO_INBOX = _insert("inbox", INBOX_COLUMNS, "DO NOTHING")
ADD_PAYLOADS = _insert("payloads", PAYLOAD_COLUMNS, "DO NOTHING")
PUT_HISTORIES = _insert("histories", HISTORY_COLUMNS, _replace(HISTORY_COLUMNS, "run_id", "first"))
PUT_CLOCK = _insert("clock", CLOCK_COLUMNS, _replace(CLOCK_COLUMNS, "id"))
TRIM_TICKS = _delete("ticks", "ticks.sequence < gone.number")
FORGET_HISTORY = _delete(
    "histories", "histories.bytes_until - length(histories.ticks) < gone.number"
)
FOLD_CHANGES = _delete("state_changes", "state_changes.number < gone.number")
TAKE_FROM_INBOX = _delete("inbox", "inbox.number <= gone.number")
DROP_PAYLOADS = _delete("payloads", "payloads.number = gone.number")
CLEAR = _empty("payloads")
FINISH = tuple(map(_empty, TABLES_OF_UNFINISHED))
SUPERSEDE = tuple(map(_empty, TABLES_OF_CURRENT))
LARGE_OF_RUNS = _large(WRITTEN_RUN_COLUMNS)
LARGE_OF_EVENTS = _large(PACK_COLUMNS)
LARGE_OF_TICKS = _large(TICK_COLUMNS)
LARGE_OF_STATES = _large(STATE_COLUMNS)
LARGE_OF_CHANGES = _large(CHANGE_COLUMNS)
LARGE_OF_SNAPSHOTS = _large(SNAPSHOT_COLUMNS)
LARGE_OF_INBOX = _large(INBOX_COLUMNS)
LARGE_OF_PAYLOADS = _large(PAYLOAD_COLUMNS)
LARGE_OF_HISTORIES = _large(HISTORY_COLUMNS)
# In two statements: in one, the runs would be read later than the incarnations, and those of a
# server that has just joined would be taken from it. A dead incarnation stays dead.
DEAD_OWNERS = (
    "SELECT owner FROM runs WHERE run_id = ANY($1::text[]) AND owner IS NOT NULL"
    " EXCEPT SELECT id FROM incarnations"
)
# What a server writes into the runs that it claims.
LAST_HAD = f"code = {CODE}, format = greatest(format, {RUN_FORMAT})"
CLAIM = (
    f"WITH {FENCE}, claimed AS (UPDATE runs SET owner = $1, attempted = true, {LAST_HAD},"
    " epoch = epoch + (owner IS DISTINCT FROM $1)::integer WHERE run_id IN ("
    "SELECT run_id FROM runs WHERE run_id = ANY($2::text[]) AND status = 'running'"
    " AND (owner IS NULL OR owner = $1 OR owner = ANY($3::bigint[]))"
    f" ORDER BY run_id FOR UPDATE) AND {FENCED} RETURNING run_id)"
    f" SELECT {FENCED}, claimed.run_id FROM (SELECT) AS once LEFT JOIN claimed ON true"
)
WRITE_SUSPECTS = (
    f"WITH {FENCE}, written AS (UPDATE runs SET"
    " phase = CASE phase WHEN 'working' THEN 'queued' ELSE phase END,"
    " slot = slot AND phase <> 'working', owner = NULL, attempted = false,"
    " resumes = given.resumes, strikes = given.strikes"
    " FROM unnest($2::text[], $3::integer[], $4::integer[]) AS given (run_id, resumes, strikes)"
    f" WHERE runs.run_id = given.run_id AND status = 'running' AND {FENCED}) SELECT {FENCED}"
)
LET_GO_OF = "owner = NULL, attempted = false, resumes = 0, strikes = 0"
LET_GO = (
    f"WITH {FENCE}, at_work AS (UPDATE runs SET {LET_GO_OF}"
    f" WHERE {AT_WORK} AND owner = $1 AND {FENCED}),"
    f" attempted AS (UPDATE runs SET {LET_GO_OF}"
    f" WHERE {SUSPECTED} AND owner = $1 AND {FENCED}) SELECT {FENCED}"
)
DESCRIBE = (
    "WITH written AS (UPDATE incarnations"
    " SET address = $2, version = $3, workflows = $4::text[], state = $5"
    " WHERE id = $1 RETURNING 1) SELECT EXISTS (SELECT FROM written)"
)
NOTE_COPY = (
    f"WITH {FENCE}, written AS (INSERT INTO copies (id, source) SELECT 1, $2::text WHERE {FENCED}"
    f" ON CONFLICT (id) DO UPDATE SET source = excluded.source) SELECT {FENCED}"
)
END_COPY = f"WITH {FENCE}, removed AS (DELETE FROM copies WHERE {FENCED}) SELECT {FENCED}"
REFUSED = (
    "SELECT runs.run_id FROM unnest($2::text[], $3::bigint[], $4::text[])"
    " AS given (run_id, epoch, status) JOIN runs USING (run_id)"
    " WHERE runs.epoch <> given.epoch OR runs.owner <> $1"
    " OR runs.status <> 'running' AND given.status = 'running'"
)
# Whose handler has another current run that another server has begun; given are the runs of a batch
# that are to be current, and those that are not any more.
TAKEN = (
    "SELECT given.run_id FROM unnest($1::text[], $2::text[], $3::text[])"
    " AS given (run_id, tenant, handler_id) JOIN runs USING (tenant, handler_id)"
    " WHERE runs.is_current AND runs.run_id <> given.run_id"
    " AND runs.run_id <> ALL($4::text[])"
)
LISTED = "SELECT unnest($1::text[])"
# What a batch that was given up still writes is over before the conditions are looked at.
LOCK_RUNS = f"SELECT FROM runs WHERE run_id IN ({LISTED}) ORDER BY run_id FOR UPDATE"
NOTE_EARLIER, NOTE_CURRENT = note_earlier(LISTED), note_current(LISTED)
NOTE_SUPERSEDED = note_superseded(LISTED)
FORGET_RUNS, REMOVE_PARTS = forget_runs(), removals("${}".format)


@lru_cache(QUALIFIED)
def qualify(sql: str, schema: str) -> str:
    """Return a statement with the schema before the name of each table."""
    return TABLE.sub(rf"\1{schema}.\2", sql)


def put_statements(rows: BatchRows) -> list[tuple[str, list[Sequence[Any]]]]:
    """Return the statements that write a batch, and their arrays, which are numbered from 2.

    It is one, unless the batch is large: then they belong into one transaction. The parts of a
    statement do not see what the others do, and the rows that they write or remove have nothing in
    common. Each says whether the incarnation is alive, and fails by a division by zero where a run
    is refused, so that nothing is written.
    """
    dropped = [(run_id, number) for run_id in rows.dropped for number in rows.dropped[run_id]]
    parts = [
        _Part(PUT_RUNS, [rows.runs], LARGE_OF_RUNS),
        _Part(PUT_EVENTS, [rows.events], LARGE_OF_EVENTS),
        _Part(ADD_TICKS, [rows.ticks], LARGE_OF_TICKS),
        _Part(PUT_STATES, [rows.states], LARGE_OF_STATES),
        _Part(ADD_CHANGES, [rows.changes], LARGE_OF_CHANGES),
        _Part(FOLD_CHANGES, [*zip(*rows.folded, strict=True)]),
        _Part(PUT_SNAPSHOTS, [rows.snapshots], LARGE_OF_SNAPSHOTS),
        _Part(ADD_TO_INBOX, [rows.inbox], LARGE_OF_INBOX),
        _Part(ADD_PAYLOADS, [rows.payloads], LARGE_OF_PAYLOADS),
        _Part(PUT_HISTORIES, [rows.histories], LARGE_OF_HISTORIES),
        _Part(PUT_CLOCK, [rows.clock]),
        _Part(FORGET_HISTORY, [*zip(*rows.forgotten, strict=True)]),
        _Part(TRIM_TICKS, [*zip(*rows.trimmed, strict=True)]),
        _Part(TAKE_FROM_INBOX, [*zip(*rows.taken, strict=True)]),
        _Part(DROP_PAYLOADS, [*zip(*dropped, strict=True)]),
        _Part(CLEAR, [rows.cleared]),
        *(_Part(sql, [rows.finished]) for sql in FINISH),
        *(_Part(sql, [rows.superseded]) for sql in SUPERSEDE),
    ]
    parts = [part for part in parts if any(part.arrays)]
    if sum(part.size for part in parts if part.large) <= STATEMENT_BYTES:
        return [_statement(parts)]
    return [_statement([piece]) for part in parts for piece in part.cut()]


def _statement(parts: Sequence[_Part]) -> tuple[str, list[Sequence[Any]]]:
    arrays = [array for part in parts for array in part.arrays]
    return make_statement(*(part.sql for part in parts)), arrays


@cache
def make_statement(*parts: str) -> str:
    """Return the SQL of all parts in one, with the arrays numbered from 2."""
    numbers = count(2)
    numbered = [
        part.format(*(f"${next(numbers)}" for _ in range(part.count("{}")))) for part in parts
    ]
    named = "".join(f", part{n} AS ({part})" for n, part in enumerate(numbered))
    answer = FENCED
    if PUT_RUNS in parts:  # it is the first, where it is there
        written = "(SELECT count(*) FROM part0) / cardinality($2)"
        answer = f"CASE WHEN {FENCED} THEN 1 / ({written}) = 1 ELSE false END"
    return f"WITH {FENCE}{named} SELECT {answer}"


# The first server to ask makes it.
MAKE_SECRET = (
    f"WITH {FENCE}, written AS (INSERT INTO shared_secret (id, value) SELECT 1, $2 WHERE {FENCED}"
    " ON CONFLICT (id) DO NOTHING RETURNING value)"
    f" SELECT {FENCED}, written.value FROM (SELECT) AS once LEFT JOIN written ON true"
)
GET_SECRET = "SELECT value FROM shared_secret"
