"""Servers that share a schema, each with its client: in processes of their own, or here."""

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
from tests.replicas.working import KINDS
from tests.support.command import COMMAND, make_environment
from tests.support.live import NO_TLS, open_client
from tests.support.ports import find_port
from tests.support.waiting import DEADLINE, until
from workflow_server.app.lifecycle import Lifecycle
from workflow_server.app.server import WorkflowServer

ROOT = Path(__file__).parents[2]
HEARTBEAT, STALE = 0.3, 3.0  # seconds


@dataclass(kw_only=True)
class Server:
    """A server, its name, and a client of it."""

    name: str
    client: httpx.AsyncClient

    async def is_up(self) -> bool:
        """Return whether it takes runs."""
        try:
            response = await self.client.get("/readyz", timeout=5)
        except httpx.TransportError:
            return False
        return response.status_code == 200

    async def handler(self, handler_id: str) -> dict[str, Any]:
        """Return a handler as this server shows it; nothing where it does not."""
        shown: dict[str, Any] = (await self.client.get(f"/handlers/{handler_id}")).json()
        return shown if "phase" in shown else {}

    async def result(self, handler_id: str) -> Any:
        """Return the result of a run once it has completed."""

        await until(lambda: self.shows(handler_id, "ended"))
        handler = await self.handler(handler_id)
        assert handler["status"] == "completed", handler["error"]
        return handler["result"]["value"]["result"]

    async def shows(self, handler_id: str, phase: str) -> bool:
        """Return whether this server shows a run in a phase."""
        shown: str | None = (await self.handler(handler_id)).get("phase")
        return shown == phase


@dataclass(kw_only=True)
class ServerProcess(Server):
    """A server in a process of its own."""

    process: Process

    async def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        await self.process.wait()


@dataclass(kw_only=True)
class ServerHere(Server):
    """A server in the test's process."""

    lifecycle: Lifecycle


@asynccontextmanager
async def process_of(url: str, folder: Path, *flags: str) -> AsyncIterator[ServerProcess]:
    """Yield a server, once it takes runs; it is killed where it still runs then."""
    port = find_port()
    environment = make_environment(WORKING_FOLDER=str(folder), PYTHONPATH=str(ROOT))
    arguments = (
        *("serve", working.__name__, "--store", url, "--port", str(port), "--replicas"),
        *("--heartbeat", str(HEARTBEAT), "--stale-after", str(STALE), "--idle-timeout", "0.2"),
        *("--max-resumes", "1", *flags),
    )
    with (folder / f"{port}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            COMMAND, *arguments, env=environment, stdin=DEVNULL, stdout=log, stderr=log
        )
    base_url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base_url, timeout=DEADLINE, verify=NO_TLS) as client:
        server = ServerProcess(name=str(process.pid), client=client, process=process)
        try:
            await until(server.is_up, within=3 * DEADLINE)  # several may start at once
            yield server
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            await process.wait()


@asynccontextmanager
async def here(url: str, folder: Path, name: str, **options: Any) -> AsyncIterator[ServerHere]:
    """Yield a server in the test's process."""
    server = WorkflowServer(
        workflow_store=url,
        **{
            "replicas": True,
            "heartbeat": HEARTBEAT,
            "stale_after": STALE,
            "idle_timeout": 0.2,
            **options,
        },
    )
    for kind, workflow in KINDS.items():
        server.add_workflow(kind, workflow(name, folder))
    async with open_client(server) as client:
        yield ServerHere(name=name, client=client, lifecycle=server.lifecycle)


@asynccontextmanager
async def processes(
    url: str, folder: Path, count: int, *flags: str
) -> AsyncIterator[Sequence[ServerProcess]]:
    """Yield several servers, each in a process of its own."""
    async with AsyncExitStack() as stack:
        started = [process_of(url, folder, *flags) for _ in range(count)]
        yield await asyncio.gather(*map(stack.enter_async_context, started))


def open_gate(folder: Path, name: str = "gate") -> None:
    """Let the runs of a gate end."""
    (folder / name).touch()
