"""Two servers over one store: the later one has the runs, and the earlier one writes nothing."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.durability import signed
from tests.durability.signed import STEPS, Signed
from tests.support.backends import DURABLE, FRESH_URLS
from tests.support.calls import result_of, start
from tests.support.command import COMMAND, make_environment
from tests.support.live import serving
from tests.support.ports import find_port
from tests.support.postgres import connect, temporary_schema, terminate_clients
from tests.support.streams import iterate_frames, read_frames
from tests.support.waiting import DEADLINE, until
from workflow_server.app.server import WorkflowServer
from workflow_server.stores.base import StoreError

ROOT = Path(__file__).parents[2]
Seen = list[tuple[int, dict[str, Any]]]


class Server:
    """A server with the name of which it signs; `gate` lets its runs go on."""

    def __init__(self, name: str, url: str) -> None:
        self.gate = asyncio.Event()
        self._workflow = Signed(name)
        self._workflow.gate = self.gate
        self._server = WorkflowServer(workflow_store=url, persistence_backoff=(0.05,) * 5)
        self._server.add_workflow("it", self._workflow)
        self._open = AsyncExitStack()
        self.client: httpx.AsyncClient

    async def start(self) -> None:
        """Start, and serve HTTP."""
        base_url = await self._open.enter_async_context(serving(self._server))
        self.client = await self._open.enter_async_context(
            httpx.AsyncClient(base_url=base_url, timeout=DEADLINE)
        )

    async def stop(self) -> None:
        """Stop in order."""
        await self._open.aclose()

    async def health(self) -> int:
        """Return the status that a probe gets."""
        return (await self.client.get("/health")).status_code

    async def is_healthy(self) -> bool:
        """Return whether a probe is content."""
        return await self.health() == 200


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Yield the URL of a store that two servers may reach."""
    async with temporary_schema() as url:
        yield url


@asynccontextmanager
async def started(name: str, url: str) -> AsyncIterator[Server]:
    """Yield a server, started."""
    server = Server(name, url)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def drop_sessions(url: str) -> None:
    """Let the database close the connections of all servers of a store."""
    async with connect() as database:
        await terminate_clients(database, url)


async def see(client: httpx.AsyncClient, handler_id: str, count: int) -> Seen:
    """Return the first events of a handler, as a reader sees them."""
    seen: Seen = []
    params = {"after_sequence": "-1", "include_internal": "true"}
    async with client.stream("GET", f"/events/{handler_id}", params=params) as response:
        async for frame in iterate_frames(response):
            seen.append((frame.sequence, frame.envelope))
            if len(seen) >= count:
                break
    return seen


async def see_all(client: httpx.AsyncClient, handler_id: str) -> Seen:
    """Return all events of a handler that has ended."""
    frames = await read_frames(client, handler_id, include_internal=True)
    return [(frame.sequence, frame.envelope) for frame in frames]


async def begin_at(server: Server) -> Seen:
    """Start the run `r`, and return what a reader has seen when it stands at its gate."""
    await start(server.client, "it", "r")
    return await see(server.client, "r", STEPS + 1)


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no server look by itself whether the store is still its own."""
    monkeypatch.setattr("workflow_server.app.lifecycle.WATCH_PAUSE", 1_000.0)


@pytest.mark.usefixtures("unwatched")
async def test_what_a_server_did_between_the_lives_of_another_stays(url: str) -> None:
    async with started("a", url) as a:
        seen = await begin_at(a)
        await drop_sessions(url)
        async with started("b", url) as b:
            b.gate.set()
            assert await result_of(b.client, "r") == "b"
            shown = await see_all(b.client, "r")
            assert shown[: len(seen)] == seen
        a.gate.set()
        await until(lambda: has_result(a.client, "b"))
        assert await see_all(a.client, "r") == shown
    async with started("c", url) as c:
        assert await see_all(c.client, "r") == shown
        assert await result_of(c.client, "r") == "b"


async def has_result(client: httpx.AsyncClient, result: str) -> bool:
    """Return whether the run `r` is shown with this result."""
    response = await client.get("/handlers/r")
    if response.status_code != 200:
        return False
    shown = response.json()["result"]
    return bool(shown and shown["value"]["result"] == result)


@pytest.mark.usefixtures("unwatched")
async def test_a_server_that_has_lost_its_store_says_so_at_once_and_joins_when_it_is_free(
    url: str,
) -> None:
    async with started("a", url) as a:
        await begin_at(a)
        assert await a.is_healthy()
        await drop_sessions(url)
        async with started("b", url) as b:
            assert await a.health() == 503
            a.gate.set()  # what it does now is written nowhere
            await until(lambda: refuses(a.client))
            assert (await a.health(), await b.health()) == (503, 200)
            b.gate.set()
            assert await result_of(b.client, "r") == "b"
        await until(a.is_healthy)
        assert await result_of(a.client, "r") == "b"
        await start(a.client, "it", "next")
        assert await result_of(a.client, "next") == "a"


async def refuses(client: httpx.AsyncClient) -> bool:
    """Return whether a server says of a run what it says when it does not serve."""
    return (await client.get("/handlers/r")).status_code == 503


async def takes_runs(client: httpx.AsyncClient) -> bool:
    """Return whether a server takes a run."""
    return (await client.post("/workflows/it/run-nowait", json={})).status_code == 200


async def test_an_idle_server_notices_that_its_store_is_lost(url: str) -> None:
    async with started("a", url) as a:
        await begin_at(a)
        reading = asyncio.create_task(see_all(a.client, "r"))
        await stop_and_go(url)
        async with asyncio.timeout(DEADLINE):
            await asyncio.wait({reading})  # it is sent away, and comes back by its cursor
        await until(a.is_healthy)
        assert (await a.client.get("/handlers/r")).json()["status"] == "completed"


async def stop_and_go(url: str) -> None:
    """Let another server come, end the run `r`, and go."""
    while True:
        await drop_sessions(url)
        b = Server("b", url)
        b.gate.set()
        try:
            await b.start()
        except StoreError:
            continue  # the other one was faster
        assert await result_of(b.client, "r") == "b"
        await b.stop()
        return


async def test_a_server_whose_sessions_are_dropped_keeps_its_runs_where_nobody_came(
    url: str,
) -> None:
    async with started("a", url) as a:
        seen = await begin_at(a)
        await drop_sessions(url)
        await until(lambda: takes_runs(a.client))
        with pytest.raises(StoreError, match="in use by another process"):
            await WorkflowServer(workflow_store=url).start()
        a.gate.set()
        assert await result_of(a.client, "r") == "a"
        shown = await see_all(a.client, "r")
        assert shown[: len(seen)] == seen
        assert [event["type"] for _, event in shown].count("RunResumedEvent") == 0


@asynccontextmanager
async def started_process(
    url: str, port: int | None = None
) -> AsyncIterator[tuple[Process, httpx.AsyncClient]]:
    """Yield a server in a process of its own, and a client of it."""
    port = port or find_port()
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        "serve",
        signed.__file__,
        "--port",
        str(port),
        env=make_environment(SIGNED_STORE=url, PYTHONPATH=str(ROOT)),
    )
    base_url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base_url, timeout=DEADLINE) as client:
        try:
            await until(lambda: is_up(client))
            yield process, client
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGTERM)
                await process.wait()


async def is_up(client: httpx.AsyncClient) -> bool:
    """Return whether a server says that it is healthy."""
    try:
        return (await client.get("/health", timeout=5)).status_code == 200
    except httpx.TransportError:
        return False


async def test_a_server_that_was_frozen_while_another_went_on_changes_nothing(url: str) -> None:
    async with started_process(url) as (a, client):
        await start(client, "it", "r")
        seen = await see(client, "r", 5)
        a.send_signal(signal.SIGSTOP)
        await drop_sessions(url)
        async with started_process(url) as (b, client_of_b):
            assert (await see(client_of_b, "r", len(seen))) == seen
            a.send_signal(signal.SIGCONT)
            assert await result_of(client_of_b, "r") == b.pid
            shown = await see_all(client_of_b, "r")
            assert (await client.get("/health")).status_code == 503
        await until(lambda: is_up(client))
        assert await see_all(client, "r") == shown
        assert await result_of(client, "r") == b.pid


@pytest.mark.parametrize("kind", DURABLE)
async def test_a_child_that_a_step_forks_keeps_neither_the_port_nor_the_store(
    kind: str, tmp_path: Path
) -> None:
    port = find_port()
    async with FRESH_URLS[kind](tmp_path) as url:
        async with started_process(url, port) as (process, client):
            await start(client, "forking", "r")
            shown = await see(client, "r", 2)
            child = int(shown[-1][1]["value"]["text"])
            process.kill()
            await process.wait()
        try:
            async with started_process(url, port) as (_, client):
                assert (await client.get("/handlers/r")).json()["status"] == "running"
                os.kill(child, 0)  # it is still there
                assert (await client.post("/handlers/r/cancel")).status_code == 200
        finally:
            os.kill(child, signal.SIGKILL)
