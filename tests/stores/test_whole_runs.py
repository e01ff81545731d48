"""The part of the contract by which all that a store has can be copied: whole runs, and the note.

Unlike other reads these are of all tenants at once.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.stores.test_removing import make_full
from tests.support.backends import DURABLE, FRESH_URLS, opened_store
from tests.support.records import batch_of, make_record
from workflow_server.schemas.records import (
    Batch,
    EventRecord,
    Phase,
    RunRecord,
    SnapshotRecord,
    StateRecord,
    Status,
    StoredRecord,
)
from workflow_server.stores.backends import open_store
from workflow_server.stores.base import Store


def list_kinds(records: list[StoredRecord], run_id: str) -> list[StoredRecord]:
    """Return the records of a run, those of a kind together and in their order."""
    own = [record for record in records if record.run_id == run_id]
    return sorted(own, key=lambda record: type(record).__name__)


async def test_the_ids_of_all_runs_are_listed_page_by_page(store: Store) -> None:
    assert await store.list_run_ids(limit=9) == []
    ended = make_record("b", status=Status.COMPLETED, phase=Phase.ENDED, tenant="acme")
    earlier = make_record("a", handler_id="c", current=False)
    await store.commit(batch_of(make_record("c"), ended, earlier))
    listed: list[str] = []
    while page := await store.list_run_ids(after=listed[-1] if listed else None, limit=2):
        assert len(page) <= 2
        listed += page
    assert listed == ["a", "b", "c"]


async def test_runs_are_read_with_all_that_belongs_to_them(store: Store) -> None:
    batch = make_full("r", "s", "other")
    batch.states["s"] = StateRecord("s", b"later", 1)
    await store.commit(batch)
    found = list(await store.read_runs(["s", "unknown", "r"]))
    ticks = [tick for tick in batch.ticks if tick.sequence >= 1]  # the snapshot has those before
    changes = [c for c in batch.changes if c.run_id == "r" or c.number >= 1]
    written: list[StoredRecord] = [*batch.events, *ticks, *batch.payloads, *batch.histories]
    written += [*batch.inbox, *batch.states.values(), *changes, *batch.snapshots.values()]
    written += batch.runs.values()
    assert list_kinds(found, "r") == list_kinds(written, "r")
    assert list_kinds(found, "s") == list_kinds(written, "s")
    assert {record.run_id for record in found} == {"r", "s"}
    for run_id in ("r", "s"):
        own = [record for record in found if record.run_id == run_id]
        assert isinstance(own[-1], RunRecord)


async def test_runs_are_weighed_with_all_that_belongs_to_them(store: Store) -> None:
    light = make_record("light", start_event=b"123", result=b"4567")
    heavy = make_record("heavy", start_event=None)
    await store.commit(
        Batch(
            runs={"light": light, "heavy": heavy},
            events=[EventRecord("heavy", n, b'"%d"' % n, internal=False) for n in range(9)],
            snapshots={"heavy": SnapshotRecord("heavy", 0, b"snapshot")},
        )
    )
    sizes = await store.weigh_runs(["heavy", "unknown", "light"])
    assert sizes.keys() == {"heavy", "light"}
    assert sizes["light"] == 7
    assert 9 * 3 + 8 <= sizes["heavy"] <= 10 * 4 + 8  # with what is between events of a pack


async def test_nothing_is_left_to_read_of_a_purged_run(store: Store) -> None:
    ended = replace(make_record("r"), status=Status.COMPLETED, phase=Phase.ENDED)
    batch = make_full("r")
    batch.runs["r"] = replace(ended, current=False)
    batch.runs["s"] = make_record("s", handler_id="r")
    await store.commit(batch)
    await store.commit(Batch(purged_runs=["r"]))
    assert await store.list_run_ids(limit=9) == ["s"]
    assert await store.weigh_runs(["r"]) == {}
    assert await store.read_runs(["r"]) == []


async def test_a_copy_that_is_under_way_is_noted_until_it_ends(store: Store) -> None:
    assert await store.get_copy() is None
    for source in ("here", "there: größe"):
        await store.note_copy(source)
        assert await store.get_copy() == source
    await store.stop()
    await store.start()
    assert await store.get_copy() == "there: größe"
    for _ in range(2):
        await store.note_copy(None)
        assert await store.get_copy() is None


@pytest.mark.parametrize("kind", DURABLE)
async def test_a_store_exists_once_it_was_opened(kind: str, tmp_path: Path) -> None:
    async with FRESH_URLS[kind](tmp_path) as url:
        assert not await open_store(url).exists()
        assert not await open_store(url).exists()
        async with opened_store(url):
            assert await open_store(url).exists()
        assert await open_store(url).exists()
