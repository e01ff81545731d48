"""One fault of a store, under runs of every kind and clients that ask for everything."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta

import httpx

from tests.durability.bystanders import Bystanders, expire
from tests.durability.conducting import audit_again, check, conducting, served
from tests.durability.faulty import FOR_GOOD, Fault, FaultyStore
from tests.support.live import make_client
from tests.support.ports import find_port
from tests.support.waiting import until
from workflow_server.stores.base import Store

LONG_ENOUGH = 0.3  # seconds that a fault lasts once it has struck
RETENTION = timedelta(days=1)
WRITES = ("commit", "everything")
VITAL = ("check", *WRITES)  # without which a server is not healthy


@dataclass
class Ordeal:
    """A fault, and what came of it; `violations` are sentences."""

    operation: str
    fault: Fault
    times: int
    struck: int = 0
    violations: list[str] = field(default_factory=list)

    async def undergo(self, real: Store) -> None:
        """Stop a server in mid-run, and start it again while its store has the fault."""
        store, port = FaultyStore(real), find_port()
        url = f"http://127.0.0.1:{port}"
        async with (
            AsyncExitStack() as servers,
            make_client(url) as client,
        ):
            before = await servers.enter_async_context(AsyncExitStack())
            await before.enter_async_context(served(store, port=port))
            bystanders = await Bystanders.prepare(client)
            async with conducting(url) as conducted:
                begun = len(store.commits)
                await until(lambda: len(store.commits) > begun + 5)
                await before.aclose()
                await expire(real)
                script = store.break_down(self.operation, self.fault, self.times)
                await servers.enter_async_context(served(store, port=port, retention=RETENTION))
                async with bystanders.asking(self.violations):
                    await until(lambda: script.happened > 0)
                    await asyncio.sleep(LONG_ENOUGH)
                    self.struck = script.happened
                    await self._check_health(client)
                    store.repair()
                    # A commit that was at work when it was repaired may still fail.
                    await until(bystanders.may_start)
                    await until(lambda: is_healthy(client))
                self.violations += await bystanders.check(real)
        async with served(FaultyStore(real)) as url:
            await audit_again(url, conducted)
        self.violations += check(conducted)
        if not self._may_end_runs:
            ended = [conduct.name for conduct in conducted if conduct.witness.is_written_off]
            self.violations += [f"{name} was written off" for name in ended]

    async def _check_health(self, client: httpx.AsyncClient) -> None:
        """See that health tells the truth of a fault that lasts."""
        if self.times == FOR_GOOD and self.fault is not Fault.SLOW:
            vital = self.operation in VITAL
            await until(lambda: says_healthy(client, not vital))

    @property
    def _may_end_runs(self) -> bool:
        """Whether a commit may fail as often as it is tried."""
        return self.operation in WRITES and self.fault is not Fault.SLOW and self.times > 1


async def is_healthy(client: httpx.AsyncClient) -> bool:
    """Return whether the server says that it is healthy."""
    return (await client.get("/health")).status_code == 200


async def says_healthy(client: httpx.AsyncClient, healthy: bool) -> bool:
    """Return whether this is what the server says."""
    return await is_healthy(client) is healthy
