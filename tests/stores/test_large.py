"""Large records: no value, page or statement of a store grows with their number."""

import asyncio
import os
import sqlite3
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.backends import DURABLE, FRESH_URLS, opened_store
from tests.support.postgres import temporary_schema
from tests.support.records import NOON, batch_of, make_record
from workflow_server.schemas.listings import HandlerPosition, HandlerQuery, RunPosition
from workflow_server.schemas.records import (
    Batch,
    EventRecord,
    HandlerKey,
    PayloadRecord,
    Phase,
    RunRecord,
    Status,
    TickRecord,
)
from workflow_server.stores.base import PAGE_OF_RUNS_BYTES, Store, StoreError, StoreUnavailable
from workflow_server.stores.batches import batch_to_rows
from workflow_server.stores.packs import PACK_BYTES
from workflow_server.stores.postgres import PostgresStore
from workflow_server.stores.postgres_statements import STATEMENT_BYTES, put_statements
from workflow_server.stores.queries import JOURNAL_BYTES
from workflow_server.stores.sqlite import SqliteStore

LARGE = PAGE_OF_RUNS_BYTES // 2
RUNS = 12
KEY = HandlerKey("", "h")


def make_large(number: int) -> RunRecord:
    """Return a run with a large start event and a large result, of a handler of its own."""
    started_at = NOON + timedelta(seconds=number)
    return make_record(
        f"r{number:02}",
        handler_created_at=started_at,
        started_at=started_at,
        start_event=b'{"start":"' + bytes([65 + number]) * (LARGE // 2) + b'"}',
        result=b'{"result":"' + bytes([97 + number]) * (LARGE // 2) + b'"}',
    )


async def test_a_listing_of_large_runs_comes_in_more_pages_and_leaves_none_out(
    store: Store,
) -> None:
    runs = [make_large(number) for number in range(RUNS)]
    for run in runs:
        await store.commit(batch_of(run))
    pages: list[list[RunRecord]] = []
    query = HandlerQuery(limit=RUNS)
    while page := list((await store.list_handlers(query)).records):
        pages.append(page)
        last = page[-1]
        query = replace(query, after=HandlerPosition(last.handler_created_at, last.handler_id))
    assert [record for page in pages for record in page] == runs[::-1]
    assert {len(page) for page in pages} == {2}


async def test_the_large_runs_of_a_handler_come_in_more_pages_too(store: Store) -> None:
    runs = [
        replace(make_large(number), handler_id="h", current=number == RUNS - 1)
        for number in range(RUNS)
    ]
    for run in runs:
        await store.commit(batch_of(run))
    pages: list[list[RunRecord]] = []
    after: RunPosition | None = None
    while page := list((await store.list_runs(KEY, after=after, limit=RUNS)).records):
        pages.append(page)
        after = RunPosition(page[-1].started_at, page[-1].run_id)
    assert [record.run_id for page in pages for record in page] == [
        run.run_id for run in runs[::-1]
    ]
    assert {len(page) for page in pages} == {2}


async def test_large_payloads_and_ticks_come_back_in_pages(store: Store) -> None:
    run = make_record()
    large = [os.urandom(JOURNAL_BYTES // 3).hex().encode() for _ in range(5)]
    batch = batch_of(run)
    batch.payloads = [PayloadRecord("r", number, large[number]) for number in range(5)]
    batch.ticks = [TickRecord("r", number, large[number]) for number in range(5)]
    await store.commit(batch)
    payloads: list[PayloadRecord] = []
    while page := await store.read_payloads(
        "r", after=payloads[-1].number if payloads else -1, limit=1_000
    ):
        payloads += page
    ticks: list[TickRecord] = []
    is_last = False
    while not is_last:
        ticks_page = await store.read_ticks(
            "r", after=ticks[-1].sequence if ticks else -1, limit=1_000
        )
        ticks += ticks_page.ticks
        is_last = ticks_page.is_last
    assert payloads == batch.payloads
    assert ticks == batch.ticks


async def test_a_batch_of_many_megabytes_is_written_whole(store: Store) -> None:
    runs = [make_large(number) for number in range(RUNS)]
    batch = batch_of(*runs)
    batch.events = [
        EventRecord(run.run_id, sequence, b'"%s"' % (b"x" * 2 * PACK_BYTES), False, 0)
        for run in runs
        for sequence in range(9)
    ]
    batch.ticks = [TickRecord(run.run_id, 0, b'"%s"' % (b"y" * LARGE)) for run in runs]
    await store.commit(batch)
    await store.commit(batch)
    for run in runs:
        assert await store.get_run(run.run_id) == run
        assert await store.next_sequence(run.run_id) == 9
        assert (await store.read_ticks(run.run_id, after=-1, limit=9)).ticks[0].tick[1:2] == b"y"


@pytest.mark.parametrize("kind", DURABLE)
async def test_a_claim_of_large_runs_brings_nothing_of_them_into_memory(
    kind: str, tmp_path: Path
) -> None:
    runs = [replace(make_large(number), phase=Phase.WORKING) for number in range(RUNS)]
    run_ids = [run.run_id for run in runs]
    async with FRESH_URLS[kind](tmp_path) as url, opened_store(url) as store:
        for run in runs:
            await store.commit(batch_of(run))
        tracemalloc.start()
        try:
            assert await store.claim(run_ids) == run_ids
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < LARGE


@pytest.fixture
async def postgres() -> AsyncIterator[PostgresStore]:
    """Yield a store in a schema of its own."""
    async with temporary_schema() as url:
        store = PostgresStore(url)
        await store.start()
        yield store
        await store.stop()


def test_a_statement_of_postgres_takes_rows_up_to_a_bound_and_one_at_least() -> None:
    batch = batch_of(*(make_large(number) for number in range(RUNS)))
    batch.payloads = [PayloadRecord("r00", 0, b"x" * 2 * STATEMENT_BYTES)]
    batch.dropped = [("r01", 5)]
    statements = put_statements(batch_to_rows(batch, 1, worth=0.0))
    sizes = [
        sum(
            len(value)
            for array in arrays
            for row in array
            for value in (row if isinstance(row, tuple) else ())
            if isinstance(value, bytes)
        )
        for _, arrays in statements
    ]
    assert [size <= STATEMENT_BYTES for size in sizes] == [True, True, True, True, False, True]
    assert len(put_statements(batch_to_rows(batch_of(make_record()), 1, worth=0.0))) == 1


async def test_a_large_batch_that_cannot_be_written_leaves_nothing_in_postgres(
    postgres: PostgresStore,
) -> None:
    batch = batch_of(*(make_large(number) for number in range(RUNS)))
    batch.runs["bad"] = make_record("bad", error="a zero: \0")
    with pytest.raises(StoreError) as raised:
        await postgres.commit(batch)
    assert not isinstance(raised.value, StoreUnavailable)
    assert (await postgres.list_handlers(HandlerQuery(limit=9))).records == []
    await postgres.commit(batch_of(make_record("good")))


async def test_what_sqlite_cannot_write_is_said_of_the_batch_and_not_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = sqlite3.connect

    def connect_with_limit(*args: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = limited(*args, **options)  # type: ignore[call-overload]  # as given
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * PAGE_OF_RUNS_BYTES)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_with_limit)
    store = SqliteStore(tmp_path / "runs.db")
    await store.start()
    too_large = Batch(
        runs={"r": make_record()}, payloads=[PayloadRecord("r", 0, bytes(3 * PAGE_OF_RUNS_BYTES))]
    )
    with pytest.raises(StoreError) as raised:
        await store.commit(too_large)
    assert not isinstance(raised.value, StoreUnavailable)
    for number in range(RUNS):
        await store.commit(batch_of(make_large(number)))
    # All of them in one value would be larger than one may be.
    assert len((await store.list_handlers(HandlerQuery(limit=RUNS))).records) == 2
    await store.stop()


@pytest.mark.parametrize("work", ["write_suspects", "claim", "let_go"])
async def test_others_write_while_sqlite_writes_of_many_large_runs_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    monkeypatch.setattr("workflow_server.stores.sqlite_pages.PART_BYTES", LARGE)
    async with opened_store(f"sqlite:///{tmp_path / 'runs.db'}") as store:
        runs = [
            replace(make_large(number), status=Status.RUNNING, phase=Phase.WORKING)
            for number in range(RUNS)
        ]
        for run in runs:
            await store.commit(batch_of(run))
        suspects = [replace(each, strikes=1) for each in await store.list_suspects(limit=RUNS)]
        assert len(suspects) == RUNS
        works: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "write_suspects": lambda: store.write_suspects(suspects),
            "claim": lambda: store.claim([run.run_id for run in runs]),
            "let_go": store.let_go,
        }
        working = asyncio.create_task(works[work]())
        turns = 0
        while not working.done():
            await store.commit(batch_of(make_record("small")))
            turns += 1
        await working
    assert turns >= RUNS // 2
