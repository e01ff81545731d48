"""Runs of every kind on a server in the test's own process, whose store has a hard time."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.durability.crash.client import HEARTBEAT, Client
from tests.durability.crash.conduct import Ask, Conduct, FanOut, Gather, Stream, Wait, Walk
from tests.durability.crash.workloads import KINDS
from tests.support.live import serving
from workflow_server.app.server import WorkflowServer
from workflow_server.stores.base import Store

CONDUCTED: tuple[type[Conduct], ...] = (Walk, Stream, FanOut, Ask, Wait, Gather)
SIZE = 4
LONGEST_PAUSE = 0.2
PATIENCE = 300.0


@asynccontextmanager
async def served(
    store: Store, *, backoff: Sequence[float] = (0.01, 0.03), port: int = 0, **options: Any
) -> AsyncIterator[str]:
    """Serve runs of every kind, and yield the URL."""
    server = WorkflowServer(
        workflow_store=store,
        persistence_backoff=backoff,
        idle_timeout=0.05,
        max_resumes=1_000,
        sse_heartbeat_interval=HEARTBEAT,
        **options,
    )
    for kind in KINDS:
        server.add_workflow(kind.__name__.lower(), kind(timeout=None))
    async with serving(server, port=port) as url:
        yield url


@asynccontextmanager
async def conducting(url: str, *, size: int = SIZE) -> AsyncIterator[list[Conduct]]:
    """Conduct a run of each kind during the block and until all have ended, and audit them."""
    client = Client(url)
    chance = random.Random(5)
    conducted = [kind(client, f"{kind.workflow}-{size}", chance) for kind in CONDUCTED]
    try:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            for conduct in conducted:
                conduct.size = size
                conduct.longest_pause = LONGEST_PAUSE
                tasks.create_task(conduct.carry_out())
            yield conducted
        for conduct in conducted:
            await conduct.audit()
    finally:
        await client.close()


async def audit_again(url: str, conducted: Sequence[Conduct]) -> None:
    """Read all runs again from another server over the same store."""
    client = Client(url)
    for conduct in conducted:
        conduct.talk_to(client)
        await conduct.audit()
    await client.close()


def check(conducted: Sequence[Conduct]) -> list[str]:
    """Return what does not hold; a run may have been written off, but visibly."""
    for conduct in conducted:
        if not conduct.witness.is_written_off:
            conduct.check()
    return [sentence for conduct in conducted for sentence in conduct.witness.violations]
