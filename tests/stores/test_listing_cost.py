"""What a page of a listing costs among 100,000 handlers: in work done, not in time."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.records import Batch, HandlerPosition, HandlerQuery, RunRecord, Status
from schemas.times import from_micros
from stores.queries import listing
from stores.rows import RUN_COLUMNS
from tests.support.backends import opened_store
from tests.support.postgres import connect, schema_of, temporary_schema

HANDLERS = 100_000
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
# Handlers of ten workflows, each with as many running as completed ones, and one that failed; a
# hundred of those that run wait for an answer.
COPIED: Mapping[str, str] = {
    "run_id": "'run ' || n",
    "handler_id": "'handler ' || n",
    "handler_created_at": "n",
    "workflow_name": "'w' || (n % 10)",
    "status": (
        "CASE WHEN n <= 10 THEN 'failed' WHEN n % 20 < 10 THEN 'running' ELSE 'completed' END"
    ),
    "questions": "CASE n % 1000 WHEN 3 THEN '[[0, null]]' ELSE '[]' END",
}
COPY = (
    f"INSERT INTO runs ({', '.join(RUN_COLUMNS)})"
    f" SELECT {', '.join(COPIED.get(column, column) for column in RUN_COLUMNS)} FROM runs, numbers"
)
WORKFLOW = frozenset({"w3"})
QUERIES = {
    "all": HandlerQuery(limit=PAGE),
    "a status": HandlerQuery(limit=PAGE, statuses=frozenset({Status.RUNNING})),
    "a rare status": HandlerQuery(limit=PAGE, statuses=frozenset({Status.FAILED})),
    "a workflow": HandlerQuery(limit=PAGE, workflow_names=WORKFLOW),
    "both": HandlerQuery(
        limit=PAGE, statuses=frozenset({Status.COMPLETED}), workflow_names=WORKFLOW
    ),
    "both, rare": HandlerQuery(
        limit=PAGE, statuses=frozenset({Status.FAILED}), workflow_names=WORKFLOW
    ),
    "waiting": HandlerQuery(limit=PAGE, waiting=True),
    "many": HandlerQuery(
        limit=PAGE,
        statuses=frozenset({Status.FAILED, Status.COMPLETED}),
        workflow_names=frozenset({"w3", "w4", "w5"}),
    ),
}
MIDDLE = HandlerPosition(from_micros(HANDLERS // 2), "handler")
CASES = {
    **QUERIES,
    **{f"{name}, later": replace(query, after=MIDDLE) for name, query in QUERIES.items()},
}


async def make_store(url: str) -> None:
    """Make a store with one handler, for others to be copied from."""
    async with opened_store(url) as store:
        await store.commit(Batch(runs={FIRST.run_id: FIRST}))


async def test_a_page_of_100_000_handlers_costs_sqlite_no_walk_over_them(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    await make_store(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as file:
        file.execute(
            "CREATE TEMP TABLE numbers AS WITH RECURSIVE numbers (n) AS"
            f" (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {HANDLERS})"
            " SELECT n FROM numbers"
        )
        file.execute(COPY)
        costs = {name: count_instructions(file, query) for name, query in CASES.items()}
    assert {name: cost for name, cost in costs.items() if cost > INSTRUCTIONS} == {}


def count_instructions(file: sqlite3.Connection, query: HandlerQuery) -> int:
    """Return about how many instructions a listing takes."""
    sql, values = listing(query, lambda index: f"?{index}")
    hundreds = 0

    def count() -> int:
        nonlocal hundreds
        hundreds += 1
        return 0

    file.set_progress_handler(count, COUNTED_BY)
    file.execute(sql, values).fetchall()
    file.set_progress_handler(None, 0)
    return hundreds * COUNTED_BY


async def test_a_page_of_100_000_handlers_costs_postgres_no_walk_over_them() -> None:
    async with temporary_schema() as url, connect() as database:
        await make_store(url)
        await database.execute(f"SET search_path TO {schema_of(url)}")
        await database.execute(
            f"CREATE TEMP TABLE numbers AS SELECT n FROM generate_series(1, {HANDLERS}) AS n"
        )
        await database.execute(COPY)
        await database.execute("ANALYZE runs")
        costs = {}
        for name, query in CASES.items():
            sql, values = listing(query, lambda index: f"${index}")
            explained = await database.fetchval(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *values
            )
            costs[name] = count_blocks(json.loads(explained)[0]["Plan"])
    assert {name: cost for name, cost in costs.items() if cost > BLOCKS} == {}


def count_blocks(plan: dict[str, Any]) -> int:
    """Return how many blocks a plan that was carried out has looked at."""
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
