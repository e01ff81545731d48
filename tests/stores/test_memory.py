"""What is the memory store's alone: it forgets ended handlers beyond a number."""

from dataclasses import replace

from tests.stores.test_conformance import NOON, batch_of, list_ids, make_run
from tests.stores.test_removing import make_full
from tests.stores.test_unfinished import make_unfinished
from tests.support.records import ended_of
from tests.support.stores import list_leftovers
from workflow_server.schemas.records import Batch, Status
from workflow_server.stores.memory import MemoryStore


async def test_ended_handlers_beyond_the_number_are_dropped_oldest_end_first() -> None:
    store = MemoryStore(max_ended_handlers=2)
    for at, name in enumerate("abcd"):
        await store.commit(batch_of(make_run(name, minute=at, status=Status.COMPLETED)))
    assert await list_ids(store) == ["d", "c"]


async def test_running_handlers_are_never_dropped() -> None:
    store = MemoryStore(max_ended_handlers=1)
    for at, name in enumerate("abc"):
        await store.commit(batch_of(make_run(name, minute=at)))
    await store.commit(batch_of(make_run("d", minute=4, status=Status.FAILED)))
    await store.commit(batch_of(make_run("e", minute=5, status=Status.FAILED)))
    assert await list_ids(store) == ["e", "c", "b", "a"]


async def test_a_handler_that_runs_again_is_not_dropped() -> None:
    store = MemoryStore(max_ended_handlers=1)
    ended = make_run("a", status=Status.COMPLETED)
    again = replace(make_run("a", minute=2), run_id="again", handler_created_at=NOON)
    await store.commit(batch_of(ended))
    await store.commit(batch_of(replace(ended, current=False), again))
    await store.commit(batch_of(make_run("b", minute=1, status=Status.FAILED)))
    assert await list_ids(store) == ["b", "a"]


async def test_a_dropped_handler_leaves_nothing() -> None:
    store = MemoryStore(max_ended_handlers=0)
    await store.commit(batch_of(make_run(status=Status.COMPLETED)))
    assert list_leftovers(store) == []


async def test_a_purged_handler_leaves_nothing() -> None:
    store = MemoryStore()
    waits = make_unfinished("waits", due=1, slot=True)
    ended = make_run("ended", status=Status.COMPLETED)
    batch = make_full("r")
    batch.runs |= {"waits": waits, "ended": ended}
    await store.commit(batch)
    await store.commit(Batch(purged=[ended_of(run) for run in (make_run(), waits, ended)]))
    assert list_leftovers(store) == []
