"""Processes in which others serve the application: uvicorn, gunicorn, and a site that mounts it."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.ports import find_port
from tests.support.waiting import DEADLINE, until

ROOT = Path(__file__).parents[2]
GRACE = 600.0  # seconds: whoever had to wait for its end would be noticed
GUNICORN_WORKER = ("-k", "uvicorn_worker.UvicornWorker")
UVICORN = ("-m", "uvicorn", "--log-level", "warning", "--port", "{port}")
# It kills a worker that keeps its loop for `--timeout` seconds.
TIMEOUTS = ("--timeout", "500", "--graceful-timeout", "500")
GUNICORN = ("-m", "gunicorn", "--bind", "127.0.0.1:{port}", *TIMEOUTS)


@dataclass(frozen=True)
class Host:
    """A way to serve the application: the command, and the path under which it is."""

    command: tuple[str, ...]
    path: str = ""


@dataclass(frozen=True)
class Hosted:
    """A process that serves, in a group of its own, and a client of it."""

    process: Process
    client: httpx.AsyncClient

    def signal(self, number: signal.Signals, *, all_at_once: bool = False) -> None:
        """Send a signal: SIGTERM to the process, SIGINT to its group, as a terminal does.

        `all_at_once` sends SIGTERM to the group too: gunicorn passes on only the first one.
        """
        if number is signal.SIGINT or all_at_once:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    async def listens(self) -> bool:
        """Return whether the process answers anything at all."""
        assert self.process.returncode is None, await self.process.communicate()
        with suppress(httpx.TransportError):
            await self.client.get("/livez")
            return True
        return False

    async def answers(self) -> bool:
        """Return whether the process serves."""
        assert self.process.returncode is None, await self.process.communicate()
        with suppress(httpx.TransportError):
            return (await self.client.get("/health")).status_code == 200
        return False

    async def wait(self) -> str:
        """Return what the process has printed, once it ends, long before its grace does."""
        async with asyncio.timeout(GRACE / 10):
            printed, _ = await self.process.communicate()
        return printed.decode()


@asynccontextmanager
async def launching(host: Host, store: str, **variables: str) -> AsyncIterator[Hosted]:
    """Yield a process that begins to serve, or refuses to."""
    port = find_port()
    command = [part.format(port=port) for part in host.command]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=ROOT,
        env={**os.environ, "STORE": store, "GRACE": str(GRACE), **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=STDOUT,
        start_new_session=True,
    )
    base_url = f"http://127.0.0.1:{port}{host.path}"
    try:
        async with httpx.AsyncClient(base_url=base_url, timeout=DEADLINE) as client:
            yield Hosted(process, client)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@asynccontextmanager
async def hosting(host: Host, store: str, **variables: str) -> AsyncIterator[Hosted]:
    """Yield a process that answers."""
    async with launching(host, store, **variables) as hosted:
        await until(hosted.answers)
        yield hosted
