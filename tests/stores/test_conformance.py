"""The contract of `stores.base`, kept by every store: to join, add a line to `FRESH_URLS`.

Runs that have not ended are in `test_unfinished`; inboxes, finished runs and purged handlers in
`test_removing`.
"""

import random
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from workflow_server.schemas.listings import HandlerPosition, HandlerQuery, ListedRuns, RunPosition
from workflow_server.schemas.records import (
    Awaited,
    Batch,
    ClockRecord,
    EndedHandler,
    EventRecord,
    Failure,
    HandlerKey,
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
    StoredState,
    TickPage,
    TickRecord,
)
from workflow_server.schemas.times import to_micros
from workflow_server.stores.base import Store

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
R = HandlerKey("", "r")
H = HandlerKey("", "h")
NOBODY = HandlerKey("", "nobody")


def make_run(run_id: str = "r", *, minute: int = 0, status: Status = Status.RUNNING) -> RunRecord:
    """Return a run of the handler of the same name, that began so many minutes after noon."""
    begun = NOON + timedelta(minutes=minute)
    return RunRecord(
        run_id=run_id,
        handler_id=run_id,
        handler_created_at=begun,
        workflow_name="w",
        status=status,
        started_at=begun,
        updated_at=begun,
        completed_at=None if status is Status.RUNNING else begun,
        phase=Phase.WORKING if status is Status.RUNNING else Phase.ENDED,
    )


def make_events(count: int, run_id: str = "r") -> list[EventRecord]:
    """Return the first events of a run."""
    return [EventRecord(run_id, number, b'{"n":%d}' % number, False) for number in range(count)]


async def read_all(
    store: Store, run_id: str, *, after: int = -1, limit: int = 100
) -> list[EventRecord]:
    """Return the events of a run after a sequence, read page by page."""
    read: list[EventRecord] = []
    while page := await store.read_events(run_id, after=after, limit=limit):
        assert len(page) <= limit
        read += page
        after = page[-1].sequence
    return read


def make_ticks(count: int, run_id: str = "r") -> list[TickRecord]:
    """Return the first ticks of a run."""
    return [TickRecord(run_id, number, b'{"t":%d}' % number) for number in range(count)]


async def read_ticks(store: Store, run_id: str = "r") -> list[TickRecord]:
    """Return all ticks of a run, which are few."""
    page = await store.read_ticks(run_id, after=-1, limit=1_000)
    assert page.is_last
    return list(page.ticks)


def batch_of(*runs: RunRecord) -> Batch:
    """Return a batch of runs."""
    return Batch(runs={run.run_id: run for run in runs})


async def list_ids(store: Store, **query: object) -> list[str]:
    """Return the ids of the handlers of a listing."""
    found = (await store.list_handlers(HandlerQuery(**{"limit": 100, **query}))).records  # type: ignore[arg-type]  # given by tests
    return [record.handler_id for record in found]


FULL = RunRecord(
    run_id="r",
    handler_id="h",
    handler_created_at=NOON,
    workflow_name="größe/𝔞",
    status=Status.FAILED,
    started_at=NOON + timedelta(microseconds=1),
    updated_at=NOON + timedelta(days=1),
    completed_at=NOON + timedelta(days=1, microseconds=999_999),
    start_event=b'{"value":{"a":"\\u2028"}}',
    result=b'{"value":{}}',
    error="It failed: ä\n'\"",
    failure=Failure(
        type="Größe", qualified_name="m.Größe", step="𝔞", attempts=3, remedy='Write "x".'
    ),
    event_count=2**40,
    questions=(
        Question(sequence=3),
        Question(sequence=5, waiter_id="w", text="Größe 𝔞?\0", place="p"),
    ),
    awaits=(
        Awaited(waiter_id="w\0\ud800", event_class="module.Größe", step="ask"),
        Awaited(
            waiter_id="w",
            event_class="module.Answer",
            step="ask",
            requirements=b'{"user":"\xc3\xa4","n":null}',
            due_at=NOON + timedelta(microseconds=5),
        ),
    ),
    not_resumable_because="its state cannot be stored",
    idle=Idle(since=NOON, wake_at=NOON + timedelta(seconds=1), timeout_left=0.25),
    resumes=3,
    trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    phase=Phase.ENDED,
    accepted=2**50,
    slot=True,
    due_at=NOON + timedelta(microseconds=3),
    held_because="Its workflow is not served.",
    first_sequence=2**41,
    next_sequence=2**42,
    answered=(Question(sequence=2, place="/step work 0 0", digest="0a"),),
)


async def test_a_record_comes_back_as_it_was_given(store: Store) -> None:
    await store.commit(batch_of(FULL))
    assert await store.get_run("r") == FULL
    assert await store.get_handler(H) == FULL


async def test_a_record_of_few_values_comes_back_as_it_was_given(store: Store) -> None:
    await store.commit(batch_of(make_run()))
    assert await store.get_run("r") == make_run()


async def test_that_it_is_not_known_what_a_run_awaits_comes_back(store: Store) -> None:
    await store.commit(batch_of(replace(FULL, awaits=None)))
    assert await store.get_run("r") == replace(FULL, awaits=None)


async def test_absence_is_a_value(store: Store) -> None:
    assert await store.get_handler(NOBODY) is None
    assert await store.get_run("nobody") is None
    assert await store.get_state("nobody") is None
    assert await store.get_snapshot("nobody") is None
    assert list(await store.read_events("nobody", after=-1, limit=10)) == []
    assert await store.read_ticks("nobody", after=-1, limit=10) == TickPage([], is_last=True)
    assert list(await store.read_inbox("nobody")) == []
    assert await store.next_sequence("nobody") == 0


async def test_a_store_that_can_be_reached_says_so_by_returning(store: Store) -> None:
    await store.check()


async def test_starting_twice_does_nothing(store: Store) -> None:
    await store.commit(batch_of(make_run()))
    await store.start()
    assert await store.get_run("r") == make_run()


async def test_stopping_keeps_what_was_committed_and_may_be_done_twice(store: Store) -> None:
    await store.commit(batch_of(make_run()))
    await store.stop()
    await store.stop()
    await store.start()
    assert await store.get_run("r") == make_run()


async def test_an_empty_batch_writes_nothing(store: Store) -> None:
    await store.commit(Batch())
    assert await list_ids(store) == []


async def test_a_run_replaces_what_was_known_of_it(store: Store) -> None:
    ended = replace(make_run(), status=Status.COMPLETED, result=b"{}", completed_at=NOON)
    await store.commit(batch_of(make_run()))
    await store.commit(batch_of(ended))
    assert await store.get_run("r") == ended


async def test_the_newest_run_of_a_handler_is_its_current_one(store: Store) -> None:
    first = make_run("first", status=Status.COMPLETED)
    second = replace(make_run("first", minute=1), run_id="second", handler_created_at=NOON)
    await store.commit(batch_of(first))
    await store.commit(batch_of(replace(first, current=False), second))
    assert await store.get_handler(second.key) == second
    assert await store.get_run("first") == replace(first, current=False)
    assert await list_ids(store) == ["first"]


async def test_events_are_read_in_order_after_a_sequence(store: Store) -> None:
    events = make_events(10)
    await store.commit(Batch(runs={"r": make_run()}, events=events[:4]))
    await store.commit(Batch(events=events[4:]))
    assert list(await store.read_events("r", after=-1, limit=100)) == events
    assert list(await store.read_events("r", after=3, limit=2)) == events[4:6]
    assert list(await store.read_events("r", after=9, limit=100)) == []


@pytest.mark.parametrize("after", [-1, 10, 2**32, 2**62])
async def test_a_cursor_may_be_far_off(store: Store, after: int) -> None:
    events = make_events(3)
    await store.commit(Batch(runs={"r": make_run()}, events=events))
    expected = [event for event in events if event.sequence > after]
    assert list(await store.read_events("r", after=after, limit=100)) == expected


async def test_the_next_event_of_a_run_follows_its_last_one(store: Store) -> None:
    await store.commit(Batch(runs={"r": make_run()}, events=make_events(7)))
    assert await store.next_sequence("r") == 7


@pytest.mark.parametrize("first", [0, 1, 2**40])
async def test_a_run_counts_from_its_first_sequence(store: Store, first: int) -> None:
    run = replace(make_run(), first_sequence=first)
    await store.commit(batch_of(run))
    assert await store.next_sequence("r") == first
    events = [EventRecord("r", first + place, b"{}", False) for place in range(300)]
    await store.commit(Batch(runs={"r": run}, events=events))
    assert await store.next_sequence("r") == first + 300
    for after in (-1, first - 1, first, first + 256, first + 299):
        expected = [event for event in events if event.sequence > after]
        assert await read_all(store, "r", after=after) == expected


async def test_an_event_keeps_its_bytes_its_time_and_whether_it_is_internal(store: Store) -> None:
    events = [
        EventRecord("r", 0, '{"a":"ä\U0001f642"}'.encode(), True, 0),
        EventRecord("r", 1, b"x" * 2_000_000, False, to_micros(NOON) + 1),
        EventRecord("r", 2, b'"\\u0000"', False, None),
    ]
    await store.commit(Batch(runs={"r": make_run()}, events=events))
    assert await read_all(store, "r", limit=10) == events


async def test_ticks_are_read_in_order_after_a_sequence(store: Store) -> None:
    ticks = make_ticks(10)
    await store.commit(Batch(runs={"r": make_run()}, ticks=ticks))
    assert await read_ticks(store) == ticks
    assert await store.read_ticks("r", after=3, limit=2) == TickPage(ticks[4:6], is_last=False)


async def test_a_page_of_ticks_is_the_last_where_there_are_none_after_it(store: Store) -> None:
    ticks = make_ticks(4)
    await store.commit(Batch(runs={"r": make_run()}, ticks=ticks))
    assert await store.read_ticks("r", after=-1, limit=3) == TickPage(ticks[:3], is_last=False)
    assert await store.read_ticks("r", after=-1, limit=4) == TickPage(ticks, is_last=True)
    assert await store.read_ticks("r", after=2, limit=4) == TickPage(ticks[3:], is_last=True)
    assert await store.read_ticks("r", after=3, limit=4) == TickPage([], is_last=True)


async def test_pages_of_large_ticks_have_one_at_least_until_the_last(store: Store) -> None:
    ticks = [TickRecord("r", number, b"x" * 200_000) for number in range(3)]
    await store.commit(Batch(runs={"r": make_run()}, ticks=ticks))
    page = await store.read_ticks("r", after=-1, limit=10)
    read = list(page.ticks)
    while not page.is_last:
        page = await store.read_ticks("r", after=read[-1].sequence, limit=10)
        assert page.ticks or page.is_last
        read += page.ticks
    assert read == ticks


LARGE = {
    "alike": b'{"text":"%b"}' % (b"x" * 100_000),
    "prose": b'{"text":"%b"}' % b" ".join(b"the %d words" % n for n in range(8_000)),
    "of a picture": b'{"text":"%b"}' % b64encode(random.Random(1).randbytes(75_000)),
    "of one line beyond ASCII": b'{"text":"%s"}' % ("größe 𝔞 " * 9_000).encode(),
}


@pytest.mark.parametrize("limit", [1, 100])
async def test_large_events_are_read_as_they_were_written(store: Store, limit: int) -> None:
    envelopes = [*LARGE.values(), b"{}", *reversed(LARGE.values())]
    events = [EventRecord("r", n, envelope, False) for n, envelope in enumerate(envelopes)]
    await store.commit(Batch(runs={"r": make_run()}, events=events))
    assert await read_all(store, "r", limit=limit) == events
    assert await read_all(store, "r", after=2, limit=limit) == events[3:]


async def test_many_events_that_are_large_together_are_read_as_they_were_written(
    store: Store,
) -> None:
    events = [EventRecord("r", n, b'{"text":"%d the same words"}' % n, False) for n in range(9_000)]
    await store.commit(Batch(runs={"r": make_run()}, events=events))
    assert await read_all(store, "r", after=17, limit=1_000) == events[18:]


async def test_large_events_that_are_written_again_stay(store: Store) -> None:
    events = [EventRecord("r", n, e, False) for n, e in enumerate(LARGE.values())]
    await store.commit(Batch(runs={"r": make_run()}, events=events[:2]))
    await store.commit(Batch(runs={"r": make_run()}, events=events))
    assert await read_all(store, "r") == events


def make_large(run_id: str) -> Batch:
    """Return a batch with a large and a small record of each kind that has documents."""
    large, small = LARGE["of a picture"], b"{}"
    return Batch(
        runs={run_id: make_run(run_id)},
        events=[EventRecord(run_id, n, e, False) for n, e in enumerate((large, small, large))],
        ticks=[TickRecord(run_id, n, t) for n, t in enumerate((small, large, small))],
        states={run_id: StateRecord(run_id, large)},
        changes=[StateChangeRecord(run_id, n, c) for n, c in enumerate((large, small))],
        snapshots={run_id: SnapshotRecord(run_id, 1, large)},
        inbox=[InboxRecord(run_id, n, d) for n, d in enumerate((small, large))],
        payloads=[PayloadRecord(run_id, n, p) for n, p in enumerate((large, small))],
    )


async def list_documents(store: Store, run_id: str) -> list[object]:
    """Return the records of such a batch that there are."""
    return [
        await read_all(store, run_id),
        await read_ticks(store, run_id),
        await store.get_state(run_id),
        await store.get_snapshot(run_id),
        list(await store.read_inbox(run_id)),
        [
            *await store.read_payloads(run_id, after=-1, limit=1),
            *await store.read_payloads(run_id, after=0, limit=1),
        ],
    ]


async def test_large_records_of_all_kinds_are_kept_among_small_ones(store: Store) -> None:
    batch = make_large("r")
    expected = [
        batch.events,
        batch.ticks[1:],
        StoredState(batch.states["r"].state, tuple(c.change for c in batch.changes), 2),
        batch.snapshots["r"],
        batch.inbox,
        batch.payloads,
    ]
    await store.commit(batch)
    assert await list_documents(store, "r") == expected
    await store.commit(batch)
    assert await list_documents(store, "r") == expected


async def test_large_records_of_a_handler_that_is_purged_in_their_batch_are_gone(
    store: Store,
) -> None:
    batch = make_large("r")
    batch.purged = [EndedHandler(R, "r")]
    await store.commit(batch)
    assert await list_documents(store, "r") == [[], [], None, None, [], []]


async def test_a_snapshot_removes_the_ticks_before_it(store: Store) -> None:
    snapshot = SnapshotRecord("r", 6, b"snapshot")
    await store.commit(Batch(runs={"r": make_run()}, ticks=make_ticks(8)))
    await store.commit(Batch(snapshots={"r": snapshot}))
    assert await store.get_snapshot("r") == snapshot
    assert await read_ticks(store) == make_ticks(8)[6:]


async def test_a_snapshot_removes_ticks_of_its_own_batch(store: Store) -> None:
    batch = Batch(runs={"r": make_run()}, ticks=make_ticks(8))
    batch.snapshots["r"] = SnapshotRecord("r", 8, b"snapshot")
    await store.commit(batch)
    assert await read_ticks(store) == []


async def test_a_state_replaces_the_one_before_it(store: Store) -> None:
    await store.commit(Batch(runs={"r": make_run()}, states={"r": StateRecord("r", b"one")}))
    await store.commit(Batch(states={"r": StateRecord("r", b"two")}))
    assert await store.get_state("r") == StoredState(b"two")


async def test_an_empty_state_is_not_an_absent_one(store: Store) -> None:
    await store.commit(Batch(runs={"r": make_run()}, states={"r": StateRecord("r", b"")}))
    assert await store.get_state("r") == StoredState(b"")


async def test_a_state_comes_with_what_was_changed_since_in_order(store: Store) -> None:
    changes = [StateChangeRecord("r", number, b"c%d" % number) for number in range(12)]
    state = StateRecord("r", b"s")
    await store.commit(Batch(runs={"r": make_run()}, states={"r": state}, changes=[*changes[:2]]))
    await store.commit(Batch(changes=changes[1:]))
    expected = StoredState(b"s", tuple(change.change for change in changes), 12)
    assert await store.get_state("r") == expected


async def test_a_state_replaces_the_changes_of_the_one_before_it(store: Store) -> None:
    changes = [StateChangeRecord("r", number, b"c%d" % number) for number in range(5)]
    first, second = StateRecord("r", b"s"), StateRecord("r", b"t", 3, replaces_changes=True)
    await store.commit(Batch(runs={"r": make_run()}, states={"r": first}, changes=changes[:3]))
    replacing = Batch(states={"r": second}, changes=changes[1:4])
    for _ in range(2):
        await store.commit(replacing)
        assert await store.get_state("r") == StoredState(b"t", (b"c3",), 4)
    await store.commit(Batch(changes=changes[3:]))
    assert await store.get_state("r") == StoredState(b"t", (b"c3", b"c4"), 5)


async def test_a_state_without_changes_says_which_one_would_be_next(store: Store) -> None:
    state = StateRecord("r", b"s", 7, replaces_changes=True)
    await store.commit(Batch(runs={"r": make_run()}, states={"r": state}))
    assert await store.get_state("r") == StoredState(b"s", (), 7)


async def test_writing_a_batch_again_changes_nothing(store: Store) -> None:
    batch = Batch(
        runs={"r": make_run()},
        events=make_events(3),
        ticks=make_ticks(5),
        states={"r": StateRecord("r", b"state")},
        snapshots={"r": SnapshotRecord("r", 2, b"snapshot")},
    )
    await store.commit(batch)
    await store.commit(batch)
    assert list(await store.read_events("r", after=-1, limit=100)) == make_events(3)
    assert await read_ticks(store) == make_ticks(5)[2:]
    assert await list_ids(store) == ["r"]


async def test_what_is_written_again_may_be_followed_by_more(store: Store) -> None:
    await store.commit(Batch(runs={"r": make_run()}, events=make_events(300)))
    await store.commit(Batch(events=make_events(800)))
    assert await store.next_sequence("r") == 800
    assert await read_all(store, "r") == make_events(800)


async def test_all_events_of_a_long_run_are_read_from_any_place(store: Store) -> None:
    events = make_events(700)
    await store.commit(Batch(runs={"r": make_run()}, events=events[:300]))
    for event in events[300:320]:
        await store.commit(Batch(events=[event]))
    await store.commit(Batch(events=events[320:]))
    for after in (-1, 0, 254, 255, 256, 299, 300, 310, 319, 320, 575, 576, 699):
        assert await read_all(store, "r", after=after) == events[after + 1 :]


async def test_runs_do_not_see_each_others_events(store: Store) -> None:
    events = {run_id: make_events(3, run_id) for run_id in "ab"}
    await store.commit(
        Batch(
            runs={run_id: make_run(run_id) for run_id in "ab"},
            events=[event for pair in zip(events["a"], events["b"], strict=True) for event in pair],
        )
    )
    assert list(await store.read_events("a", after=-1, limit=100)) == events["a"]
    assert list(await store.read_events("b", after=-1, limit=100)) == events["b"]


async def test_a_batch_may_hold_many_rows(store: Store) -> None:
    runs = [make_run(f"r{number}", minute=number) for number in range(300)]
    await store.commit(
        Batch(runs={run.run_id: run for run in runs}, events=make_events(3_000, "r7"))
    )
    assert len(await list_ids(store, limit=1000)) == 300
    assert await store.next_sequence("r7") == 3_000


async def test_handlers_are_listed_newest_first_and_by_id_where_they_are_as_old(
    store: Store,
) -> None:
    await store.commit(
        batch_of(make_run("b"), make_run("z", minute=-1), make_run("a"), make_run("new", minute=1))
    )
    assert await list_ids(store) == ["new", "b", "a", "z"]


async def test_ids_are_ordered_by_their_characters(store: Store) -> None:
    ids = ["a", "B", "_", "-", "~", ".", "0", "a0", "A"]
    await store.commit(batch_of(*(make_run(handler_id) for handler_id in ids)))
    assert await list_ids(store) == sorted(ids, reverse=True)


async def test_filters_narrow_a_listing(store: Store) -> None:
    await store.commit(
        batch_of(
            make_run("a", minute=1),
            make_run("b", minute=2, status=Status.FAILED),
            replace(make_run("c", minute=3), workflow_name="x"),
        )
    )
    running, failed = frozenset({Status.RUNNING}), frozenset({Status.FAILED})
    assert await list_ids(store, statuses=running) == ["c", "a"]
    assert await list_ids(store, statuses=running | failed) == ["c", "b", "a"]
    assert await list_ids(store, workflow_names=frozenset({"w"})) == ["b", "a"]
    assert await list_ids(store, workflow_names=frozenset({"w"}), statuses=running) == ["a"]
    assert await list_ids(store, workflow_names=frozenset({"nobody"})) == []


STANDINGS = [
    *((Status.RUNNING, phase) for phase in Phase if phase is not Phase.ENDED),
    *((status, Phase.ENDED) for status in Status if status is not Status.RUNNING),
]
FILTERS = [
    HandlerQuery(
        statuses=frozenset(statuses),
        phases=frozenset(phases),
        workflow_names=frozenset(workflow_names),
        waiting=waiting,
        limit=100,
    )
    for statuses, phases, workflow_names, waiting in product(
        [(), [Status.RUNNING], [Status.FAILED], [Status.RUNNING, Status.COMPLETED], Status],
        [(), [Phase.WAITING], [Phase.ENDED], [Phase.QUEUED, Phase.HELD, Phase.ENDED]],
        ["", "v", "vw"],
        [False, True],
    )
]


def passes(run: RunRecord, query: HandlerQuery) -> bool:
    """Return whether the filters of a listing let a run pass."""
    return (
        run.status in (query.statuses or Status)
        and run.phase in (query.phases or Phase)
        and run.workflow_name in (query.workflow_names or "uvw")
        and (not query.waiting or (bool(run.questions) and run.status is Status.RUNNING))
    )


async def test_a_listing_has_what_all_of_its_filters_let_pass(store: Store) -> None:
    kinds = enumerate(product(STANDINGS, "uvw", [(), (Question(sequence=0),)]))
    runs = [
        replace(
            make_run(f"r{at}", minute=at, status=status),
            phase=phase,
            workflow_name=workflow_name,
            questions=questions,
        )
        for at, ((status, phase), workflow_name, questions) in kinds
    ]
    await store.commit(batch_of(*runs))
    listed = {query: list((await store.list_handlers(query)).records) for query in FILTERS}
    assert listed == {
        query: [run for run in reversed(runs) if passes(run, query)] for query in FILTERS
    }


HOUR = timedelta(hours=1)
TIMES = (None, NOON + HOUR, NOON + timedelta(hours=4))


async def test_times_beginnings_of_ids_and_the_order_go_with_all_filters(store: Store) -> None:
    # Each third handler ran again much later, and each other third one while a clock was set back.
    apart = (timedelta(), 3 * HOUR, -HOUR)
    runs = [
        replace(
            make_run(f"{'ab'[at % 2]}{at:02}", status=status),
            handler_created_at=NOON + at * HOUR / 3,
            started_at=NOON + at * HOUR / 3 + apart[at % 3],
            phase=phase,
            workflow_name="uv"[at // 7 % 2],
        )
        for at, (status, phase) in enumerate(STANDINGS * 3)
    ]
    await store.commit(batch_of(*runs))
    queries = [
        HandlerQuery(
            started_after=after,
            started_before=before,
            handler_id_prefix=prefix,
            oldest_first=oldest_first,
            statuses=frozenset(statuses),
            workflow_names=frozenset(names),
            after=place,
            limit=100,
        )
        for after, before, prefix, oldest_first, statuses, names, place in product(
            TIMES,
            TIMES,
            ["", "a", "b0", "b01", "c"],
            [False, True],
            [(), [Status.RUNNING], [Status.RUNNING, Status.FAILED]],
            ["", "v"],
            [None, HandlerPosition(runs[9].handler_created_at, runs[9].handler_id)],
        )
    ]
    for query in queries:
        listed = list((await store.list_handlers(query)).records)
        assert listed == [run for run in in_order(runs, query) if is_within(run, query)], query


def in_order(runs: Sequence[RunRecord], query: HandlerQuery) -> list[RunRecord]:
    """Return the runs behind the place of a listing, in its order."""
    if query.after is None:
        return [*(runs if query.oldest_first else reversed(runs))]
    place = query.after.created_at
    later = [run for run in runs if run.handler_created_at > place]
    earlier = [run for run in reversed(runs) if run.handler_created_at < place]
    return later if query.oldest_first else earlier


def is_within(run: RunRecord, query: HandlerQuery) -> bool:
    """Return whether a run passes all filters of a listing."""
    return (
        passes(run, query)
        and (query.started_after is None or run.started_at > query.started_after)
        and (query.started_before is None or run.started_at < query.started_before)
        and run.handler_id.startswith(query.handler_id_prefix)
    )


async def test_a_listing_has_the_documents_that_are_asked_for(store: Store) -> None:
    run = replace(make_run(), start_event=b'{"s":1}', result=b'{"r":1}')
    await store.commit(batch_of(run))
    for documents in (frozenset(), frozenset({"result"}), frozenset({"start_event"})):
        query = HandlerQuery(documents=documents, limit=2)  # type: ignore[arg-type]  # literals
        of_handlers = await store.list_handlers(query)
        of_runs = await store.list_runs(run.key, after=None, limit=2, documents=query.documents)
        expected = replace(
            run,
            start_event=run.start_event if "start_event" in documents else None,
            result=run.result if "result" in documents else None,
        )
        assert (of_handlers, of_runs) == (ListedRuns([expected], True),) * 2


async def test_a_page_says_whether_it_is_the_last(store: Store) -> None:
    runs = [make_run(name, minute=at) for at, name in enumerate("abc")]
    await store.commit(batch_of(*runs))
    limits = {limit: await store.list_handlers(HandlerQuery(limit=limit)) for limit in (2, 3, 4)}
    assert limits == {
        2: ListedRuns(runs[:0:-1], False),
        3: ListedRuns(runs[::-1], True),
        4: ListedRuns(runs[::-1], True),
    }
    empty = await store.list_handlers(HandlerQuery(limit=2, tenant="nobody"))
    assert empty == ListedRuns([], True)


async def test_a_listing_may_name_a_hundred_workflows(store: Store) -> None:
    runs = [replace(make_run(f"r{n}", minute=n), workflow_name=f"w{n}") for n in range(100)]
    await store.commit(batch_of(*runs))
    names = frozenset(run.workflow_name for run in runs)
    assert await list_ids(store, workflow_names=names, limit=2) == ["r99", "r98"]
    phases = frozenset({Phase.WORKING, Phase.ENDED})
    assert await list_ids(store, workflow_names=names, phases=phases, limit=2) == ["r99", "r98"]


async def test_a_page_begins_after_a_position(store: Store) -> None:
    await store.commit(batch_of(*(make_run(name, minute=at) for at, name in enumerate("abcd"))))
    after = HandlerPosition(NOON + timedelta(minutes=2), "c")
    assert await list_ids(store, after=after, limit=1) == ["b"]
    assert await list_ids(store, after=after) == ["b", "a"]


async def test_a_position_of_a_handler_that_is_gone_is_a_position_still(store: Store) -> None:
    await store.commit(batch_of(*(make_run(name) for name in "abd")))
    assert await list_ids(store, after=HandlerPosition(NOON, "c")) == ["b", "a"]


async def commit_runs_of_h(store: Store, count: int) -> list[RunRecord]:
    """Commit runs of one handler, and one of another, and return them, newest first."""
    runs = [
        replace(
            make_run(f"r{at}", minute=at), handler_id="h", current=at == count - 1, result=b"{}"
        )
        for at in range(count)
    ]
    await store.commit(batch_of(*runs, make_run("other", minute=1)))
    return runs[::-1]


async def test_the_runs_of_a_handler_are_listed_newest_first(store: Store) -> None:
    runs = await commit_runs_of_h(store, 4)
    assert list((await store.list_runs(H, after=None, limit=10)).records) == runs
    assert list((await store.list_runs(NOBODY, after=None, limit=10)).records) == []


async def test_a_page_of_runs_begins_after_a_position(store: Store) -> None:
    runs = await commit_runs_of_h(store, 5)
    after = RunPosition(runs[1].started_at, runs[1].run_id)
    assert list((await store.list_runs(H, after=after, limit=2)).records) == runs[2:4]
    assert list((await store.list_runs(H, after=after, limit=10)).records) == runs[2:]


async def test_pages_of_runs_that_began_at_once_have_each_of_them_once(store: Store) -> None:
    runs = [replace(make_run(name), handler_id="h", current=name == "a") for name in "aB_c-"]
    await store.commit(batch_of(*runs))
    found: list[RunRecord] = []
    after: RunPosition | None = None
    while page := (await store.list_runs(H, after=after, limit=2)).records:
        found += page
        after = RunPosition(page[-1].started_at, page[-1].run_id)
    assert sorted(run.run_id for run in found) == sorted("aB_c-")


async def test_the_runs_of_a_handler_are_those_of_its_tenant(store: Store) -> None:
    mine, theirs = replace(make_run("a"), handler_id="h", tenant="t"), make_run("h")
    await store.commit(batch_of(mine, theirs))
    assert list((await store.list_runs(HandlerKey("t", "h"), after=None, limit=10)).records) == [
        mine
    ]
    assert list((await store.list_runs(H, after=None, limit=10)).records) == [theirs]


async def test_ended_handlers_are_listed_oldest_first(store: Store) -> None:
    await store.commit(
        batch_of(*(make_run(f"r{at}", minute=at, status=Status.FAILED) for at in range(5)))
    )
    await store.commit(batch_of(make_run("running", minute=0)))
    before = NOON + timedelta(minutes=3)
    oldest = [EndedHandler(HandlerKey("", f"r{at}"), f"r{at}") for at in range(3)]
    assert list(await store.list_ended(before=before, limit=10)) == oldest
    assert list(await store.list_ended(before=before, limit=2)) == oldest[:2]


async def test_an_id_with_a_null_character_is_an_unknown_one(store: Store) -> None:
    await store.commit(Batch(runs={"r": make_run()}))
    assert await store.get_handler(HandlerKey("", "a\0")) is None
    assert await store.get_run("\0") is None
    query = HandlerQuery(workflow_names=frozenset({"\0", "w"}), limit=10)
    assert (await store.list_handlers(query)).records == [make_run()]


async def test_the_clock_is_the_one_that_was_written_last(store: Store) -> None:
    assert await store.get_clock() is None
    first = ClockRecord(time=3, wall=2, uptime=1, began=0)
    later = ClockRecord(time=10**15, wall=10**16, uptime=10**14, began=10**13)
    await store.commit(Batch(clock=first))
    await store.commit(Batch(clock=later))
    await store.commit(batch_of(make_run()))
    assert await store.get_clock() == later


@pytest.mark.parametrize("uptime", [None, 12_345_678])
async def test_a_wait_has_the_uptime_at_which_it_began(store: Store, uptime: int | None) -> None:
    idle = Idle(since=NOON, timeout_left=1.5, uptime=uptime)
    run = replace(make_run(), phase=Phase.WAITING, idle=idle)
    await store.commit(batch_of(run))
    assert await store.get_run("r") == run
