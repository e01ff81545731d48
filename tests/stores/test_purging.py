"""The contract on purging: what was seen to have ended is removed, part by part, and no other."""

from dataclasses import replace
from random import Random

import pytest

from tests.stores.test_conformance import NOON, R, list_ids, make_events, make_run, read_ticks
from tests.stores.test_removing import (
    assert_full,
    list_inbox,
    list_payloads,
    make_full,
    make_successions,
)
from tests.support.records import ended_of
from workflow_server.schemas.listings import RunPosition
from workflow_server.schemas.records import (
    Batch,
    EndedHandler,
    EventRecord,
    Status,
)
from workflow_server.stores.base import Store
from workflow_server.stores.purging import PURGED_RUNS

MANY = PURGED_RUNS + 3
ENVELOPE = b'"%b"' % Random(1).randbytes(50_000).hex().encode()  # which cannot be compressed much
LONG = [EventRecord("r", number, ENVELOPE, False) for number in range(120)]
LARGE_RESULT = b'"%b"' % (b"x" * 2_000_000)


def make_continued() -> Batch:
    """Return a batch in which the handler of the run `r` runs again."""
    return Batch(
        runs={
            "r": replace(make_run("r", status=Status.COMPLETED), current=False),
            "next": replace(make_run("next", minute=1), handler_id="r", handler_created_at=NOON),
        },
        superseded={"r"},
    )


async def purge(store: Store, ended: EndedHandler) -> int:
    """Purge a handler until nothing of it is left, and return how many batches that took."""
    batches = 0
    while await store.get_handler(ended.key) is not None:
        await store.commit(Batch(purged=[ended]))
        batches += 1
    return batches + await sweep(store)


async def sweep(store: Store) -> int:
    """Remove what is left of purged runs, and return how many batches that took."""
    batches = 0
    while left := await store.list_purged():
        await store.commit(Batch(purged_runs=[left[0]]))
        batches += 1
    return batches


async def test_a_handler_that_was_continued_after_it_was_listed_stays(store: Store) -> None:
    await store.commit(make_full("r"))
    await store.commit(Batch(runs={"r": make_run("r", status=Status.COMPLETED)}))
    [listed] = await store.list_ended(before=NOON.replace(year=2100), limit=9)
    await store.commit(make_continued())
    await store.commit(Batch(purged=[listed]))
    handler = await store.get_handler(R)
    assert handler is not None
    assert handler.run_id == "next"
    assert list(await store.read_events("r", after=-1, limit=9)) == make_events(3)
    assert list(await store.list_purged()) == []


async def test_a_handler_that_was_continued_and_ended_again_stays(store: Store) -> None:
    ended = make_run("r", status=Status.COMPLETED)
    await store.commit(Batch(runs={"r": ended}))
    batch = make_continued()
    batch.runs["next"] = replace(batch.runs["next"], status=Status.FAILED, completed_at=NOON)
    await store.commit(batch)
    await store.commit(Batch(purged=[ended_of(ended)]))
    assert await store.get_run("next") == batch.runs["next"]
    assert await store.get_run("r") is not None


async def test_a_handler_that_is_continued_in_the_batch_that_purges_it_stays(store: Store) -> None:
    ended = make_run("r", status=Status.COMPLETED)
    await store.commit(Batch(runs={"r": ended}))
    batch = make_continued()
    batch.purged.append(ended_of(ended))
    await store.commit(batch)
    await store.commit(batch)
    assert (await store.get_run("next"), await store.get_run("r")) == (
        batch.runs["next"],
        batch.runs["r"],
    )


async def test_a_handler_that_was_purged_and_began_anew_is_not_purged_again(store: Store) -> None:
    ended = make_run("r", status=Status.COMPLETED)
    await store.commit(Batch(runs={"r": ended}))
    await purge(store, ended_of(ended))
    anew = replace(make_run("anew"), handler_id="r")
    await store.commit(Batch(runs={"anew": anew}))
    await store.commit(Batch(purged=[ended_of(ended)]))
    assert await store.get_handler(R) == anew


async def test_a_handler_of_another_tenant_with_the_same_id_stays(store: Store) -> None:
    mine = make_run("r", status=Status.COMPLETED)
    theirs = replace(make_run("theirs", status=Status.COMPLETED), handler_id="r", tenant="t")
    await store.commit(Batch(runs={"r": mine, "theirs": theirs}))
    await purge(store, ended_of(mine))
    assert await store.get_run("r") is None
    assert await store.get_handler(theirs.key) == theirs


async def test_a_long_run_is_removed_in_parts_and_its_handler_is_gone_at_once(
    store: Store, durable: bool
) -> None:
    run = make_run("r", status=Status.COMPLETED)
    await store.commit(Batch(runs={"r": run}, events=LONG))
    await store.commit(Batch(purged=[ended_of(run)]))
    assert await store.get_handler(R) is None
    assert bool(await store.list_purged()) is durable
    assert bool(await sweep(store)) is durable
    assert await store.next_sequence("r") == 0


async def test_a_reader_of_a_run_that_is_being_removed_never_reads_over_a_gap(
    store: Store, durable: bool
) -> None:
    run = make_run("r", status=Status.COMPLETED)
    await store.commit(Batch(runs={"r": run}, events=LONG))
    [first, *_] = await store.read_events("r", after=-1, limit=1)
    await store.commit(Batch(purged=[ended_of(run)]))
    read, after = [first], first.sequence
    while page := await store.read_events("r", after=after, limit=1):
        read += page
        after = page[-1].sequence
    assert [event.sequence for event in read] == list(range(len(read)))
    assert (1 < len(read) < 120) is durable


async def test_a_handler_of_many_runs_is_removed_in_parts_its_current_run_last(
    store: Store, durable: bool
) -> None:
    runs = {
        f"r{number}": replace(
            make_run(f"r{number}", minute=number, status=Status.COMPLETED),
            handler_id="r",
            handler_created_at=NOON,
            current=number + 1 == MANY,
        )
        for number in range(MANY)
    }
    await store.commit(Batch(runs=runs))
    ended = EndedHandler(R, f"r{MANY - 1}")
    await store.commit(Batch(purged=[ended]))
    handler = await store.get_handler(R)
    assert (handler is not None) is durable
    assert await count_runs(store) == (MANY - PURGED_RUNS if durable else 0)
    await purge(store, ended)
    assert await count_runs(store) == 0


async def count_runs(store: Store) -> int:
    """Return how many runs the handler has."""
    count, after = 0, None
    while page := (await store.list_runs(R, after=after, limit=100)).records:
        count += len(page)
        after = RunPosition(page[-1].started_at, page[-1].run_id)
    return count


async def test_runs_with_large_results_are_removed_few_at_a_time(
    store: Store, durable: bool
) -> None:
    batch = make_successions(*((f"r{number}", number) for number in range(12)))
    batch.runs = {key: replace(run, result=LARGE_RESULT) for key, run in batch.runs.items()}
    await store.commit(batch)
    ended = EndedHandler(R, "r11")
    await store.commit(Batch(purged=[ended]))
    assert (await count_runs(store) > 6) is durable
    await purge(store, ended)
    assert await count_runs(store) == 0


async def test_of_many_purged_runs_nothing_is_left(store: Store) -> None:
    run_ids = [f"r{number}" for number in range(2 * PURGED_RUNS + 1)]
    batch = make_full(*run_ids, "kept")
    await store.commit(batch)
    ended = [ended_of(batch.runs[run_id]) for run_id in run_ids]
    while await list_ids(store) != ["kept"]:
        await store.commit(Batch(purged=ended))
    await sweep(store)
    for run_id in run_ids:
        assert await store.get_run(run_id) is None
        assert await store.get_state(run_id) is None
        assert await store.get_snapshot(run_id) is None
        assert await store.next_sequence(run_id) == 0
        assert await read_ticks(store, run_id) == []
        assert await list_inbox(store, run_id) == []
        assert await list_payloads(store, run_id) == []
    await assert_full(store, "kept")


@pytest.fixture
def durable(request: pytest.FixtureRequest) -> bool:
    """Return whether the store of the test removes a part at a time, as those on disk do."""
    return "memory" not in request.node.name
