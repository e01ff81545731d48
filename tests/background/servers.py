"""Servers that do work beside the runs: one that is alone, or several that share a store."""

import asyncio
import sys
from abc import ABC, abstractmethod
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.background import serving
from tests.replicas.joining import joined, peers_of
from tests.support.command import make_environment
from tests.support.tcp_proxy import TcpProxy
from workflow_server.app.background.choosing import make_background
from workflow_server.app.background.contract import Background, Work
from workflow_server.app.errors import StoreFailed
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.stores.replicas import Peers, Replicas

ROOT = Path(__file__).parents[2]
PATIENCE = 600.0  # seconds in which nobody is removed
SETTINGS = Replicas(heartbeat=1.0, stale_after=PATIENCE)


class Server:
    """A server of this process that has been started."""

    def __init__(self, works: tuple[Work, ...], peers: Peers | None) -> None:
        self._metrics = Metrics()
        self.background: Background = make_background(works, self._metrics, peers)
        self.background.start()

    def count(self, work: str, status: str) -> float:
        """Return how often the server has done a work, with this outcome."""
        return (
            self._metrics.registry.get_sample_value(
                "workflow_server_background_work_total", {"work": work, "status": status}
            )
            or 0.0
        )


class Servers(ABC):
    """Servers of one store, in this process or each in a process of its own.

    `size` of them may be there at once. The store can be away for a while.
    """

    size: int

    def __init__(self) -> None:
        self.stack = AsyncExitStack()
        self.is_away = False

    async def start(self, *works: Work) -> Server:
        """Start a server of some works in this process."""
        server = Server(works, await self._open())
        self.stack.push_async_callback(server.background.stop)
        return server

    async def start_all(self, *works: Work) -> list[Server]:
        """Start as many servers as may be there at once."""
        return [await self.start(*works) for _ in range(self.size)]

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Let the store be away during the block."""
        self.is_away = True
        try:
            yield
        finally:
            self.is_away = False

    def read(self) -> None:
        """Do as work does that reads the store."""
        if self.is_away:
            raise StoreFailed("It is away.")

    async def start_process(self, folder: Path, stale_after: float = PATIENCE) -> Process:
        """Start a server of `serving` in a process of its own."""
        arguments = str(folder), self._store_url, str(stale_after)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", serving.__name__, *arguments),
            env=make_environment(PYTHONPATH=str(ROOT)),
            stdin=DEVNULL,
        )
        self.stack.push_async_callback(_kill, process)
        return process

    async def start_processes(self, folder: Path) -> list[Process]:
        """Start as many processes as may be there at once."""
        return [await self.start_process(folder) for _ in range(self.size)]

    @abstractmethod
    async def replace(self, killed: Process, folder: Path) -> Process:
        """Kill a process at its work; return another one, which is there as soon as it may be."""

    @property
    @abstractmethod
    def _store_url(self) -> str:
        """The store of a server in a process of its own."""

    @abstractmethod
    async def _open(self) -> Peers | None:
        """Return the servers beside one that is started."""


class Alone(Servers):
    """A server after the other."""

    size = 1

    async def replace(self, killed: Process, folder: Path) -> Process:
        await _kill(killed)
        return await self.start_process(folder)

    @property
    def _store_url(self) -> str:
        return ""

    async def _open(self) -> None:
        return None


class Sharing(Servers):
    """Three servers that share a store, which they reach by a proxy."""

    size = 3

    def __init__(self, url: str, proxied: str, proxy: TcpProxy) -> None:
        super().__init__()
        self._url = url
        self._proxied = proxied
        self._proxy = proxy

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        self._proxy.open.clear()
        try:
            async with super().outage():
                yield
        finally:
            self._proxy.open.set()

    async def replace(self, killed: Process, folder: Path) -> Process:
        other = await self.start_process(folder, stale_after=serving.STALE)
        await serving.wait_looked(folder, other.pid)
        await _kill(killed)
        return other

    @property
    def _store_url(self) -> str:
        return self._url

    async def _open(self) -> Peers:
        return peers_of(await self.stack.enter_async_context(joined(self._proxied, SETTINGS)))


async def _kill(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
