"""The contract on runs that have not ended, kept by every store."""

from dataclasses import replace

import pytest

from tests.stores.test_conformance import NOON, batch_of, make_run
from workflow_server.schemas.records import (
    DueRun,
    Phase,
    PhaseCount,
    RunRecord,
    Status,
    UnfinishedRun,
)
from workflow_server.schemas.times import from_micros
from workflow_server.stores.base import Store

UNFINISHED = [phase for phase in Phase if phase is not Phase.ENDED]


def make_unfinished(
    run_id: str,
    accepted: int = 0,
    phase: Phase = Phase.WAITING,
    *,
    due: int | None = None,
    slot: bool = False,
    workflow_name: str = "w",
) -> RunRecord:
    """Return a running run, whose timer is due so many microseconds after the epoch."""
    return replace(
        make_run(run_id),
        phase=phase,
        accepted=accepted,
        due_at=from_micros(due) if due is not None else None,
        slot=slot,
        workflow_name=workflow_name,
    )


def place_of(run: RunRecord) -> UnfinishedRun:
    """Return the place of a run in listings of unfinished runs."""
    return UnfinishedRun(run.accepted, run.run_id)


def end(run: RunRecord) -> RunRecord:
    """Return the run as it is when it has ended."""
    return replace(run, status=Status.COMPLETED, phase=Phase.ENDED, completed_at=NOON)


async def list_ids(store: Store, phase: Phase, workflow_name: str | None = None) -> list[str]:
    """Return the ids of the unfinished runs of a phase."""
    found = await store.list_unfinished(phase, workflow_name=workflow_name, limit=100)
    return [place.run_id for place in found]


async def list_due_ids(store: Store) -> list[str]:
    """Return the ids of the runs that have a timer."""
    return [place.run_id for place in await store.list_due(limit=100)]


@pytest.mark.parametrize("phase", UNFINISHED)
async def test_the_runs_of_a_phase_are_listed_in_the_order_of_acceptance(
    store: Store, phase: Phase
) -> None:
    runs = [make_unfinished("a", 3, phase), make_unfinished("b", 1, phase)]
    others = [make_unfinished(f"in {other}", 2, other) for other in UNFINISHED if other != phase]
    await store.commit(batch_of(*runs, *others))
    assert list(await store.list_unfinished(phase, limit=10)) == [
        UnfinishedRun(1, "b"),
        UnfinishedRun(3, "a"),
    ]


async def test_the_waiting_runs_that_cannot_go_on_are_listed_alone(store: Store) -> None:
    lost = [
        replace(make_unfinished(f"r{at}", at, phase), not_resumable_because="why")
        for at, phase in enumerate([Phase.WAITING, *UNFINISHED, Phase.WAITING])
    ]
    await store.commit(batch_of(make_unfinished("w", 7), *lost, end(lost[0])))
    waiting = [place_of(run) for run in lost[1:] if run.phase is Phase.WAITING]
    assert list(await store.list_not_resumable(limit=9)) == waiting
    assert list(await store.list_not_resumable(after=waiting[0], limit=1)) == waiting[1:2]


@pytest.mark.parametrize("phase", UNFINISHED)
async def test_the_runs_of_a_phase_are_listed_by_workflow(store: Store, phase: Phase) -> None:
    names = ["v", "w", "v", "x"]
    runs = [make_unfinished(f"r{at}", at, phase, workflow_name=n) for at, n in enumerate(names)]
    await store.commit(batch_of(*runs))
    assert await list_ids(store, phase, "v") == ["r0", "r2"]
    assert await list_ids(store, phase, "nobody's") == []
    assert await list_ids(store, phase) == ["r0", "r1", "r2", "r3"]


@pytest.mark.parametrize("workflow_name", [None, "w"])
async def test_pages_of_unfinished_runs_have_each_of_them_once_in_order(
    store: Store, workflow_name: str | None
) -> None:
    places = [(2, "a"), (2, "B"), (1, "_"), (2, "c"), (2**62, "-"), (-5, "0"), (2, "~")]
    runs = [make_unfinished(run_id, accepted) for accepted, run_id in places]
    await store.commit(batch_of(*runs))
    found: list[UnfinishedRun] = []
    while page := await store.list_unfinished(
        Phase.WAITING,
        workflow_name=workflow_name,
        after=found[-1] if found else None,
        limit=2,
    ):
        assert len(page) <= 2
        found += page
    assert [place.accepted for place in found] == sorted(accepted for accepted, _ in places)
    assert sorted(found) == sorted(places)


async def test_a_place_of_a_run_that_is_gone_is_a_place_still(store: Store) -> None:
    await store.commit(batch_of(make_unfinished("a", 1), make_unfinished("b", 3)))
    after = UnfinishedRun(2, "gone")
    assert await store.list_unfinished(Phase.WAITING, after=after, limit=10) == [(3, "b")]


async def test_a_run_is_listed_in_the_phase_in_which_it_is_now(store: Store) -> None:
    run = make_unfinished("r", 7, Phase.QUEUED)
    for phase in (Phase.QUEUED, Phase.WORKING, Phase.WAITING, Phase.WORKING, Phase.HELD):
        await store.commit(batch_of(replace(run, phase=phase)))
        assert [p for p in UNFINISHED for _ in await list_ids(store, p)] == [phase]
    await store.commit(batch_of(end(run)))
    assert [p for p in Phase for _ in await list_ids(store, p)] == []


async def test_unfinished_runs_are_those_of_all_tenants(store: Store) -> None:
    runs = [make_unfinished("a", 1), replace(make_unfinished("b", 2), tenant="t")]
    await store.commit(batch_of(*runs))
    assert await list_ids(store, Phase.WAITING) == ["a", "b"]


async def test_a_run_that_is_not_running_is_in_no_phase_of_those_that_do(store: Store) -> None:
    odd = replace(end(make_unfinished("r", due=1, slot=True)), phase=Phase.WAITING)
    await store.commit(batch_of(odd))
    assert await list_ids(store, Phase.WAITING) == []
    assert await list_due_ids(store) == []
    assert await store.count_unfinished() == []
    assert await store.last_accepted() == 0


async def test_the_run_that_is_due_first_is_listed_first(store: Store) -> None:
    runs = [make_unfinished("a", due=5), make_unfinished("b", due=2), make_unfinished("none")]
    await store.commit(batch_of(*runs))
    assert list(await store.list_due(limit=10)) == [DueRun(2, "b"), DueRun(5, "a")]


async def test_pages_of_due_runs_have_each_of_them_once_in_order(store: Store) -> None:
    places = [(2, "a"), (2, "B"), (1, "_"), (2, "c"), (9, "-"), (2, "~"), (2**50, "0")]
    await store.commit(batch_of(*(make_unfinished(run_id, due=due) for due, run_id in places)))
    found: list[DueRun] = []
    while page := await store.list_due(after=found[-1] if found else None, limit=2):
        assert len(page) <= 2
        found += page
    assert [place.due_at for place in found] == sorted(due for due, _ in places)
    assert sorted(found) == sorted(places)


async def test_a_run_is_due_only_while_it_waits_and_at_its_last_time(store: Store) -> None:
    run = make_unfinished("r", due=5)
    await store.commit(batch_of(run))
    await store.commit(batch_of(replace(run, due_at=from_micros(7))))
    assert list(await store.list_due(limit=10)) == [DueRun(7, "r")]
    for phase in (Phase.QUEUED, Phase.WORKING, Phase.HELD):
        await store.commit(batch_of(replace(run, phase=phase)))
        assert await list_due_ids(store) == []
    await store.commit(batch_of(run))
    await store.commit(batch_of(end(run)))
    assert await list_due_ids(store) == []


async def test_waiting_runs_are_counted_by_workflow_with_their_slots(store: Store) -> None:
    await store.commit(
        batch_of(
            make_unfinished("a", slot=True),
            make_unfinished("b"),
            replace(make_unfinished("c", slot=True), tenant="t"),
            make_unfinished("d", workflow_name="v"),
            *(
                make_unfinished(f"in {phase}", phase=phase, slot=True, workflow_name="x")
                for phase in (Phase.QUEUED, Phase.WORKING, Phase.HELD)
            ),
            end(make_unfinished("ended", slot=True)),
        )
    )
    counts = [each for each in await store.count_unfinished() if each.phase is Phase.WAITING]
    assert sorted(counts, key=lambda count: count.workflow_name) == [
        PhaseCount(Phase.WAITING, "v", runs=1, slots=0),
        PhaseCount(Phase.WAITING, "w", runs=3, slots=2),
    ]


async def test_runs_of_every_phase_are_counted_apart(store: Store) -> None:
    runs = [make_unfinished(phase.value, phase=phase) for phase in UNFINISHED]
    await store.commit(batch_of(*runs))
    counts = await store.count_unfinished()
    assert sorted(counts, key=lambda count: count.phase) == [
        PhaseCount(phase, "w", runs=1, slots=0) for phase in sorted(UNFINISHED)
    ]


async def test_a_run_is_counted_in_its_last_phase_alone(store: Store) -> None:
    run = make_unfinished("r")
    await store.commit(batch_of(run))
    await store.commit(batch_of(replace(run, phase=Phase.WORKING)))
    [count] = await store.count_unfinished()
    assert (count.phase, count.runs) == (Phase.WORKING, 1)


async def test_the_last_acceptance_is_that_of_the_running_runs(store: Store) -> None:
    assert await store.last_accepted() == 0
    latest = make_unfinished("latest", 10**15)
    await store.commit(batch_of(latest, make_unfinished("a", 3), end(make_unfinished("b", 2**60))))
    assert await store.last_accepted() == 10**15
    await store.commit(batch_of(end(latest)))
    assert await store.last_accepted() == 3


@pytest.mark.parametrize("phase", UNFINISHED)
async def test_the_last_acceptance_may_be_of_any_phase(store: Store, phase: Phase) -> None:
    others = [make_unfinished(f"in {other}", 1, other) for other in UNFINISHED]
    await store.commit(batch_of(*others, make_unfinished("latest", 2, phase)))
    assert await store.last_accepted() == 2
