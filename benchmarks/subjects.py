"""The servers that are measured, each a process whose log is in `.bench/`, and their stores."""

import asyncio
import compileall
import os
import socket
import sqlite3
import sys
import tempfile
import time
import tomllib
import uuid
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from benchmarks.client import Connection, ConnectionLost, WrongAnswer, drive, get, get_events
from workflow_server.app.packaging.links import search_path

CHECKOUT = Path(__file__).parent.parent
BENCH = CHECKOUT / ".bench"
WORKFLOWS = str(Path(__file__).with_name("workflows.py"))
STORES = ("memory", "sqlite", "postgres")
SQLITE, OUR_SCHEMA = "sqlite:///", "workflow_server"
POSTGRES = os.environ.get("WORKFLOW_BENCHMARK_POSTGRES", "postgresql://postgres@127.0.0.1/test")
CLIENTS, START_SECONDS, END_SECONDS = 16, 60, 30
IDLE_TIMEOUT = "WORKFLOW_SERVER_IDLE_TIMEOUT"
SETTINGS = {
    IDLE_TIMEOUT: "3600",  # seconds; no turn takes so long
    "WORKFLOW_SERVER_MAX_STREAMS_PER_CLIENT": "10000",  # all come from one address
    "WORKFLOW_SERVER_LOG_LEVEL": "warning",
}

PACKAGES = ("app", "routers", "schemas", "stores")

T = TypeVar("T")


def compile_code(code: Path) -> None:
    """Write the bytecode that an installed package has, also where Python shall write none."""
    for package in PACKAGES:
        compileall.compile_dir(code / package, quiet=2)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs; `first_answer` is how many seconds its start took."""

    pid: int
    port: int
    first_answer: float

    @asynccontextmanager
    async def connections(self, count: int) -> AsyncIterator[list[Connection]]:
        """Keep some connections open as long as the block lasts."""
        opened = [await Connection.open(self.port) for _ in range(count)]
        try:
            yield opened
        finally:
            for connection in opened:
                connection.close()

    @asynccontextmanager
    async def streams(self, ids: Sequence[str], first: bytes) -> AsyncIterator[list[Connection]]:
        """Open a stream of each handler, and begin the block when all have sent some bytes."""
        async with self.connections(len(ids)) as streams:
            for stream, handler_id in zip(streams, ids, strict=True):
                stream.request(get_events(handler_id))
                await stream.wait_for(first)
            yield streams

    async def share(self, turns: int, action: Callable[[Connection], Awaitable[T]]) -> list[T]:
        """Let up to sixteen clients carry out an action so many times; return the results."""
        async with self.connections(min(turns, CLIENTS)) as connections:
            clients = [partial(action, connection) for connection in connections]
            results, _ = await drive(clients, turns=turns)
        return results


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that is measured: a server with a store, or without one the engine or a yardstick.

    A server is started from the `code` by the interpreter `python`. It is `running` where it is
    kept from turn to turn.
    """

    name: str
    store: str = ""
    python: Path = Path(sys.executable)
    code: Path = CHECKOUT
    running: Server | None = None

    @asynccontextmanager
    async def serve(
        self, place: str = "", *, source: str = WORKFLOWS, **variables: str
    ) -> AsyncIterator[Server]:
        """Serve the workflows as long as the block lasts, in a place of its own by default."""
        if self.running is not None:
            yield self.running
            return
        async with AsyncExitStack() as stack:
            place = place or await stack.enter_async_context(fresh_place(self.store))
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port: int = probe.getsockname()[1]
            address = {"WORKFLOW_SERVER_STORE": place, "WORKFLOW_SERVER_PORT": str(port)}
            path = {"PYTHONPATH": search_path(self.code)}
            environment = {**os.environ, **SETTINGS, **address, **path}
            log = stack.enter_context((BENCH / f"{self.name.replace(', ', '-')}.log").open("wb"))
            command, begun = (str(self.python), *self._arguments(source)), time.perf_counter()
            process = await asyncio.create_subprocess_exec(
                *command, cwd=BENCH, env=environment | variables, stdout=log, stderr=log
            )
            stack.push_async_callback(_end, process)
            await self._wait_until_healthy(process, port)
            yield Server(process.pid, port, time.perf_counter() - begun)

    def _arguments(self, source: str) -> tuple[str, ...]:
        if self.name.startswith("peer"):
            return "-m", "benchmarks.peer_server", source
        # What the installed script does; at another commit it may begin elsewhere.
        project = tomllib.loads((self.code / "pyproject.toml").read_text())["project"]
        module, _, function = project["scripts"]["workflow-server"].partition(":")
        return "-c", f"from {module} import {function}; {function}()", "serve", source

    async def _wait_until_healthy(self, process: Process, port: int) -> None:
        until = time.monotonic() + START_SECONDS
        while process.returncode is None and time.monotonic() < until:
            try:
                connection = await Connection.open(port)
                await connection.ask(get("/health"))
                connection.close()
                return
            except (OSError, WrongAnswer):
                await asyncio.sleep(0.01)
        raise ConnectionLost(f"'{self.name}' did not start; its log is in {BENCH.name}/")


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), END_SECONDS)
        except TimeoutError:
            process.kill()


@asynccontextmanager
async def fresh_place(store: str) -> AsyncIterator[str]:
    """Yield the URL of a new place, a database beside `POSTGRES` for one; removed at the end."""
    match store:
        case "memory":
            yield "memory:"
        case "sqlite":
            with tempfile.TemporaryDirectory(dir=BENCH) as folder:
                yield f"{SQLITE}{folder}/runs.db"
        case _:
            name = f"bench_{uuid.uuid4().hex[:12]}"
            await execute(POSTGRES, f"CREATE DATABASE {name}")
            try:
                yield urlunsplit(urlsplit(POSTGRES)._replace(path=f"/{name}"))
            finally:
                await execute(POSTGRES, f"DROP DATABASE {name} WITH (FORCE)")


async def size_of(place: str) -> int:
    """Return the bytes that a place takes on disk."""
    if place.startswith(SQLITE):
        folder = Path(place.removeprefix(SQLITE)).parent
        return sum(file.stat().st_size for file in folder.iterdir())
    if place == "memory:":
        return 0
    return int(await execute(place, "SELECT pg_database_size(current_database())"))


async def execute(place: str, sql: str) -> Any:
    """Carry out a statement in a durable place, and return the first value of its answer."""
    if place.startswith(SQLITE):
        with closing(sqlite3.connect(place.removeprefix(SQLITE))) as database, database:
            return database.execute(sql).fetchone()
    connection = await asyncpg.connect(place, server_settings={"search_path": OUR_SCHEMA})
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()
