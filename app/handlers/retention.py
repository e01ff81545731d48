"""Retention: what ended longer ago than is wanted, removed in small batches.

That is each handler whose current run ended long ago, and of the others each superseded run that
did: a conversation of years keeps the turns of the last weeks.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from workflow_server.app.background.contract import Work
from workflow_server.app.clocks import Clock, utc_now
from workflow_server.app.reads import Reads
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.records import Batch, EndedHandler
from workflow_server.stores.base import Store

logger = get_logger(__name__)

BATCH = 100  # handlers, or runs, that one look at the store removes
PAUSE = 60.0  # seconds between two looks


class Purges(NamedTuple):
    """The ways to remove a handler, and a superseded run by its id.

    `handler` may decline to remove one that has begun to run again, by returning false.
    """

    handler: Callable[[EndedHandler], Awaitable[bool]]
    run: Callable[[str], Awaitable[None]]


class Removed(NamedTuple):
    """Numbers of what was removed: handlers, and superseded runs of other handlers."""

    handlers: int
    runs: int


async def prune(reads: Reads, purges: Purges, *, older_than: timedelta, clock: Clock) -> Removed:
    """Remove every handler and every superseded run that ended longer ago than this."""
    before = clock() - older_than
    return Removed(
        handlers=await _prune_handlers(reads, purges, before),
        runs=await _prune_superseded(reads, purges, before),
    )


async def _prune_handlers(reads: Reads, purges: Purges, before: datetime) -> int:
    removed = 0
    while expired := await reads.ask(reads.store.list_ended(before=before, limit=BATCH)):
        purged = sum(await asyncio.gather(*(purges.handler(ended) for ended in expired)))
        removed += purged
        if not purged:
            break
    return removed


async def _prune_superseded(reads: Reads, purges: Purges, before: datetime) -> int:
    removed = 0
    while expired := await reads.ask(reads.store.list_superseded(before=before, limit=BATCH)):
        await asyncio.gather(*(purges.run(run_id) for run_id in expired))
        removed += len(expired)
    return removed


def make_works(
    reads: Reads,
    purges: Purges,
    sweep: Callable[[], Awaitable[None]],
    *,
    retention: timedelta | None,
    clock: Clock,
) -> list[Work]:
    """Return the work beside the runs: what is left of purged runs, and what is too old.

    `sweep` removes the former; without `retention` nothing is too old.
    """
    works = [Work(name="sweep", period=PAUSE, do=sweep)]
    if retention is not None:

        async def remove_old() -> None:
            removed = await prune(reads, purges, older_than=retention, clock=clock)
            if any(removed):
                logger.info("handlers pruned", handlers=removed.handlers, runs=removed.runs)

        works.append(Work(name="retention", period=PAUSE, do=remove_old))
    return works


async def prune_store(store: Store, *, older_than: timedelta) -> Removed:
    """Remove what ended longer ago from a store that no server uses; say how much."""

    async def purge_handler(ended: EndedHandler) -> bool:
        while await store.get_handler(ended.key) is not None:
            await store.commit(Batch(purged=[ended]))
            await sweep()
        return True

    async def purge_run(run_id: str) -> None:
        while await store.get_run(run_id) is not None:
            await store.commit(Batch(purged_runs=[run_id]))
            await sweep()

    async def sweep() -> None:
        while purged := await store.list_purged():
            await store.commit(Batch(purged_runs=list(purged)))

    await store.start()
    try:
        reads = Reads(store, Metrics())
        purges = Purges(purge_handler, purge_run)
        return await prune(reads, purges, older_than=older_than, clock=utc_now)
    finally:
        await store.stop()
