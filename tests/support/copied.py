"""Stores with all that there can be, and the tables of stores as they are past the contract."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.support.backends import opened_store
from tests.support.older_databases import carry_out
from tests.support.postgres import schema_of
from tests.support.records import NOON
from workflow_server.schemas.records import (
    Awaited,
    Batch,
    ClockRecord,
    EventRecord,
    Failure,
    HistoryRecord,
    Idle,
    InboxRecord,
    PayloadRecord,
    Phase,
    Question,
    RunRecord,
    SnapshotRecord,
    StateChangeRecord,
    StateRecord,
    Status,
    TickRecord,
)
from workflow_server.stores.packs import unpack_events

# Tables that a copy leaves alone, and why.
NOT_COPIED = {
    "incarnations": "they are of servers: each store has its own",
    "purged_runs": "what they name is to be removed, and no run is left of it",
    "copies": "a note while a copy is under way",
    "schema_version": "each store has its own schema",
    "shared_secret": "the servers of a store know one another by it: each store has its own",
    "sqlite_sequence": "SQLite keeps the last incarnation's number there",
}
# An incarnation of the store, and what many servers that share it know of a run.
OWN_COLUMNS = {"owner", "code", "format", "unfit", "is_granted"}
QUESTION = Question(sequence=3, waiter_id="w", text="größe?", place="p", digest="d")
FULL = RunRecord(
    run_id="full",
    handler_id="full",
    handler_created_at=NOON,
    workflow_name="größe/𝔞",
    status=Status.FAILED,
    started_at=NOON + timedelta(microseconds=1),
    updated_at=NOON + timedelta(days=1),
    completed_at=NOON + timedelta(days=1, microseconds=999_999),
    start_event=b'{"value":{"a":"\\u2028"}}',
    result=b'{"value":{}}',
    error="It failed: ä\n'\"",
    failure=Failure(type="T", qualified_name="m.T", step="s", attempts=3, remedy="Write x."),
    event_count=2**40,
    questions=(QUESTION, Question(sequence=2**40)),
    answered=(QUESTION,),
    awaits=(Awaited(waiter_id="w", event_class="m.E", step="s", requirements=b'{"a":1}'),),
    not_resumable_because="It cannot be.",
    idle=Idle(since=NOON, wake_at=NOON, timeout_left=1 / 3, uptime=2**50),
    resumes=2,
    tenant="acme",
    trace="00-1-2-01",
    phase=Phase.ENDED,
    accepted=2**50,
    slot=True,
    due_at=NOON,
    held_because="It is held.",
    first_sequence=5,
    next_sequence=2**40 + 5,
    epoch=7,
    attempted=True,
    strikes=3,
    keeps_history=True,
)
HELD = replace(FULL, run_id="held", handler_id="held", status=Status.RUNNING, phase=Phase.HELD)


def make_content(runs: int, *, of_run: int = 3, size: int = 30) -> Batch:
    """Return what a store may have: runs of all phases, with so many rows of this size in each."""
    records = [
        replace(
            FULL,
            run_id=f"r{number}",
            handler_id=f"h{number // 2}",
            current=number % 2 == 1 or number == runs - 1,
            tenant=("", "acme")[number // 2 % 2],
            status=Status.COMPLETED if phase is Phase.ENDED or number % 2 == 0 else Status.RUNNING,
            phase=phase if number % 2 else Phase.ENDED,
            accepted=number,
            attempted=number % 4 == 1,
        )
        for number in range(runs)
        for phase in [list(Phase)[number // 2 % len(Phase)]]
    ]
    every = (*records, FULL, HELD)
    ids = [record.run_id for record in every]
    bytes_of = random.Random(7).randbytes
    numbers = range(of_run)
    return Batch(
        runs={record.run_id: record for record in every},
        events=[
            EventRecord(run_id, 5 + n, bytes_of(size).hex().encode(), n % 3 == 0, n or None)
            for run_id in ids
            for n in numbers
        ],
        ticks=[
            TickRecord(run_id, 4 + n, bytes_of(size), beside=bytes_of(size))
            for run_id in ids
            for n in numbers
        ],
        states={run_id: StateRecord(run_id, bytes_of(size), 8) for run_id in ids},
        changes=[
            StateChangeRecord(run_id, 8 + n, bytes_of(size)) for run_id in ids for n in numbers
        ],
        snapshots={run_id: SnapshotRecord(run_id, 4, bytes_of(size)) for run_id in ids},
        inbox=[InboxRecord(run_id, 2 + n, bytes_of(size)) for run_id in ids for n in numbers],
        payloads=[PayloadRecord(run_id, 3 * n, bytes_of(size)) for run_id in ids for n in numbers],
        histories=[
            HistoryRecord(run_id, 9 * n, 9 * n + 8, size * (n + 5), bytes_of(size))
            for run_id in ids
            for n in numbers
        ],
        clock=ClockRecord(time=2**50, wall=2**50 + 1, uptime=2**49, began=2**48),
        released={record.run_id for record in every if record.accepted % 3},
    )


async def fill(url: str, content: Batch) -> None:
    """Write content into the store of a URL, whose process then ends."""
    async with opened_store(url) as store:
        assert await store.commit(content) == []


async def read_tables(url: str) -> Mapping[str, Sequence[Any]]:
    """Return all rows of each table that is copied, by the table's name, in order."""
    tables: dict[str, Sequence[Any]] = {}
    for table, columns in (await list_columns(url)).items():
        names = sorted(set(columns) - OWN_COLUMNS)
        rows = await carry_out(url, f"SELECT {', '.join(names)} FROM {table}")
        tables[table] = sorted(map(tuple, rows), key=repr_of_numbers)
    packs = await carry_out(
        url,
        "SELECT run_id, first, last, internal, emitted_at, envelopes FROM events"
        " ORDER BY run_id, first",
    )
    # How many events a pack has, and whether it is compressed, is of no matter.
    tables["events"] = unpack_events(packs, after=-1, limit=1 << 40, max_bytes=1 << 40)
    return tables


def repr_of_numbers(row: Sequence[Any]) -> str:
    """Return what puts rows in order, of which some have a number for a truth value."""
    return repr([int(value) if isinstance(value, bool) else value for value in row])


async def list_columns(url: str) -> Mapping[str, Sequence[str]]:
    """Return the columns of each table that is copied."""
    if url.startswith("sqlite"):
        rows = await carry_out(
            url,
            "SELECT tables.name, columns.name FROM sqlite_schema AS tables,"
            " pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'",
        )
    else:
        rows = await carry_out(
            url,
            "SELECT table_name, column_name FROM information_schema.columns"
            f" WHERE table_schema = '{schema_of(url)}'",
        )
    columns: dict[str, list[str]] = {}
    for table, column in rows:
        if table not in NOT_COPIED:
            columns.setdefault(table, []).append(column)
    return columns
