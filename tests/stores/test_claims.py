"""Incarnations, claims and the fence: who may write which run."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.stores.test_conformance import batch_of, make_events, make_run
from tests.support.backends import DURABLE, FRESH_URLS, opened_store
from tests.support.postgres import Connection, connect, schema_of
from tests.support.records import claim_runs, ended_of
from tests.support.waiting import until
from workflow_server.schemas.records import (
    Batch,
    InboxRecord,
    PayloadRecord,
    Phase,
    ServerRecord,
    SnapshotRecord,
    StateChangeRecord,
    StateRecord,
    Status,
    TickRecord,
    UnfinishedRun,
)
from workflow_server.stores.base import Store, StoreFenced

Execute = Callable[[str], Awaitable[object]]

TAKE_OVER = "DELETE FROM incarnations", "INSERT INTO incarnations DEFAULT VALUES"


@asynccontextmanager
async def opened_beside(url: str) -> AsyncIterator[Execute]:
    """Yield what executes SQL in the database of a URL, and returns its first value."""
    if url.startswith("sqlite"):
        path = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:

            async def execute(sql: str) -> object:
                row = connection.execute(sql).fetchone()
                return row[0] if row else None

            yield execute
    else:
        async with connect() as database:
            await database.execute(f"SET search_path TO {schema_of(url)}")
            yield database.fetchval


@pytest.fixture(params=DURABLE)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """Yield the URL of a fresh store that outlives processes."""
    async with FRESH_URLS[request.param](tmp_path) as url:
        yield url


async def test_a_run_belongs_to_who_has_written_it_first(store: Store) -> None:
    run = make_run()
    await store.commit(batch_of(run))
    assert await claim_runs(store, "r") == [replace(run, attempted=True)]


async def test_a_run_of_an_earlier_incarnation_changes_hands_once(store: Store) -> None:
    run = make_run()
    await store.commit(batch_of(run))
    await store.stop()
    await store.start()
    claimed = replace(run, epoch=1, attempted=True)
    assert await claim_runs(store, "r") == [claimed]
    assert await claim_runs(store, "r") == [claimed]


async def test_a_run_that_was_released_changes_hands_when_it_is_claimed(store: Store) -> None:
    run = make_run()
    await store.commit(batch_of(run))
    await store.commit(Batch(runs={"r": run}, released={"r"}))
    assert await claim_runs(store, "r") == [replace(run, epoch=1, attempted=True)]


async def test_claims_come_in_the_order_that_was_asked_for_without_what_cannot_be_claimed(
    store: Store,
) -> None:
    await store.commit(batch_of(*map(make_run, "abc"), make_run("ended", status=Status.COMPLETED)))
    assert await store.claim(["c", "nobody", "ended", "a"]) == ["c", "a"]
    assert await store.claim([]) == []


async def test_what_the_owner_writes_of_a_run_stays_written(store: Store) -> None:
    await store.commit(batch_of(make_run()))
    await store.stop()
    await store.start()
    (claimed,) = await claim_runs(store, "r")
    written = replace(claimed, attempted=False, strikes=2, resumes=1)
    assert await store.commit(batch_of(written)) == []
    assert await store.get_run("r") == written


def full_batch(*run_ids: str, epoch: int = 0) -> Batch:
    """Return a batch that writes and removes something of each kind of some runs."""
    return Batch(
        runs={run_id: replace(make_run(run_id), epoch=epoch, resumes=5) for run_id in run_ids},
        events=[event for run_id in run_ids for event in make_events(3, run_id)],
        ticks=[TickRecord(run_id, 7, b"{}") for run_id in run_ids],
        states={run_id: StateRecord(run_id, b"{}") for run_id in run_ids},
        changes=[StateChangeRecord(run_id, 0, b"{}") for run_id in run_ids],
        snapshots={run_id: SnapshotRecord(run_id, 7, b"{}") for run_id in run_ids},
        inbox=[InboxRecord(run_id, 3, b"{}") for run_id in run_ids],
        payloads=[PayloadRecord(run_id, 3, b"{}") for run_id in run_ids],
        dropped=[(run_id, 0) for run_id in run_ids],
        taken=dict.fromkeys(run_ids, 1),
    )


async def contents_of(store: Store, run_id: str) -> list[object]:
    """Return all that a store has of a run."""
    return [
        await store.get_run(run_id),
        await store.read_events(run_id, after=-1, limit=100),
        await store.read_ticks(run_id, after=-1, limit=100),
        await store.get_state(run_id),
        await store.get_snapshot(run_id),
        await store.read_inbox(run_id),
        await store.read_payloads(run_id, after=-1, limit=100),
    ]


async def test_a_run_that_has_changed_hands_is_refused_with_all_that_belongs_to_it_alone(
    store: Store,
) -> None:
    batch = batch_of(make_run("kept"), make_run("lost"))
    batch.inbox = [InboxRecord("lost", 0, b"{}")]
    batch.payloads = [PayloadRecord("lost", 0, b"{}")]
    await store.commit(batch)
    await store.stop()
    await store.start()
    await store.claim(["kept", "lost"])
    before = await contents_of(store, "lost")
    late = full_batch("kept", "lost")
    late.runs["kept"] = replace(late.runs["kept"], epoch=1)
    assert list(await store.commit(late)) == ["lost"]
    assert await contents_of(store, "lost") == before
    assert len(await store.read_events("kept", after=-1, limit=100)) == 3


async def test_the_end_of_a_run_that_has_changed_hands_is_not_overwritten(store: Store) -> None:
    await store.commit(batch_of(make_run()))
    await store.stop()
    await store.start()
    (claimed,) = await claim_runs(store, "r")
    ended = replace(
        claimed, status=Status.COMPLETED, result=b"{}", completed_at=make_run().started_at
    )
    await store.commit(batch_of(ended))
    late = make_run(status=Status.FAILED)
    assert list(await store.commit(batch_of(late))) == ["r"]
    assert await store.get_run("r") == ended


async def test_an_incarnation_that_was_followed_by_another_writes_nothing(url: str) -> None:
    async with opened_store(url) as store, opened_beside(url) as execute:
        await store.commit(batch_of(make_run()))
        before = await contents_of(store, "r")
        await store.check()
        for statement in TAKE_OVER:
            await execute(statement)
        batch = full_batch("r", "new")
        batch.cleared, batch.finished = {"r"}, {"r"}
        purges = Batch(purged=[ended_of(make_run())], purged_runs=["r"])
        writes = (
            partial(store.commit, batch),
            partial(store.commit, Batch(events=make_events(2), finished={"r"})),
            partial(store.commit, purges),
            partial(store.commit, Batch()),
            partial(store.claim, ["r"]),
            partial(store.describe, SERVER),
            partial(store.note_copy, "there"),
            partial(store.note_copy, None),
            store.check,
        )
        for write in writes:
            with pytest.raises(StoreFenced):
                await write()
        assert await contents_of(store, "r") == before
        assert await store.get_run("new") is None


async def test_an_incarnation_that_starts_anew_writes_again(url: str) -> None:
    async with opened_store(url) as store, opened_beside(url) as execute:
        await store.commit(batch_of(make_run()))
        for statement in TAKE_OVER:
            await execute(statement)
        await store.stop()
        await store.start()
        await store.check()
        (claimed,) = await claim_runs(store, "r")
        assert claimed.epoch == 1
        assert await store.commit(batch_of(claimed)) == []


async def test_numbers_of_incarnations_are_never_used_again(url: str) -> None:
    numbers: list[object] = []
    for _ in range(3):
        async with opened_store(url), opened_beside(url) as execute:
            numbers.append(await execute("SELECT id FROM incarnations"))
            await execute("DELETE FROM incarnations")
    assert numbers == [1, 2, 3]


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_the_run_of_another_incarnation_that_is_alive_is_left_to_it(url: str) -> None:
    async with opened_store(url) as store, opened_beside(url) as execute:
        await store.commit(batch_of(make_run("mine"), make_run("theirs"), make_run("dead")))
        await execute("INSERT INTO incarnations (worker_id) VALUES (1)")
        await execute(
            "UPDATE runs SET owner = (SELECT max(id) FROM incarnations) WHERE run_id = 'theirs'"
        )
        await execute("UPDATE runs SET owner = 0 WHERE run_id = 'dead'")
        claimed = await claim_runs(store, "dead", "theirs", "mine")
        assert [(run.run_id, run.epoch) for run in claimed] == [("dead", 1), ("mine", 0)]
        assert list(await store.commit(full_batch("mine", "theirs"))) == ["theirs"]


SERVER = ServerRecord(
    address="http://127.0.0.1:8000",
    version="0.1.0",
    workflows=("größe/𝔞", "w"),
    state="serving",
)


async def test_what_a_server_says_of_itself_is_read_back(store: Store) -> None:
    assert await store.list_servers() == [ServerRecord()]
    await store.describe(SERVER)
    assert await store.list_servers() == [SERVER]
    await store.describe(ServerRecord(state="draining"))
    assert await store.list_servers() == [ServerRecord(state="draining")]
    await store.stop()
    await store.start()
    assert await store.list_servers() == [ServerRecord()]


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.RUNNING])
async def test_an_ended_run_is_never_made_to_run_again(store: Store, status: Status) -> None:
    ended = make_run("ended", status=status)
    await store.commit(batch_of(make_run("ended"), make_run("other")))
    await store.commit(batch_of(ended))
    before = await contents_of(store, "ended")
    late = full_batch("ended", "other")
    late.finished, late.cleared = {"ended"}, {"ended"}
    assert list(await store.commit(late)) == ["ended"]
    assert await contents_of(store, "ended") == before
    assert len(await store.read_events("other", after=-1, limit=100)) == 3
    assert await store.list_unfinished(Phase.WORKING, limit=9) == [UnfinishedRun(0, "other")]


async def test_what_an_ended_run_writes_of_its_end_is_written(store: Store) -> None:
    await store.commit(batch_of(make_run()))
    await store.commit(batch_of(make_run(status=Status.FAILED)))
    again = replace(make_run(status=Status.FAILED), error="Why.")
    assert await store.commit(batch_of(again)) == []
    assert await store.get_run("r") == again


async def is_waited_for(watching: Connection, waited_for: Connection) -> bool:
    """Return whether a statement waits for what a connection has locked."""
    sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid)))"
    waits: bool = await watching.fetchval(sql, waited_for.get_server_pid())
    return waits


@pytest.mark.parametrize("owner", ["NULL", "0"])
@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_a_server_that_joins_while_runs_are_claimed_keeps_its_runs(
    url: str, owner: str
) -> None:
    # The claim has begun when the other server is not there yet, and waits for the very row that
    # the other takes: it sees that row as it is then, and the incarnations as they were before.
    async with (
        opened_store(url) as store,
        opened_beside(url) as execute,
        connect() as joining,
        connect() as watching,
    ):
        await store.commit(batch_of(make_run("theirs"), make_run("mine")))
        await execute(f"UPDATE runs SET owner = {owner}")
        await joining.execute(f"SET search_path TO {schema_of(url)}")
        transaction = joining.transaction()
        await transaction.start()
        await joining.execute("INSERT INTO incarnations (worker_id) VALUES (1)")
        await joining.execute(
            "UPDATE runs SET owner = (SELECT max(id) FROM incarnations) WHERE run_id = 'theirs'"
        )
        claiming = asyncio.ensure_future(store.claim(["theirs", "mine"]))
        await until(lambda: is_waited_for(watching, joining))
        await transaction.commit()
        claimed = await claiming
        assert claimed == ["mine"]
        has = await execute("SELECT owner FROM runs WHERE run_id = 'theirs'")
        assert has == await execute("SELECT id FROM incarnations WHERE worker_id = 1")
