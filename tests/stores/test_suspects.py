"""Suspects of a crash: who they are, and what is written of them, in every store."""

from dataclasses import replace

from tests.stores.test_conformance import batch_of, make_run
from tests.support.records import claim_runs
from workflow_server.schemas.records import Phase, RunRecord, Status, Suspect
from workflow_server.stores.base import Store

ALL = 100


def make(
    run_id: str, accepted: int, phase: Phase = Phase.WORKING, *, resumes: int = 0
) -> RunRecord:
    """Return a running run in a phase."""
    return replace(
        make_run(run_id),
        accepted=accepted,
        phase=phase,
        slot=True,
        resumes=resumes,
        status=Status.RUNNING,
    )


def suspect(run: RunRecord, *, present: bool = True, attempted: bool = False) -> Suspect:
    """Return what a store says of a run that is a suspect."""
    return Suspect(
        run_id=run.run_id,
        accepted=run.accepted,
        phase=run.phase,
        was_present=present,
        attempted=attempted,
        resumes=run.resumes,
        strikes=run.strikes,
    )


async def test_runs_at_work_and_those_that_are_restored_are_suspects_in_order(
    store: Store,
) -> None:
    working, restored, queued = (
        make("a", 3),
        make("b", 2, Phase.WAITING),
        make("c", 1, Phase.QUEUED),
    )
    earlier = make("d", 4, Phase.QUEUED, resumes=1)
    batch = batch_of(working, restored, queued, earlier)
    batch.released |= {"b", "c", "d"}
    await store.commit(batch)
    await store.claim(["b"])
    suspects = [
        suspect(restored, attempted=True),
        suspect(working),
        suspect(earlier, present=False),
    ]
    assert await store.list_suspects(limit=ALL) == suspects
    assert await store.list_suspects(limit=1) == suspects[:1]
    assert await store.list_suspects(after=suspects[0], limit=ALL) == suspects[1:]


async def test_a_run_that_writes_that_it_is_well_is_no_suspect(store: Store) -> None:
    waiting = make("a", 1, Phase.WAITING)
    await store.commit(batch_of(waiting))
    (claimed,) = await claim_runs(store, "a")
    await store.commit(batch_of(replace(claimed, attempted=False)))
    assert await store.list_suspects(limit=ALL) == []


async def test_suspects_are_queued_and_present_no_more(store: Store) -> None:
    working, waiting, ended = make("a", 1), make("b", 2, Phase.WAITING), make("c", 3)
    await store.commit(batch_of(working, waiting, ended))
    await store.claim(["b"])
    said = [replace(suspect(run), resumes=2, strikes=1) for run in (working, waiting, ended)]
    await store.commit(batch_of(replace(ended, status=Status.FAILED, phase=Phase.ENDED)))
    unknown = replace(said[0], run_id="unknown")
    await store.write_suspects([*said, unknown])
    queued = replace(working, phase=Phase.QUEUED, slot=False, resumes=2, strikes=1)
    waits = replace(waiting, resumes=2, strikes=1)
    assert await store.get_run("a") == queued
    assert await store.get_run("b") == waits
    assert await store.list_suspects(limit=ALL) == [
        suspect(queued, present=False),
        suspect(waits, present=False),
    ]
    assert await store.claim(["a", "b", "c"]) == ["a", "b"]


async def test_runs_that_are_let_go_of_are_no_suspects(store: Store) -> None:
    working, waiting = make("a", 1), make("b", 2, Phase.WAITING)
    earlier = make("c", 3, resumes=1)
    await store.commit(batch_of(working, waiting, earlier))
    await store.claim(["b"])
    await store.let_go()
    assert await store.list_suspects(limit=ALL) == []
    assert await store.get_run("a") == working
    assert await store.get_run("b") == waiting
    assert await store.get_run("c") == replace(earlier, resumes=0)
