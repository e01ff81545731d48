"""A server under a supervisor: a process that is started again as often as it ends."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.durability.crash.process import ROOT
from tests.support.command import make_environment
from tests.support.ports import find_port
from tests.support.waiting import DEADLINE, until

STARTUP = 60.0  # seconds that a start may take, on a machine that is busy


class SupervisedServer:
    """One server process after the other, which serves a file over one store.

    `starts` counts them. What a client asks is asked again while no process answers.
    """

    def __init__(self, served: Path, store: str, *options: str, **environment: str) -> None:
        self.starts = 0
        self.log = served.with_suffix(".log")
        self.client: httpx.AsyncClient
        self._port = find_port()
        self._command = (
            *(sys.executable, "-m", "tests.durability.forked"),
            *("serve", str(served), "--store", store, "--port", str(self._port)),
            *options,
        )
        self._environment = make_environment(**environment)
        self._process: int | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep a process running until the end of the block."""
        with self.log.open("ab") as log:
            forking = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, cwd=ROOT, stdout=PIPE, stderr=log
            )
        counting = asyncio.create_task(self._count(forking), name="counting")
        url = f"http://127.0.0.1:{self._port}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=DEADLINE) as self.client:
                await self.wait_healthy()
                yield
        finally:
            forking.kill()  # before its server, of which it would make another
            await forking.wait()
            await counting
            self.kill()

    async def wait_healthy(self) -> None:
        """Return when a process answers."""

        async def healthy() -> bool:
            try:
                return (await self.client.get("/health")).status_code == 200
            except httpx.TransportError:
                return False

        await until(healthy, within=STARTUP)

    async def find(self, handler_id: str) -> dict[str, Any] | None:
        """Return a handler, or None where no process answers now."""
        try:
            response = await self.client.get(f"/handlers/{handler_id}")
        except httpx.TransportError:
            return None
        handler: dict[str, Any] = response.json()
        return handler if "handler_id" in handler else None

    async def wait_ended(self, handler_id: str, *, within: float = DEADLINE) -> dict[str, Any]:
        """Return a handler when its run has ended, however many processes that takes."""
        found: list[dict[str, Any]] = []

        async def ended() -> bool:
            handler = await self.find(handler_id)
            if handler is not None and handler["status"] != "running":
                found.append(handler)
            return bool(found)

        await until(ended, within=within)
        return found[0]

    async def wait_starts(self, count: int) -> None:
        """Return when so many processes have been started."""
        await until(lambda: self.starts >= count, within=STARTUP)

    def kill(self) -> None:
        """Kill the process that runs, as nothing that it does can prevent."""
        if self._process is not None:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self._process, signal.SIGKILL)

    async def _count(self, forking: Process) -> None:
        assert forking.stdout is not None
        async for line in forking.stdout:
            self._process = int(line)
            self.starts += 1
