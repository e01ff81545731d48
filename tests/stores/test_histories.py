"""The contract on the histories of runs, in every store."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.stores.test_conformance import R, batch_of, make_run
from tests.support.backends import FRESH_URLS, opened_store
from workflow_server.schemas.records import (
    Batch,
    EndedHandler,
    HistoryExtent,
    HistoryRecord,
    Status,
)
from workflow_server.stores.base import Store


def make_packs(
    count: int, *, ticks: int = 2, size: int = 10, run_id: str = "r"
) -> list[HistoryRecord]:
    """Return the first packs of a run, each of so many ticks and bytes."""
    return [
        HistoryRecord(
            run_id, number * ticks, number * ticks + ticks - 1, (number + 1) * size, b"t" * size
        )
        for number in range(count)
    ]


async def read_all(store: Store, *, after: int = -1, limit: int = 3) -> list[HistoryRecord]:
    """Return the packs of a run after a tick, read page by page."""
    read: list[HistoryRecord] = []
    while page := await store.read_history("r", after=after, limit=limit):
        assert len(page) <= limit
        read += page
        after = page[-1].last
    return read


@pytest.mark.parametrize("kind", FRESH_URLS)
async def test_packs_come_in_order_from_the_one_with_the_tick_after_a_cursor(
    kind: str, tmp_path: Path
) -> None:
    packs = make_packs(8)
    async with FRESH_URLS[kind](tmp_path) as url, opened_store(url) as store:
        batch = batch_of(make_run())
        batch.histories = packs[:5]
        await store.commit(batch)
        await store.commit(Batch(histories=packs[5:]))
        await store.commit(Batch(histories=packs[5:]))  # again
        found = [
            await read_all(store),
            await read_all(store, after=4),
            await read_all(store, after=5),
            await read_all(store, after=15),
        ]
        extent = await store.get_history_extent("r")
        nobody = list(await store.read_history("nobody", after=-1, limit=1))
        unknown = await store.get_history_extent("nobody")
    assert found == [packs, packs[2:], packs[3:], []]
    assert (extent, unknown, nobody) == (HistoryExtent(16, 80), HistoryExtent(), [])


@pytest.mark.parametrize("kind", FRESH_URLS)
async def test_a_history_goes_up_to_a_size_and_the_rest_keeps_its_place(
    kind: str, tmp_path: Path
) -> None:
    packs = make_packs(4)
    async with FRESH_URLS[kind](tmp_path) as url, opened_store(url) as store:
        batch = batch_of(make_run())
        batch.histories, batch.forgotten = packs[:3], {"r": 10}
        await store.commit(batch)
        once = await read_all(store)
        await store.commit(Batch(histories=packs[3:], forgotten={"r": 25}))
        twice = await read_all(store)
        extent = await store.get_history_extent("r")
    assert (once, twice) == (packs[1:3], packs[3:])
    assert extent == HistoryExtent(8, 40)


@pytest.mark.parametrize("kind", FRESH_URLS)
async def test_a_page_of_large_packs_ends_early_but_has_one(kind: str, tmp_path: Path) -> None:
    packs = make_packs(3, size=1 << 18)
    async with FRESH_URLS[kind](tmp_path) as url, opened_store(url) as store:
        batch = batch_of(make_run())
        batch.histories = packs
        await store.commit(batch)
        found = await read_all(store, limit=100)
    assert found == packs


@pytest.mark.parametrize("kind", FRESH_URLS)
async def test_a_history_outlives_the_end_of_its_run_and_goes_when_it_is_purged(
    kind: str, tmp_path: Path
) -> None:
    async with FRESH_URLS[kind](tmp_path) as url, opened_store(url) as store:
        batch = batch_of(make_run(status=Status.COMPLETED))
        batch.histories, batch.finished, batch.superseded = make_packs(2), {"r"}, {"r"}
        await store.commit(batch)
        kept = await read_all(store)
        await store.commit(Batch(purged=[EndedHandler(R, "r")]))
        left = await read_all(store)
    assert (kept, left) == (make_packs(2), [])


@pytest.mark.parametrize("kind", FRESH_URLS)
async def test_whether_a_run_keeps_its_history_comes_back(kind: str, tmp_path: Path) -> None:
    async with FRESH_URLS[kind](tmp_path) as url, opened_store(url) as store:
        await store.commit(batch_of(replace(make_run(), keeps_history=True), make_run("s")))
        found = [await store.get_run(run_id) for run_id in ("r", "s")]
    assert [run.keeps_history for run in found if run] == [True, False]
