"""A server in a process of its own leaves at once when it is told to."""

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import httpx
import pytest

from tests.support.calls import start_asker
from tests.support.problems import problem_of
from tests.support.streams import iterate_frames
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, sys
from app.server import WorkflowServer
from tests.support.workflows import add_all

server = WorkflowServer()
add_all(server)
asyncio.run(server.serve(port=int(sys.argv[1])))
"""


@dataclass(frozen=True)
class Served:
    """A process that serves, and a client of it."""

    process: Process
    client: httpx.AsyncClient


def find_free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """Yield a server that answers."""
    port = find_free_port()
    command = [sys.executable, "-c", PROGRAM, str(port)]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

            async def answers() -> bool:
                with suppress(httpx.TransportError):
                    return (await client.get("/health")).status_code == 200
                return False

            await until(answers, within=30)
            yield Served(process, client)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def leaving(served: Served, number: signal.Signals) -> AsyncIterator[None]:
    """Send a signal, and see that the process ends within two seconds and a margin."""
    began = monotonic()
    served.process.send_signal(number)
    yield
    async with asyncio.timeout(10):
        await served.process.wait()
    assert monotonic() - began < 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_server_though_streams_are_open(
    served: Served, number: signal.Signals
) -> None:
    handler_id = await start_asker(served.client)
    params = {"after_sequence": "-1"}
    async with served.client.stream("GET", f"/events/{handler_id}", params=params) as response:
        frames = iterate_frames(response)
        first = await anext(frames)
        async with leaving(served, number):
            rest = [frame async for frame in frames]
    assert (first.type, rest) == ("Question", [])


async def test_a_signal_ends_the_server_though_runs_are_waited_for(served: Served) -> None:
    waiting = asyncio.create_task(
        served.client.post("/workflows/asker/run", json={"handler_id": "waited"}, timeout=30)
    )

    async def accepted() -> bool:
        return (await served.client.get("/handlers/waited")).status_code == 202

    await until(accepted)
    async with leaving(served, signal.SIGTERM):
        response = await waiting
    assert problem_of(response) == (503, "not_started")
