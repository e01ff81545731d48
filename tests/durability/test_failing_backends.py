"""The real stores under load: a database that cuts connections, and a disk that is full."""

import asyncio
from pathlib import Path

from tests.durability.conducting import audit_again, check, conducting, served
from tests.durability.crash.witness import Witness
from tests.support.backends import opened_store
from tests.support.postgres import connect, temporary_schema, terminate_clients
from tests.support.waiting import until
from workflow_server.stores.sqlite import SqliteStore

CUTS = 10
ALL_PAGES = 1_000_000_000


async def test_nobody_notices_that_postgres_cuts_all_connections() -> None:
    async with temporary_schema() as url, connect() as database:
        async with (
            opened_store(url) as store,
            served(store, backoff=()) as base,
            conducting(base) as conducted,
        ):
            for _ in range(CUTS):
                await terminate_clients(database, url)
                await asyncio.sleep(0.4)
        async with opened_store(url) as store, served(store) as base:
            await audit_again(base, conducted)
    assert [conduct.witness.ended_as for conduct in conducted] == ["completed"] * len(conducted)
    assert check(conducted) == []


async def limit_pages(store: SqliteStore, pages: int) -> None:
    """Let the disk be full beyond so many pages; the file is never made smaller."""
    writer = store._writer
    assert writer is not None
    await writer.call(lambda file: file.execute(f"PRAGMA max_page_count = {pages}").fetchone())


async def test_a_full_disk_loses_nothing_that_was_seen(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "runs.db")
    await store.start()
    async with served(store) as base:
        async with conducting(base, size=30) as conducted:
            await until(lambda: seen(conducted[0].witness) > 5)
            await limit_pages(store, 1)
            await asyncio.sleep(0.5)
            await limit_pages(store, ALL_PAGES)
        await audit_again(base, conducted)
    assert check(conducted) == []


def seen(witness: Witness) -> int:
    """Return how many events were seen."""
    return len(witness.events)
