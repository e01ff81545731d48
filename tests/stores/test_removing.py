"""The contract on inboxes, finished runs and purged handlers, kept by every store."""

from dataclasses import replace

from schemas.records import Batch, InboxRecord, Phase, SnapshotRecord, StateRecord
from stores.base import Store
from tests.stores.test_conformance import (
    NOBODY,
    R,
    list_ids,
    make_events,
    make_run,
    make_ticks,
    read_ticks,
)


def make_inbox(*numbers: int, run_id: str = "r") -> list[InboxRecord]:
    """Return events for the inbox of a run."""
    return [InboxRecord(run_id, number, b'{"i":%d}' % number) for number in numbers]


def make_full(*run_ids: str) -> Batch:
    """Return a batch with all that there can be of a run, for each of these."""
    return Batch(
        runs={run_id: replace(make_run(run_id), phase=Phase.QUEUED) for run_id in run_ids},
        events=[event for run_id in run_ids for event in make_events(3, run_id)],
        ticks=[tick for run_id in run_ids for tick in make_ticks(3, run_id)],
        states={run_id: StateRecord(run_id, b"state") for run_id in run_ids},
        snapshots={run_id: SnapshotRecord(run_id, 1, b"snapshot") for run_id in run_ids},
        inbox=[item for run_id in run_ids for item in make_inbox(0, 1, run_id=run_id)],
    )


async def list_inbox(store: Store, run_id: str = "r") -> list[InboxRecord]:
    """Return what is in the inbox of a run."""
    return list(await store.read_inbox(run_id))


async def assert_finished(store: Store, run_id: str = "r") -> None:
    """Check that nothing is left of a run that nobody resumes but what there is to be seen."""
    assert await read_ticks(store, run_id) == []
    assert await store.get_snapshot(run_id) is None
    assert await list_inbox(store, run_id) == []
    assert await store.get_run(run_id) is not None
    assert await store.get_state(run_id) == b"state"
    assert list(await store.read_events(run_id, after=-1, limit=9)) == make_events(3, run_id)


async def assert_full(store: Store, run_id: str) -> None:
    """Check that all that `make_full` made of a run is there."""
    assert await read_ticks(store, run_id) == make_ticks(3, run_id)[1:]
    assert await store.get_snapshot(run_id) == SnapshotRecord(run_id, 1, b"snapshot")
    assert await list_inbox(store, run_id) == make_inbox(0, 1, run_id=run_id)
    assert await store.get_state(run_id) == b"state"
    assert await store.count_events(run_id) == 3


async def test_an_inbox_is_read_in_the_order_of_its_numbers(store: Store) -> None:
    await store.commit(Batch(runs={"r": make_run()}, inbox=make_inbox(*range(12))))
    await store.commit(Batch(inbox=[*make_inbox(12), *make_inbox(0, run_id="r")]))
    assert await list_inbox(store) == make_inbox(*range(13))


async def test_a_delivery_keeps_its_bytes(store: Store) -> None:
    delivery = InboxRecord("r", 0, b"\0\xff" + b"x" * 100_000)
    await store.commit(Batch(runs={"r": make_run()}, inbox=[delivery]))
    assert await list_inbox(store) == [delivery]


async def test_runs_do_not_see_each_others_inboxes(store: Store) -> None:
    await store.commit(make_full("a", "b"))
    await store.commit(Batch(taken={"a": 1}))
    assert await list_inbox(store, "a") == []
    assert await list_inbox(store, "b") == make_inbox(0, 1, run_id="b")


async def test_what_is_taken_from_an_inbox_is_removed_up_to_its_number(store: Store) -> None:
    await store.commit(Batch(runs={"r": make_run()}, inbox=make_inbox(0, 1, 2)))
    await store.commit(Batch(taken={"r": 1}))
    assert await list_inbox(store) == make_inbox(2)
    await store.commit(Batch(inbox=make_inbox(3)))
    assert await list_inbox(store) == make_inbox(2, 3)


async def test_what_comes_and_is_taken_in_one_batch_is_not_there(store: Store) -> None:
    batch = Batch(runs={"r": make_run()}, inbox=make_inbox(0, 1, 2), taken={"r": 1})
    await store.commit(batch)
    await store.commit(batch)
    assert await list_inbox(store) == make_inbox(2)


async def test_a_batch_with_an_inbox_may_be_written_again(store: Store) -> None:
    first = Batch(runs={"r": make_run()}, inbox=make_inbox(0, 1))
    await store.commit(first)
    await store.commit(first)
    await store.commit(Batch(taken={"r": 0}, inbox=make_inbox(2)))
    await store.commit(Batch(taken={"r": 0}, inbox=make_inbox(2)))
    assert await list_inbox(store) == make_inbox(1, 2)


async def test_a_finished_run_keeps_no_ticks_no_snapshot_and_no_inbox(store: Store) -> None:
    await store.commit(make_full("r", "other"))
    await store.commit(Batch(finished={"r"}))
    await assert_finished(store)
    await assert_full(store, "other")


async def test_a_finished_run_keeps_none_of_those_of_its_own_batch(store: Store) -> None:
    batch = make_full("r", "other")
    batch.finished.add("r")
    await store.commit(batch)
    await store.commit(batch)
    await assert_finished(store)
    await assert_full(store, "other")


async def test_a_run_may_finish_with_what_was_before_and_what_comes_with_it(store: Store) -> None:
    await store.commit(make_full("r"))
    await store.commit(
        Batch(
            ticks=make_ticks(5),
            snapshots={"r": SnapshotRecord("r", 4, b"later")},
            inbox=make_inbox(2),
            taken={"r": 0},
            finished={"r"},
        )
    )
    await assert_finished(store)


async def test_many_runs_finish_in_one_batch(store: Store) -> None:
    run_ids = [f"r{number}" for number in range(300)]
    await store.commit(make_full(*run_ids, "other"))
    await store.commit(Batch(finished={*run_ids}))
    for run_id in run_ids[::50]:
        await assert_finished(store, run_id)
    await assert_full(store, "other")


async def test_what_is_taken_and_finished_of_unknown_runs_is_passed_over(store: Store) -> None:
    await store.commit(make_full("r"))
    await store.commit(Batch(taken={"nobody's": 3}, finished={"nobody's, too"}))
    await assert_full(store, "r")


async def test_a_purged_handler_is_removed_with_all_that_belongs_to_it(store: Store) -> None:
    await store.commit(make_full("r", "kept"))
    await store.commit(Batch(purged=[R]))
    assert await store.get_handler(R) is None
    assert await store.get_run("r") is None
    assert await store.get_state("r") is None
    assert await store.get_snapshot("r") is None
    assert await store.count_events("r") == 0
    assert await read_ticks(store) == []
    assert await list_inbox(store) == []
    assert [place.run_id for place in await store.list_unfinished(Phase.QUEUED, limit=9)] == [
        "kept"
    ]
    assert await list_ids(store) == ["kept"]
    await assert_full(store, "kept")


async def test_all_runs_of_a_purged_handler_are_removed(store: Store) -> None:
    batch = make_full("earlier", "r")
    batch.runs["earlier"] = replace(batch.runs["earlier"], handler_id="r", current=False)
    await store.commit(batch)
    await store.commit(Batch(purged=[R]))
    assert await store.get_run("earlier") is None
    assert await store.count_events("earlier") == 0
    assert await list_inbox(store, "earlier") == []


async def test_purging_comes_last_in_its_batch(store: Store) -> None:
    batch = make_full("r")
    batch.finished.add("r")
    batch.purged.append(R)
    await store.commit(batch)
    assert await store.get_handler(R) is None
    assert await store.count_events("r") == 0


async def test_purging_an_unknown_handler_is_passed_over(store: Store) -> None:
    await store.commit(Batch(purged=[NOBODY]))
    assert await list_ids(store) == []
