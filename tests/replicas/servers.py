"""Real servers that share a schema, each a process, with its client."""

import asyncio
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.replicas import working
from tests.support.command import COMMAND, make_environment
from tests.support.live import NO_TLS
from tests.support.ports import find_port
from tests.support.waiting import DEADLINE, until

ROOT = Path(__file__).parents[2]
HEARTBEAT, STALE = 0.3, 2.0  # seconds


@dataclass
class Server:
    """A server of its own process, and a client of it."""

    process: Process
    client: httpx.AsyncClient
    url: str

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        return self.process.pid

    async def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        await self.process.wait()

    async def is_up(self) -> bool:
        """Return whether it takes runs."""
        try:
            return (await self.client.get("/readyz", timeout=5)).is_success
        except httpx.TransportError:
            return False

    async def handler(self, handler_id: str) -> dict[str, Any]:
        """Return a handler as this server shows it; nothing where it does not answer."""
        response = await self.client.get(f"/handlers/{handler_id}")
        return dict(response.json()) if response.is_success else {}

    async def result(self, handler_id: str) -> Any:
        """Return the result of a run once it has completed."""

        async def has_ended() -> bool:
            return (await self.handler(handler_id)).get("status", "running") != "running"

        await until(has_ended)
        handler = await self.handler(handler_id)
        assert handler["status"] == "completed", handler["error"]
        return handler["result"]["value"]["result"]


@asynccontextmanager
async def served(url: str, folder: Path, *flags: str, **variables: str) -> AsyncIterator[Server]:
    """Yield a server with replicas, once it takes runs; it is killed where it still runs then."""
    port = find_port()
    environment = make_environment(WORKING_FOLDER=str(folder), PYTHONPATH=str(ROOT), **variables)
    arguments = (
        *("serve", working.__file__, "--store", url, "--port", str(port), "--replicas"),
        *("--heartbeat", str(HEARTBEAT), "--stale-after", str(STALE), "--idle-timeout", "0.2"),
        *("--max-resumes", "1", *flags),
    )
    with (folder / f"{port}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            COMMAND, *arguments, env=environment, stdin=DEVNULL, stdout=log, stderr=log
        )
    base_url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base_url, timeout=DEADLINE, verify=NO_TLS) as client:
        server = Server(process, client, base_url)
        try:
            await until(server.is_up)
            yield server
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            await process.wait()


@asynccontextmanager
async def all_served(
    url: str, folder: Path, count: int, *flags: str
) -> AsyncIterator[Sequence[Server]]:
    """Yield several servers that share a schema."""
    async with AsyncExitStack() as stack:
        started = [served(url, folder, *flags) for _ in range(count)]
        yield await asyncio.gather(*map(stack.enter_async_context, started))


async def is_shown(server: Server, handler_id: str, phase: str) -> bool:
    """Return whether a server shows a run in a phase."""
    return (await server.handler(handler_id)).get("phase") == phase


def open_gate(folder: Path, name: str = "gate") -> None:
    """Let the runs of a gate end."""
    (folder / name).touch()
