"""A database of an earlier commit is brought up to date, and nothing in it is lost."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.stores.test_conformance import NOON
from tests.support.backends import opened_store
from tests.support.older_databases import OLDER_URLS, TENANT, carry_out
from workflow_server.schemas.listings import HandlerQuery
from workflow_server.schemas.records import (
    HandlerKey,
    Phase,
    PhaseCount,
    RunRecord,
    Status,
)
from workflow_server.schemas.times import from_micros, to_micros
from workflow_server.stores.base import Store

# All that the commit f3970c6 knew of a run.
COLUMNS = (
    "run_id, handler_id, handler_created_at, is_current, workflow_name, status, started_at,"
    " updated_at, completed_at, start_event, result, error, event_count, questions, unresumable,"
    " idle_since, wake_at, timeout_left, resumes, tenant, trace"
)
KEPT = {
    "runs": f"SELECT {COLUMNS} FROM runs ORDER BY run_id",
    "events": "SELECT * FROM events ORDER BY run_id, first",
    "states": (
        "SELECT states.run_id, state FROM states JOIN runs ON runs.run_id = states.run_id"
        " WHERE is_current ORDER BY states.run_id"
    ),
}
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture(params=OLDER_URLS)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """Yield the URL of a copy of each database."""
    async with OLDER_URLS[request.param](tmp_path) as url:
        yield url


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """Yield the store of that database, started, and so migrated."""
    async with opened_store(url) as store:
        yield store


async def list_records(store: Store) -> dict[str, RunRecord]:
    """Return the current runs of all handlers, by the names of these."""
    return {
        f"{tenant}/{record.handler_id}" if tenant else record.handler_id: record
        for tenant in ("", TENANT)
        for record in (await store.list_handlers(HandlerQuery(tenant=tenant, limit=100))).records
    }


async def test_what_was_known_of_runs_with_their_events_and_states_stays(url: str) -> None:
    before = {name: await carry_out(url, sql) for name, sql in KEPT.items()}
    async with opened_store(url):
        pass
    assert {name: await carry_out(url, sql) for name, sql in KEPT.items()} == before


async def test_each_run_stands_where_its_status_and_its_journal_say(store: Store) -> None:
    records = await list_records(store)
    assert {
        name: (record.status.value, record.phase.value) for name, record in records.items()
    } == {
        "completed": ("completed", "ended"),
        "acme/completed": ("completed", "ended"),
        "continued": ("completed", "ended"),
        "failed": ("failed", "ended"),
        "cancelled": ("cancelled", "ended"),
        "released": ("running", "waiting"),
        "asker": ("running", "waiting"),
        "acme/asker": ("running", "waiting"),
        "waiter": ("running", "waiting"),
        "timer": ("running", "waiting"),
        "patient": ("running", "waiting"),
        "keeper": ("running", "waiting"),
        "cut-off": ("running", "working"),
        "acme/cut-off": ("running", "working"),
        "queued": ("running", "queued"),
        "acme/queued": ("running", "queued"),
    }


async def test_an_earlier_run_of_a_handler_has_ended(store: Store) -> None:
    runs = (await store.list_runs(HandlerKey("", "continued"), after=None, limit=10)).records
    assert [(run.status, run.phase, run.current) for run in runs] == [
        (Status.COMPLETED, Phase.ENDED, True),
        (Status.COMPLETED, Phase.ENDED, False),
    ]
    states = [await store.get_state(run.run_id) is not None for run in runs]
    assert states == [True, False]  # nobody goes on from that of the earlier one


async def test_what_a_handler_does_next_is_numbered_above_all_that_it_did(store: Store) -> None:
    for name, record in (await list_records(store)).items():
        runs = (await store.list_runs(record.key, after=None, limit=10)).records
        greatest = max(run.event_count for run in runs)
        assert (record.next_sequence, greatest > 0) == (greatest, record.phase is Phase.ENDED), name
        assert record.first_sequence == 0


async def test_what_a_run_that_has_begun_is_followed_by_is_above_the_runs_before_it(
    url: str,
) -> None:
    handler = "tenant = '' AND handler_id = 'continued'"
    await carry_out(url, f"UPDATE runs SET event_count = 90 WHERE {handler} AND NOT is_current")
    await carry_out(
        url, f"UPDATE runs SET status = 'running', event_count = 0 WHERE {handler} AND is_current"
    )
    async with opened_store(url) as store:
        record = await store.get_handler(HandlerKey("", "continued"))
    assert record is not None
    assert (record.first_sequence, record.next_sequence) == (0, 90)


async def test_a_run_that_has_no_events_begins_above_the_runs_before_it(url: str) -> None:
    run = "(SELECT run_id FROM runs WHERE handler_id = 'continued' AND is_current)"
    await carry_out(url, f"DELETE FROM events WHERE run_id = {run}")
    await carry_out(
        url, f"UPDATE runs SET status = 'running', event_count = 0 WHERE run_id = {run}"
    )
    async with opened_store(url) as store:
        runs = (await store.list_runs(HandlerKey("", "continued"), after=None, limit=10)).records
        assert [run.first_sequence for run in runs] == [runs[1].event_count, 0]
        assert await store.next_sequence(runs[0].run_id) == runs[1].event_count


async def test_runs_are_in_the_order_in_which_they_were_started(store: Store) -> None:
    records = await list_records(store)
    assert [record.accepted for record in records.values()] == [
        to_micros(record.started_at) for record in records.values()
    ]
    names = {record.run_id: name for name, record in records.items()}
    found = {phase: await store.list_unfinished(phase, limit=10) for phase in Phase}
    assert {phase: [names[place.run_id] for place in found[phase]] for phase in Phase} == {
        Phase.QUEUED: ["queued", "acme/queued"],
        Phase.WORKING: ["cut-off", "acme/cut-off"],
        Phase.WAITING: [
            "released",
            "asker",
            "waiter",
            "timer",
            "patient",
            "keeper",
            "acme/asker",
        ],
        Phase.HELD: [],
        Phase.ENDED: [],
    }
    assert await store.last_accepted() == records["acme/queued"].accepted


async def test_a_run_at_work_holds_a_slot_and_no_other_does(store: Store) -> None:
    records = await list_records(store)
    assert {name for name, record in records.items() if record.slot} == {
        "cut-off",
        "acme/cut-off",
    }
    counts = [each for each in await store.count_unfinished() if each.phase is Phase.WAITING]
    assert sorted(counts, key=lambda count: count.workflow_name) == [
        PhaseCount(Phase.WAITING, "asker", runs=3, slots=0),
        PhaseCount(Phase.WAITING, "keeper", runs=1, slots=0),
        PhaseCount(Phase.WAITING, "patient", runs=1, slots=0),
        PhaseCount(Phase.WAITING, "timer", runs=1, slots=0),
        PhaseCount(Phase.WAITING, "waiter", runs=1, slots=0),
    ]


async def test_a_run_is_due_when_the_first_of_its_timers_is(store: Store) -> None:
    records = await list_records(store)
    timer, patient = records["timer"], records["patient"]
    assert timer.idle is not None
    assert timer.idle.timeout_left is not None
    assert timer.due_at == timer.idle.wake_at
    assert patient.idle is not None
    assert patient.idle.timeout_left is not None
    assert patient.due_at is not None
    late = patient.idle.since + timedelta(seconds=patient.idle.timeout_left) - patient.due_at
    assert abs(late) <= MICROSECOND
    assert {name for name, record in records.items() if record.due_at} == {"timer", "patient"}
    assert [place.run_id for place in await store.list_due(limit=10)] == [
        timer.run_id,
        patient.run_id,
    ]


THEN = to_micros(NOON)


@pytest.mark.parametrize(
    ("wake_at", "timeout_left", "due_at"),
    [
        ("NULL", "NULL", None),
        (f"{THEN + 5}", "NULL", THEN + 5),
        ("NULL", "2.5", THEN + 2_500_000),
        (f"{THEN + 5}", "2.5", THEN + 5),
        (f"{THEN + 5_000_000}", "2.5", THEN + 2_500_000),
        ("NULL", "-3", THEN),
        ("NULL", "1e300", None),
        (f"{THEN + 5}", "1e300", THEN + 5),
    ],
)
async def test_a_timer_may_be_of_either_kind_and_far_off(
    url: str, wake_at: str, timeout_left: str, due_at: int | None
) -> None:
    await carry_out(
        url,
        f"UPDATE runs SET idle_since = {THEN}, wake_at = {wake_at}, timeout_left = {timeout_left}"
        " WHERE handler_id = 'timer'",
    )
    async with opened_store(url) as store:
        timer = (await list_records(store))["timer"]
    assert timer.due_at == (from_micros(due_at) if due_at is not None else None)


async def test_a_run_that_was_resumed_or_has_a_snapshot_is_not_queued(url: str) -> None:
    await carry_out(
        url, f"UPDATE runs SET resumes = 1 WHERE handler_id = 'queued' AND tenant = '{TENANT}'"
    )
    await carry_out(
        url,
        "UPDATE snapshots SET run_id ="
        " (SELECT run_id FROM runs WHERE handler_id = 'queued' AND tenant = '')",
    )
    async with opened_store(url) as store:
        records = await list_records(store)
    assert records["queued"].phase is Phase.WORKING
    assert records[f"{TENANT}/queued"].phase is Phase.WORKING


async def test_a_run_that_cannot_be_resumed_says_why_still(store: Store) -> None:
    records = await list_records(store)
    reasons = {name: record.not_resumable_because for name, record in records.items()}
    assert {name for name, reason in reasons.items() if reason is not None} == {"keeper"}
    assert (reasons["keeper"] or "").startswith("its state cannot be stored: ")


async def test_ticks_and_snapshots_of_runs_that_nobody_resumes_or_retries_are_gone(
    url: str,
) -> None:
    kept = (
        "SELECT tenant, handler_id, count(*) FROM runs JOIN {0} ON {0}.run_id = runs.run_id"
        " GROUP BY tenant, handler_id ORDER BY tenant, handler_id"
    )
    before = await carry_out(url, kept.format("ticks"))
    async with opened_store(url):
        pass
    gone = {("", "completed"), (TENANT, "completed"), ("", "continued")}
    after = await carry_out(url, kept.format("ticks"))
    assert after == [row for row in before if row[:2] not in gone]
    assert {row[1] for row in after} >= {"failed", "cancelled", "asker", "cut-off"}
    assert await carry_out(url, kept.format("snapshots")) == [("", "released", 1)]
    assert await carry_out(url, "SELECT count(*) FROM inbox") == [(0,)]


async def test_the_events_of_each_run_are_read_from_the_first_to_the_last(store: Store) -> None:
    last: dict[str, str] = {}
    for name, record in (await list_records(store)).items():
        events = await store.read_events(record.run_id, after=-1, limit=100)
        assert [event.sequence for event in events] == [*range(len(events))]
        assert len(events) == await store.next_sequence(record.run_id)
        assert record.event_count in (0, len(events))
        last[name] = json.loads(events[-1].envelope)["type"] if events else "none"
    assert last == {
        "completed": "StopEvent",
        "acme/completed": "StopEvent",
        "continued": "StopEvent",
        "failed": "WorkflowFailedEvent",
        "cancelled": "WorkflowCancelledEvent",
        "released": "WorkflowIdleEvent",
        "asker": "WorkflowIdleEvent",
        "acme/asker": "WorkflowIdleEvent",
        "waiter": "WorkflowIdleEvent",
        "timer": "WorkflowIdleEvent",
        "patient": "WorkflowIdleEvent",
        "keeper": "WorkflowIdleEvent",
        "cut-off": "Told",
        "acme/cut-off": "Told",
        "queued": "none",
        "acme/queued": "none",
    }
