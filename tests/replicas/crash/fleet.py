"""Servers that share a schema, each behind a relay to the database, under one address."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.durability.crash.process import STARTUP, ServerProcess
from tests.support.live import NO_TLS
from tests.support.nginx import balancing
from tests.support.postgres import connect, schema_of
from tests.support.tcp_proxy import TcpProxy, tcp_proxy
from tests.support.waiting import DEADLINE, until

SERVED = Path(__file__).with_name("served.py")
SERVERS = 3
IDLE_TIMEOUT = 0.4
LOOK = 0.1  # seconds between two looks


@dataclass
class Place:
    """A place for a server: its port, and its way to the database, where it goes by a `name`."""

    name: str
    server: ServerProcess
    relay: TcpProxy
    is_used: bool = False

    async def is_ready(self) -> bool:
        """Return whether its server takes requests; fail where it has ended."""
        if self.server.status is not None:
            raise AssertionError(f"{self} ended with {self.server.status}: {self.last_words}")
        async with httpx.AsyncClient(verify=NO_TLS, timeout=5) as client:
            with suppress(httpx.TransportError):
                if (await client.get(f"{self.server.url}/readyz")).status_code == 200:
                    return True
        await asyncio.sleep(LOOK)
        return False

    @property
    def last_words(self) -> str:
        """The end of its log."""
        return self.server.log.read_text()[-2000:]

    def __str__(self) -> str:
        return self.name


class Fleet:
    """Three servers, and a place for another one, behind an nginx."""

    def __init__(self, store: str, url: str, places: list[Place], log: Path) -> None:
        self.url = url
        self.places = places
        self.effects = places[0].server.effects
        self.log = log
        self._store = store

    @property
    def used(self) -> list[Place]:
        """The places that have a server."""
        return [place for place in self.places if place.is_used]

    async def start(self) -> None:
        """Start all servers."""
        for place in self.places[:SERVERS]:
            await self.begin(place)

    async def begin(self, place: Place) -> None:
        """Start a server in a place."""
        place.is_used = True
        await place.server.start()

    async def wait_healthy(self) -> None:
        """Return when all servers take requests, and nobody else is thought to be alive."""
        async with asyncio.TaskGroup() as tasks:
            for place in self.used:
                tasks.create_task(until(place.is_ready, within=STARTUP))
        await until(self._is_settled, within=STARTUP)

    async def end(self, how: signal.Signals) -> int | None:
        """End all servers."""
        for place in self.used:
            place.relay.open.set()
            if place.server.status is None:
                place.server.send(signal.SIGCONT)
        return max([await place.server.end(how) or 0 for place in self.used], default=None)

    async def list_members(self) -> list[int]:
        """Return the incarnations that are alive."""
        async with connect() as database:
            rows = await database.fetch(
                f"SELECT id FROM {schema_of(self._store)}.incarnations ORDER BY id"
            )
        return [row["id"] for row in rows]

    async def _is_settled(self) -> bool:
        if len(await self.list_members()) == len(self.used):
            return True
        await asyncio.sleep(LOOK)
        return False


@asynccontextmanager
async def fleet(store: str, folder: Path, *, stale_after: float) -> AsyncIterator[Fleet]:
    """Yield a fleet on a store, none of whose servers has started."""
    target = urlsplit(store)
    settings = {
        "CRASH_HEARTBEAT": str(stale_after / 5),
        "CRASH_STALE_AFTER": str(stale_after),
    }
    async with AsyncExitStack() as stack:
        places = []
        for number in range(SERVERS + 1):
            relay = await stack.enter_async_context(
                tcp_proxy(target.hostname or "", target.port or 5432)
            )
            name = f"{schema_of(store)}-{number}"
            through = store.replace(target.netloc, f"{target.username}@127.0.0.1:{relay.port}")
            server = ServerProcess(
                through.replace("?", f"?application_name={name}&"),
                folder,
                idle_timeout=IDLE_TIMEOUT,
                served=SERVED,
                name=name,
                variables=settings,
            )
            places.append(Place(name, server, relay))
        ports = [place.server.port for place in places]
        proxy = stack.enter_context(balancing(folder, ports))
        url = f"http://{proxy.host}:{proxy.port}"
        servers = Fleet(store, url, places, folder / "error.log")
        try:
            yield servers
        finally:
            async with asyncio.timeout(DEADLINE):
                await servers.end(signal.SIGKILL)
