"""A copy of a store has all that the store has, however often it was cut off."""

import random
import sqlite3
import tracemalloc
from asyncio import create_subprocess_exec
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from tests.support.backends import DURABLE, FRESH_URLS, opened_store
from tests.support.command import COMMAND, make_environment
from tests.support.copied import (
    FULL,
    NOT_COPIED,
    OWN_COLUMNS,
    fill,
    list_columns,
    make_content,
    read_tables,
)
from tests.support.older_databases import OLDER_URLS, carry_out
from tests.support.records import claim_runs
from tests.support.waiting import DEADLINE, until
from workflow_server.schemas.records import Batch, ClockRecord, EventRecord, PayloadRecord, Suspect
from workflow_server.stores.backends import open_store
from workflow_server.stores.base import Store, StoreError
from workflow_server.stores.copying import Copied, Side, compare_runs, copy_runs, refuse_unfinished

PAIRS = list(product(DURABLE, DURABLE))
over_pairs = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: " to ".join(pair))


class Urls(NamedTuple):
    """URLs of two stores of which there is nothing yet."""

    source: str
    target: str


@pytest.fixture
async def urls(pair: tuple[str, str], tmp_path: Path) -> AsyncIterator[Urls]:
    """Yield the URLs of a store to copy from, and of one to copy to."""
    async with AsyncExitStack() as stack:
        yield Urls(
            *[
                await stack.enter_async_context(FRESH_URLS[kind](tmp_path / name))
                for name, kind in zip(("from", "to"), pair, strict=True)
            ]
        )


async def copy(urls: Urls, *, only_compare: bool = False) -> Copied:
    """Copy one store into the other, as the command does."""
    work = compare_runs if only_compare else copy_runs
    async with opened_store(urls.source) as source, opened_store(urls.target) as target:
        return await work(Side(source, "here"), Side(target, "there"), progress=lambda runs: None)


@over_pairs
async def test_each_row_of_each_table_is_in_the_copy(urls: Urls) -> None:
    await fill(urls.source, make_content(200))
    before = await read_tables(urls.source)
    copied = await copy(urls)
    assert {name for name, rows in before.items() if not rows} == set()
    assert await read_tables(urls.target) == before
    assert await read_tables(urls.source) == before
    assert (copied.runs, copied.before, copied.events) == (202, 0, 202 * 3)
    assert (await copy(urls, only_compare=True)).runs == 202


@over_pairs
async def test_both_stores_have_the_same_tables(urls: Urls) -> None:
    """A table that is new has to be copied, or has to be named with the reason why it is not."""
    await fill(urls.source, make_content(1))
    await fill(urls.target, make_content(1))
    columns = [await list_columns(url) for url in urls]
    assert {name: {*columns[0][name]} - OWN_COLUMNS for name in columns[0]} == {
        name: {*columns[1][name]} - OWN_COLUMNS for name in columns[1]
    }
    assert columns[0].keys() & NOT_COPIED.keys() == set()


@over_pairs
async def test_nobody_has_a_run_of_the_copy_and_what_a_crash_left_is_judged(urls: Urls) -> None:
    """Those that were at work in a crash are of an incarnation that is dead, and are claimed."""
    await fill(urls.source, make_content(40))
    await copy(urls)
    async with opened_store(urls.source) as source, opened_store(urls.target) as target:
        suspects = await list_suspects(source)
        assert {suspect.was_present for suspect in suspects} == {False, True}
        assert await list_suspects(target) == suspects
        run_ids = [suspect.run_id for suspect in suspects]
        epochs = {run.run_id: run.epoch for run in await claim_runs(target, *run_ids)}
        assert epochs == dict.fromkeys(run_ids, FULL.epoch + 1)
    owners = "SELECT owner FROM runs WHERE status <> 'running' AND owner IS NOT NULL"
    assert await carry_out(urls.target, owners) == []


async def list_suspects(store: Store) -> list[Suspect]:
    """Return the suspects of a store; their order by id is the store's own."""
    suspects = await store.list_suspects(limit=1_000)
    return sorted(suspects, key=lambda suspect: (suspect.accepted, suspect.run_id))


@pytest.mark.parametrize("older", OLDER_URLS)
@pytest.mark.parametrize("kind", DURABLE)
async def test_a_database_of_an_earlier_release_is_copied(
    older: str, kind: str, tmp_path: Path
) -> None:
    async with OLDER_URLS[older](tmp_path) as source, FRESH_URLS[kind](tmp_path) as target:
        urls = Urls(source, target)
        assert (await copy(urls)).runs == 17
        before, after = [await read_tables(url) for url in urls]
        # Questions of earlier releases have fewer parts, and are written with all of them.
        assert {**after, "runs": ()} == {**before, "runs": ()}
        async with opened_store(source) as old, opened_store(target) as new:
            for run_id in await old.list_run_ids(limit=100):
                assert await new.get_run(run_id) == await old.get_run(run_id)


@pytest.mark.parametrize("pair", [("sqlite", "postgres"), ("postgres", "sqlite")])
async def test_a_run_of_a_hundred_thousand_events_is_copied(urls: Urls) -> None:
    many = replace(FULL, run_id="many", handler_id="many")
    async with opened_store(urls.source) as store:
        await store.commit(Batch(runs={"many": many}))
        for first in range(0, 100_000, 5_000):
            numbers = range(first, first + 5_000)
            events = [EventRecord("many", n, b'{"n":%d}' % n, internal=False) for n in numbers]
            await store.commit(Batch(events=events))
    assert (await copy(urls)).events == 100_000
    before, after = [await read_tables(url) for url in urls]
    assert after == before


@over_pairs
async def test_a_copy_takes_no_more_memory_where_there_is_more_to_copy(urls: Urls) -> None:
    document = b'"%s"' % (b"a" * (1 << 20))
    async with opened_store(urls.source) as store:
        for name in map(str, range(32)):
            run = replace(FULL, run_id=name, handler_id=name, result=document)
            payloads = [PayloadRecord(name, number, document) for number in range(2)]
            await store.commit(Batch(runs={name: run}, payloads=payloads))
    tracemalloc.start()
    try:
        copied = await copy(urls)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert copied.size > 96 << 20
    assert peak < 48 << 20


async def test_the_largest_values_are_copied(tmp_path: Path) -> None:
    """As those of a result of 9 MB, in the run and in the event that ends it."""
    document = b'"%s"' % random.Random(9).randbytes(4_500_000).hex().encode()
    content = Batch(
        runs={"full": replace(FULL, result=document)},
        events=[EventRecord("full", 5, document, internal=False)],
    )
    async with FRESH_URLS["sqlite"](tmp_path) as source, FRESH_URLS["postgres"](tmp_path) as target:
        await fill(source, content)
        await copy(Urls(source, target))
        assert await read_tables(target) == await read_tables(source)


@over_pairs
async def test_a_copy_that_is_killed_goes_on_where_it_was(urls: Urls) -> None:
    """Killed as soon as it has written so many rows more, until it comes to its end."""
    script = random.Random(7)
    await fill(urls.source, make_content(30, of_run=60, size=1_200))
    before = await read_tables(urls.source)
    kills = 0
    while True:
        process = await start_copy(urls)
        written = await count_rows(urls.target)
        enough = written + script.randrange(200, 900)
        await until(
            lambda: has_written(process, urls.target, enough),  # noqa: B023  # at once
            within=5 * DEADLINE,
        )
        if process.returncode is None:
            process.kill()
            kills += 1
        output, errors = await process.communicate()
        if process.returncode == 0:
            break
        assert (process.returncode, errors) == (-9, b"")
    assert kills > 0
    assert output.startswith(b"Copied 32 runs with 1,920 events (")
    assert await read_tables(urls.target) == before


async def start_copy(urls: Urls) -> Process:
    """Start the command that copies."""
    arguments = ("copy", "--from", urls.source, "--to", urls.target)
    return await create_subprocess_exec(
        *(COMMAND, *arguments), stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=make_environment()
    )


async def has_written(process: Process, url: str, rows: int) -> bool:
    """Return whether a copy has come to its end, or has written so many rows."""
    return process.returncode is not None or await count_rows(url) >= rows


async def count_rows(url: str) -> int:
    """Return how many rows a store has in the tables that a copy fills first and last."""
    sql = "SELECT (SELECT count(*) FROM ticks) + (SELECT count(*) FROM runs)"
    if url.startswith("sqlite") and not Path(url.removeprefix("sqlite:///")).exists():
        return 0  # and it is not to be made here
    try:
        ((rows,),) = await carry_out(url, sql)
    except (asyncpg.PostgresError, sqlite3.OperationalError):  # which make it meanwhile
        return 0
    return int(rows)


@over_pairs
async def test_a_store_with_runs_of_its_own_is_refused(urls: Urls) -> None:
    await fill(urls.source, make_content(4))
    await fill(urls.target, make_content(1))
    before = await read_tables(urls.target)
    with pytest.raises(StoreError, match="there has runs already: copy into"):
        await copy(urls)
    assert await read_tables(urls.target) == before


@over_pairs
async def test_a_copy_that_was_cut_off_is_served_by_nobody_and_ends_with_the_same_source(
    urls: Urls,
) -> None:
    await fill(urls.source, make_content(4))
    async with opened_store(urls.target) as store:
        await store.note_copy("here")
        await store.commit(Batch(clock=make_content(1).clock))
    store = open_store(urls.target)
    await store.start()
    with pytest.raises(StoreError, match="The store is an unfinished copy of here: finish it"):
        await refuse_unfinished(store, within=DEADLINE)
    assert (await copy(urls)).runs == 6
    async with opened_store(urls.target) as store:
        await refuse_unfinished(store, within=DEADLINE)


@over_pairs
async def test_a_source_that_was_served_since_is_not_gone_on_with(urls: Urls) -> None:
    await fill(urls.source, make_content(4))
    async with opened_store(urls.target) as store:
        await store.note_copy("here")
        await store.commit(Batch(clock=ClockRecord(time=1, wall=1, uptime=1, began=1)))
    with pytest.raises(StoreError, match="there is an unfinished copy of here, which was served"):
        await copy(urls)


CHANGES = {
    "a record": Batch(runs={"r1": replace(make_content(4).runs["r1"], error="other")}),
    "an event": Batch(events=[EventRecord("r1", 8, b"{}", internal=False)]),
    "a run": Batch(runs={"more": replace(FULL, run_id="more", handler_id="more")}),
}

FINDINGS = {
    "a record": "The run r1 is not in there as it is in here",
    "an event": "The run r1 is not in there as it is in here",
    "a run": "there has 7 runs and here 6",
}


@over_pairs
@pytest.mark.parametrize("change", CHANGES)
async def test_what_is_not_the_same_is_found(urls: Urls, change: str) -> None:
    content = make_content(4)
    await fill(urls.source, content)
    await copy(urls)
    await fill(urls.target, CHANGES[change])
    with pytest.raises(StoreError, match=FINDINGS[change]):
        await copy(urls, only_compare=True)


@over_pairs
async def test_a_missing_run_is_found(urls: Urls) -> None:
    await fill(urls.source, make_content(0))
    with pytest.raises(StoreError, match="The run full is not in there as it is in here"):
        await copy(urls, only_compare=True)
