"""The contract on inboxes, payloads, and finished, superseded and purged runs, in every store."""

from dataclasses import replace
from datetime import timedelta

from tests.stores.test_conformance import (
    NOBODY,
    NOON,
    R,
    list_ids,
    make_events,
    make_run,
    make_ticks,
    read_ticks,
)
from workflow_server.schemas.records import (
    Batch,
    EndedHandler,
    HistoryRecord,
    InboxRecord,
    PayloadRecord,
    Phase,
    SnapshotRecord,
    StateChangeRecord,
    StateRecord,
    Status,
    StoredState,
)
from workflow_server.stores.base import Store

ENDED = EndedHandler(R, "r")
STATE = StoredState(b"state", (b"change 0", b"change 1"), 2)


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
        changes=[change for run_id in run_ids for change in make_changes(2, run_id)],
        snapshots={run_id: SnapshotRecord(run_id, 1, b"snapshot") for run_id in run_ids},
        inbox=[item for run_id in run_ids for item in make_inbox(0, 1, run_id=run_id)],
        payloads=[item for run_id in run_ids for item in make_payloads(2, run_id)],
        histories=[HistoryRecord(run_id, 0, 1, 9, b"histories") for run_id in run_ids],
    )


def make_changes(count: int, run_id: str = "r") -> list[StateChangeRecord]:
    """Return the first changes of a run's state."""
    return [StateChangeRecord(run_id, number, b"change %d" % number) for number in range(count)]


def make_payloads(count: int, run_id: str = "r") -> list[PayloadRecord]:
    """Return the first payloads of a run."""
    return [PayloadRecord(run_id, number, b'{"p":%d}' % number) for number in range(count)]


async def list_payloads(store: Store, run_id: str = "r", limit: int = 9) -> list[PayloadRecord]:
    """Return the payloads of a run, read page by page."""
    read: list[PayloadRecord] = []
    after = -1
    while page := await store.read_payloads(run_id, after=after, limit=limit):
        assert len(page) <= limit
        read += page
        after = page[-1].number
    return read


async def list_inbox(store: Store, run_id: str = "r") -> list[InboxRecord]:
    """Return what is in the inbox of a run."""
    return list(await store.read_inbox(run_id))


async def assert_finished(
    store: Store, run_id: str = "r", *, state: StoredState | None = STATE
) -> None:
    """Check that nothing is left of a run that nobody resumes but what there is to be seen."""
    assert await read_ticks(store, run_id) == []
    assert await store.get_snapshot(run_id) is None
    assert await list_inbox(store, run_id) == []
    assert await store.get_run(run_id) is not None
    assert await store.get_state(run_id) == state
    assert list(await store.read_events(run_id, after=-1, limit=9)) == make_events(3, run_id)


async def assert_full(store: Store, run_id: str) -> None:
    """Check that all that `make_full` made of a run is there."""
    assert await read_ticks(store, run_id) == make_ticks(3, run_id)[1:]
    assert await store.get_snapshot(run_id) == SnapshotRecord(run_id, 1, b"snapshot")
    assert await list_inbox(store, run_id) == make_inbox(0, 1, run_id=run_id)
    assert await list_payloads(store, run_id) == make_payloads(2, run_id)
    assert await store.get_state(run_id) == STATE
    assert await store.next_sequence(run_id) == 3


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


async def test_payloads_are_read_in_the_order_of_their_numbers(store: Store) -> None:
    payloads = make_payloads(12)
    await store.commit(Batch(runs={"r": make_run()}, payloads=payloads[:11]))
    await store.commit(Batch(payloads=[payloads[11], *payloads[:2]]))
    assert await list_payloads(store) == payloads
    assert await list_payloads(store, limit=1) == payloads
    assert await store.read_payloads("r", after=8, limit=2) == payloads[9:11]


async def test_large_payloads_are_read_in_pages_that_have_one_at_least(store: Store) -> None:
    payloads = [PayloadRecord("r", number, b'"%b"' % (b"x" * 200_000)) for number in range(3)]
    await store.commit(Batch(runs={"r": make_run()}, payloads=payloads))
    assert await list_payloads(store) == payloads


async def test_payloads_that_are_dropped_are_gone_and_no_others(store: Store) -> None:
    await store.commit(make_full("r", "other"))
    await store.commit(Batch(dropped=[("r", 0), ("r", 7), ("nobody's", 1)]))
    assert await list_payloads(store) == make_payloads(2)[1:]
    await assert_full(store, "other")


async def test_payloads_that_come_and_are_dropped_in_one_batch_are_not_there(store: Store) -> None:
    batch = make_full("r", "other")
    batch.dropped = [("r", 1)]
    await store.commit(batch)
    await store.commit(batch)
    assert await list_payloads(store) == make_payloads(1)
    await assert_full(store, "other")


async def test_a_cleared_run_has_no_payloads(store: Store) -> None:
    await store.commit(make_full("r", "other"))
    batch = Batch(payloads=make_payloads(5)[2:], cleared={"r", "nobody's"}, dropped=[("r", 3)])
    await store.commit(batch)
    await store.commit(batch)
    assert await list_payloads(store) == []
    await assert_full(store, "other")


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


async def test_a_superseded_run_keeps_no_state_beside(store: Store) -> None:
    await store.commit(make_full("r", "other"))
    await store.commit(Batch(superseded={"r"}))
    await assert_superseded(store)
    await assert_full(store, "other")


async def test_a_superseded_run_keeps_none_of_its_own_batch(store: Store) -> None:
    batch = make_full("r", "other")
    batch.superseded.add("r")
    await store.commit(batch)
    await store.commit(batch)
    await assert_superseded(store)
    await assert_full(store, "other")


async def test_a_run_may_be_superseded_with_what_was_before_and_what_comes_with_it(
    store: Store,
) -> None:
    await store.commit(make_full("r"))
    await store.commit(
        Batch(
            ticks=make_ticks(5),
            states={"r": StateRecord("r", b"later"), "s": StateRecord("s", b"state")},
            runs={"r": replace(make_run("r"), current=False), "s": make_run("s")},
            superseded={"r", "unknown"},
        )
    )
    await assert_superseded(store)
    assert await store.get_state("s") == StoredState(b"state")


async def assert_superseded(store: Store, run_id: str = "r") -> None:
    """Check that nothing is left of a run that another one follows but what there is to be seen."""
    await assert_finished(store, run_id, state=None)
    assert await list_payloads(store, run_id) == []


def make_successions(*runs: tuple[str, int]) -> Batch:
    """Return a batch of ended runs of one handler, of which the last one is the current one.

    Each ended so many minutes after noon.
    """
    batch = make_full(*(run_id for run_id, _ in runs))
    for run_id, minute in runs:
        ended = make_run(run_id, minute=minute, status=Status.COMPLETED)
        batch.runs[run_id] = replace(
            ended, handler_id="r", handler_created_at=NOON, current=run_id == runs[-1][0]
        )
    return batch


async def test_superseded_runs_are_listed_oldest_end_first(store: Store) -> None:
    await store.commit(make_successions(("c", 2), ("a", 0), ("d", 3), ("b", 1), ("current", 0)))
    before = NOON + timedelta(minutes=3)
    assert list(await store.list_superseded(before=before, limit=9)) == ["a", "b", "c"]
    assert list(await store.list_superseded(before=before, limit=2)) == ["a", "b"]


async def test_a_purged_run_is_removed_with_all_that_belongs_to_it(store: Store) -> None:
    await store.commit(make_successions(("a", 0), ("b", 1), ("r", 2)))
    await store.commit(Batch(purged_runs=["a", "unknown"]))
    assert await store.get_run("a") is None
    assert await store.get_state("a") is None
    assert await store.get_snapshot("a") is None
    assert await store.next_sequence("a") == 0
    assert await read_ticks(store, "a") == []
    assert await list_inbox(store, "a") == []
    assert await list_payloads(store, "a") == []
    listed = (await store.list_runs(R, after=None, limit=9)).records
    assert [record.run_id for record in listed] == ["r", "b"]
    await assert_full(store, "b")
    await assert_full(store, "r")


async def test_the_current_run_of_a_handler_is_not_purged_alone(store: Store) -> None:
    await store.commit(make_successions(("a", 0), ("r", 1)))
    await store.commit(Batch(purged_runs=["a", "r"]))
    await assert_full(store, "r")
    assert (await store.get_handler(R)) is not None


async def test_a_run_that_is_superseded_and_purged_in_one_batch_is_gone(store: Store) -> None:
    batch = make_successions(("a", 0), ("r", 1))
    batch.superseded.add("a")
    batch.purged_runs.append("a")
    await store.commit(batch)
    await store.commit(batch)
    assert await store.get_run("a") is None
    assert await store.next_sequence("a") == 0
    await assert_full(store, "r")


async def test_a_handler_whose_earlier_runs_were_purged_can_be_purged(store: Store) -> None:
    await store.commit(make_successions(("a", 0), ("r", 1)))
    await store.commit(Batch(purged_runs=["a"]))
    await store.commit(Batch(purged=[ENDED]))
    assert await store.get_handler(R) is None
    assert (await store.list_runs(R, after=None, limit=9)).records == []
    assert await list_ids(store) == []


async def test_a_purged_handler_is_removed_with_all_that_belongs_to_it(store: Store) -> None:
    await store.commit(make_full("r", "kept"))
    await store.commit(Batch(purged=[ENDED]))
    assert await store.get_handler(R) is None
    assert await store.get_run("r") is None
    assert await store.get_state("r") is None
    assert await store.get_snapshot("r") is None
    assert await store.next_sequence("r") == 0
    assert await read_ticks(store) == []
    assert await list_inbox(store) == []
    assert await list_payloads(store) == []
    assert [place.run_id for place in await store.list_unfinished(Phase.QUEUED, limit=9)] == [
        "kept"
    ]
    assert await list_ids(store) == ["kept"]
    await assert_full(store, "kept")


async def test_all_runs_of_a_purged_handler_are_removed(store: Store) -> None:
    batch = make_full("earlier", "r")
    batch.runs["earlier"] = replace(batch.runs["earlier"], handler_id="r", current=False)
    await store.commit(batch)
    await store.commit(Batch(purged=[ENDED]))
    assert await store.get_run("earlier") is None
    assert await store.next_sequence("earlier") == 0
    assert await list_inbox(store, "earlier") == []


async def test_purging_comes_last_in_its_batch(store: Store) -> None:
    batch = make_full("r")
    batch.finished.add("r")
    batch.purged.append(ENDED)
    await store.commit(batch)
    assert await store.get_handler(R) is None
    assert await store.next_sequence("r") == 0


async def test_purging_an_unknown_handler_is_passed_over(store: Store) -> None:
    await store.commit(Batch(purged=[EndedHandler(NOBODY, "nobody's")]))
    assert await list_ids(store) == []
