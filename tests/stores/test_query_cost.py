"""Cost of queries among 100,000 runs: in work done and in indexes used, not in time."""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.backends import opened_store
from tests.support.postgres import connect, schema_of, temporary_schema
from workflow_server.schemas.listings import HandlerPosition, HandlerQuery
from workflow_server.schemas.records import (
    Batch,
    DueRun,
    Phase,
    RunRecord,
    Status,
    Suspect,
    UnfinishedRun,
)
from workflow_server.schemas.times import from_micros
from workflow_server.stores.listings import listing
from workflow_server.stores.queries import (
    COUNT_NOT_WORKING,
    COUNT_WORKING,
    LAST_ACCEPTED,
    UNFINISHED,
    Placeholder,
    Query,
    due_page,
    not_resumable_page,
    superseded_page,
    suspects_page,
    unfinished_page,
)
from workflow_server.stores.rows import RUN_COLUMNS

RUNS = 100_000
PAGE = 50
INSTRUCTIONS = 30_000  # of SQLite's machine, which takes several to look at a row
COUNTED_BY = 100
BLOCKS = 300  # of 8 KiB that Postgres looks at; the table has more than five thousand
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
FIRST = RunRecord(
    run_id="run",
    handler_id="handler",
    handler_created_at=NOON,
    workflow_name="w",
    started_at=NOON,
    updated_at=NOON,
    start_event=b"{}",
    result=bytes(200),
)
# Handlers of ten workflows, each with as many running as completed ones, and one that failed.
# Nearly all that run wait, a hundred of them for an answer; a hundred are in each other phase.
COPIED: Mapping[str, str] = {
    "run_id": "'run ' || n",
    "handler_id": "'handler ' || n",
    "handler_created_at": "n * 1000000",  # one a second
    # All but a hundred handlers run for the first time, and start when they come to be, or nearly.
    "started_at": "n * 1000000 + CASE n % 1000 WHEN 7 THEN 5000000 ELSE n % 7 END",
    "workflow_name": "CASE WHEN n IN (50005, 50012) THEN 'rare' ELSE 'w' || (n % 10) END",
    "status": (
        "CASE WHEN n <= 10 THEN 'failed' WHEN n % 20 < 10 THEN 'running' ELSE 'completed' END"
    ),
    "questions": "CASE n % 1000 WHEN 3 THEN '[[0, null]]' ELSE '[]' END",
    "phase": (
        "CASE WHEN n <= 10 OR n % 20 >= 10 THEN 'ended' WHEN n % 1000 = 1 THEN 'queued'"
        " WHEN n % 1000 = 2 THEN 'working' WHEN n % 1000 = 4 THEN 'held' ELSE 'waiting' END"
    ),
    "accepted": "n",
    "slot": "n % 2 = 0",
    "due_at": "CASE n % 3 WHEN 0 THEN n END",
    "unresumable": "CASE n % 1000 WHEN 5 THEN 'why' END",
    "resumes": "CASE n % 1000 WHEN 1 THEN 3 WHEN 10 THEN 3 ELSE 0 END",
    "attempted": "n % 1000 = 6",
}
OWN = "UPDATE runs SET owner = 1 WHERE phase = 'working'"
COPY = (
    f"INSERT INTO runs ({', '.join(RUN_COLUMNS)})"
    f" SELECT {', '.join(COPIED.get(column, column) for column in RUN_COLUMNS)} FROM runs, numbers"
)


@dataclass(frozen=True)
class Case:
    """A query, the indexes over which it walks, and whether they have all that it asks for.

    `is_checked` where SQLite looks at the rows all the same, to check a condition of the index.
    """

    ask: Callable[[Placeholder], Query]
    indexes: frozenset[str]
    covered: bool = False
    is_checked: bool = False


def second(number: int) -> datetime:
    """Return the time at which the handler of this number came to be."""
    return from_micros(number * 1_000_000)


def listed(indexes: str, **filters: Any) -> Case:
    """Return the case of a listing."""
    query = HandlerQuery(limit=PAGE, **{name: given(value) for name, value in filters.items()})
    return Case(lambda placeholder: listing(query, placeholder), frozenset(indexes.split()))


def given(value: Any) -> Any:
    """Return a filter of several values as a query has it."""
    return frozenset(value) if isinstance(value, list) else value


def unfinished(
    phase: Phase, workflow_name: str | None = None, after: UnfinishedRun | None = None
) -> Case:
    """Return the case of a page of the runs of a phase."""
    searched = workflow_name is not None and phase is Phase.WORKING
    by_workflow = workflow_name is not None and not searched
    return Case(
        lambda placeholder: unfinished_page(phase, workflow_name, after, PAGE, placeholder),
        frozenset({"unfinished_by_workflow" if by_workflow else "unfinished"}),
        covered=not searched,
    )


def not_resumable(after: UnfinishedRun | None = None) -> Case:
    """Return the case of a page of the waiting runs that cannot go on."""
    return Case(
        lambda placeholder: not_resumable_page(after, PAGE, placeholder),
        frozenset({"not_resumable"}),
        covered=True,
        is_checked=True,
    )


BY_WORKFLOW = "listing_by_workflow listing_by_workflow_and_phase"
LISTINGS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "all": ("listing", {}),
    "running": ("listing_by_phase", {"statuses": [Status.RUNNING]}),
    "a final status": ("listing_by_status", {"statuses": [Status.COMPLETED]}),
    "a rare status": ("listing_by_status", {"statuses": [Status.FAILED]}),
    "a workflow": (BY_WORKFLOW, {"workflow_names": ["w3"]}),
    "a rare workflow": (BY_WORKFLOW, {"workflow_names": ["rare"]}),
    "many workflows": ("listing", {"workflow_names": [f"w{n}" for n in range(20)]}),
    "a phase and many workflows": (
        "listing_by_phase",
        {"phases": [Phase.WAITING], "workflow_names": [f"w{n}" for n in range(20)]},
    ),
    "a status and a workflow": (
        "listing_by_workflow",
        {"statuses": [Status.COMPLETED], "workflow_names": ["w3"]},
    ),
    "a rare status and a workflow": (
        "listing_by_workflow",
        {"statuses": [Status.FAILED], "workflow_names": ["w3"]},
    ),
    "a phase": ("listing_by_phase", {"phases": [Phase.WAITING]}),
    "a rare phase": ("listing_by_phase", {"phases": [Phase.HELD]}),
    "a phase and a rare workflow": (
        "listing_by_workflow_and_phase",
        {"phases": [Phase.WAITING], "workflow_names": ["rare"]},
    ),
    "a rare phase and a workflow": (
        "listing_by_workflow_and_phase",
        {"phases": [Phase.HELD], "workflow_names": ["w4"]},
    ),
    "ended": ("listing_by_status", {"phases": [Phase.ENDED]}),
    "ended, of a rare workflow": (
        "listing_by_workflow",
        {"phases": [Phase.ENDED], "workflow_names": ["rare"]},
    ),
    "waiting": ("waiting", {"waiting": True}),
    "waiting, in a phase": ("waiting", {"waiting": True, "phases": [Phase.WAITING]}),
    "many": (
        "listing_by_workflow",
        {
            "statuses": [Status.FAILED, Status.COMPLETED],
            "workflow_names": ["w3", "w4", "w5"],
        },
    ),
}
# With times, the runs that started apart from their places are walked over beside the others.
TIMED = {"started_after": second(RUNS - 200), "started_before": second(RUNS - 10)}
LISTINGS_BY_TIME: Mapping[str, tuple[str, dict[str, Any]]] = {
    "started after": ("listing listing_apart", {"started_after": TIMED["started_after"]}),
    "started before": ("listing listing_apart", {"started_before": second(200)}),
    "started between": ("listing listing_apart", TIMED),
    "started between, oldest first": (
        "listing listing_apart",
        {**TIMED, "oldest_first": True},
    ),
    "of a status, started after": (
        "listing_by_status listing_apart",
        {"statuses": [Status.COMPLETED], "started_after": TIMED["started_after"]},
    ),
    "of a workflow, started after": (
        f"{BY_WORKFLOW} listing_apart",
        {"workflow_names": ["w3"], "started_after": TIMED["started_after"]},
    ),
    "of ids that begin alike": ("runs_of_handler", {"handler_id_prefix": "handler 4321"}),
    "of a status and ids that begin alike": (
        "runs_of_handler",
        {"handler_id_prefix": "handler 4321", "statuses": [Status.COMPLETED]},
    ),
}
MIDDLE = HandlerPosition(second(RUNS // 2), "handler")
PLACE = UnfinishedRun(RUNS // 2, "run")
SUSPECT = Suspect(run_id="run", accepted=RUNS // 2, phase=Phase.QUEUED)
SUSPECTS = frozenset({"unfinished", "suspects"})
DUE = frozenset({"due"})
CASES: Mapping[str, Case] = {
    **{name: listed(indexes, **filters) for name, (indexes, filters) in LISTINGS.items()},
    **{
        f"{name}, later": listed(indexes, after=MIDDLE, **filters)
        for name, (indexes, filters) in LISTINGS.items()
    },
    "all, oldest first": listed("listing", oldest_first=True),
    "a rare workflow, oldest first": listed(
        BY_WORKFLOW, oldest_first=True, workflow_names=["rare"], after=MIDDLE
    ),
    **{name: listed(indexes, **filters) for name, (indexes, filters) in LISTINGS_BY_TIME.items()},
    **{f"unfinished, {phase}": unfinished(phase) for phase in UNFINISHED},
    **{f"unfinished, {phase}, later": unfinished(phase, after=PLACE) for phase in UNFINISHED},
    **{f"unfinished, {phase}, of rare": unfinished(phase, "rare") for phase in UNFINISHED},
    **{f"unfinished, {phase}, of w3": unfinished(phase, "w3", PLACE) for phase in UNFINISHED},
    "superseded": Case(
        lambda placeholder: superseded_page(from_micros(RUNS // 2), PAGE, placeholder),
        frozenset({"superseded"}),
    ),
    "not resumable": not_resumable(),
    "not resumable, later": not_resumable(after=PLACE),
    "due": Case(lambda placeholder: due_page(None, PAGE, placeholder), DUE, covered=True),
    "due, later": Case(
        lambda placeholder: due_page(DueRun(*PLACE), PAGE, placeholder), DUE, covered=True
    ),
    "suspects": Case(lambda placeholder: suspects_page(None, PAGE, placeholder), SUSPECTS),
    "suspects, later": Case(
        lambda placeholder: suspects_page(SUSPECT, PAGE, placeholder), SUSPECTS
    ),
    "last accepted": Case(lambda _: (LAST_ACCEPTED, []), frozenset({"unfinished"}), covered=True),
    "counts": Case(
        lambda _: (COUNT_NOT_WORKING, []), frozenset({"unfinished_by_workflow"}), covered=True
    ),
    "count at work": Case(lambda _: (COUNT_WORKING, []), frozenset({"unfinished"})),
}
# It counts all that wait: over the small entries of an index, and in Postgres, where most runs wait
# and it was not vacuumed of late, perhaps over the rows.
UNBOUNDED = "counts"


async def make_store(url: str) -> None:
    """Make a store with one handler, for others to be copied from."""
    async with opened_store(url) as store:
        await store.commit(Batch(runs={FIRST.run_id: FIRST}))


async def test_a_query_among_100_000_runs_costs_sqlite_no_walk_over_them(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    await make_store(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as file:
        file.execute(
            "CREATE TEMP TABLE numbers AS WITH RECURSIVE numbers (n) AS"
            f" (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {RUNS})"
            " SELECT n FROM numbers"
        )
        file.execute(COPY)
        file.execute(OWN)
        queries = {name: case.ask(lambda index: f"?{index}") for name, case in CASES.items()}
        walks = {name: find_sqlite_walks(file, query) for name, query in queries.items()}
        costs = {name: count_instructions(file, query) for name, query in queries.items()}
    assert walks == {
        name: {(index, case.covered and not case.is_checked) for index in case.indexes}
        for name, case in CASES.items()
    }
    del costs[UNBOUNDED]
    assert {name: cost for name, cost in costs.items() if cost > INSTRUCTIONS} == {}


def find_sqlite_walks(file: sqlite3.Connection, query: Query) -> set[tuple[str, bool]]:
    """Return the indexes that a query searches, and whether it needs no more than the index."""
    sql, values = query
    steps = [row[3] for row in file.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    walks = [step for step in steps if re.match(r"(SCAN|SEARCH) runs", step)]
    found = [re.match(r"SEARCH runs USING (COVERING )?INDEX (\w+) \(", walk) for walk in walks]
    return {(match[2], match[1] is not None) if match else ("none", False) for match in found}


def count_instructions(file: sqlite3.Connection, query: Query) -> int:
    """Return about how many instructions a query takes."""
    hundreds = 0

    def count() -> int:
        nonlocal hundreds
        hundreds += 1
        return 0

    file.set_progress_handler(count, COUNTED_BY)
    file.execute(*query).fetchall()
    file.set_progress_handler(None, 0)
    return hundreds * COUNTED_BY


async def test_a_query_among_100_000_runs_costs_postgres_no_walk_over_them() -> None:
    cases = {name: case for name, case in CASES.items() if name != UNBOUNDED}
    async with temporary_schema() as url, connect() as database:
        await make_store(url)
        await database.execute(f"SET search_path TO {schema_of(url)}")
        await database.execute(
            f"CREATE TEMP TABLE numbers AS SELECT n::bigint FROM generate_series(1, {RUNS}) AS n"
        )
        await database.execute(COPY)
        await database.execute(OWN)
        await database.execute("ANALYZE runs")
        plans: dict[str, dict[str, Any]] = {}
        for name, case in cases.items():
            sql, values = case.ask(lambda index: f"${index}")
            explained = await database.fetchval(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *values
            )
            plans[name] = json.loads(explained)[0]["Plan"]
    assert {name: {*find_postgres_walks(plan)} for name, plan in plans.items()} == {
        name: {
            (index, "Index Only Scan" if case.covered else "Index Scan") for index in case.indexes
        }
        for name, case in cases.items()
    }
    costs = {name: count_blocks(plan) for name, plan in plans.items()}
    assert {name: cost for name, cost in costs.items() if cost > BLOCKS} == {}


def find_postgres_walks(plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the indexes over which a plan walks, and how."""
    if plan.get("Relation Name") == "runs":
        yield plan.get("Index Name", "none"), plan["Node Type"]
    for part in plan.get("Plans", ()):
        yield from find_postgres_walks(part)


def count_blocks(plan: dict[str, Any]) -> int:
    """Return how many blocks a plan that was carried out has looked at."""
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
