"""Retention: ended handlers that are older than is wanted, removed in small batches."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from app.engine.session import Clock, utc_now
from app.errors import StoreFailed
from app.reads import Reads
from app.telemetry.logs import get_logger
from app.telemetry.metrics import Metrics
from schemas.records import Batch, HandlerKey
from stores.base import Store

logger = get_logger(__name__)

Purge = Callable[[HandlerKey], Awaitable[bool]]

BATCH = 100  # handlers that one look at the store removes
PAUSE = 60.0  # seconds between two looks that found nothing


async def prune(reads: Reads, purge: Purge, *, older_than: timedelta, clock: Clock) -> int:
    """Remove every handler that ended longer ago than this; return how many were removed.

    `purge` may decline to remove a handler, which has begun to run again, by returning false.
    """
    removed = 0
    while expired := await reads.ask(
        reads.store.list_ended(before=clock() - older_than, limit=BATCH)
    ):
        purged = sum(await asyncio.gather(*(purge(key) for key in expired)))
        removed += purged
        if not purged:
            break
    return removed


async def keep_pruning(reads: Reads, purge: Purge, *, retention: timedelta, clock: Clock) -> None:
    """Remove what is older than `retention`, now and then, for ever."""
    while True:
        try:
            removed = await prune(reads, purge, older_than=retention, clock=clock)
        except StoreFailed as error:
            logger.warning("pruning was cut off", error=str(error))
        else:
            if removed:
                logger.info("handlers pruned", handlers=removed)
        await asyncio.sleep(PAUSE)


async def prune_store(store: Store, *, older_than: timedelta) -> int:
    """Remove handlers that ended longer ago from a store that no server uses; say how many."""

    async def purge(key: HandlerKey) -> bool:
        await store.commit(Batch(purged=[key]))
        return True

    await store.start()
    try:
        reads = Reads(store, Metrics())
        return await prune(reads, purge, older_than=older_than, clock=utc_now)
    finally:
        await store.stop()
