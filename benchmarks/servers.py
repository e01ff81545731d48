"""The servers that are measured: each a process of its own, on a free port and a place of its own.

The log of each goes to `.bench/`.
"""

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import Connection, ConnectionLost, get, post
from benchmarks.environments import BENCH, CHECKOUT
from benchmarks.machine import cpu_of, memory_of
from benchmarks.places import Place, fresh_place

WORKFLOWS = Path(__file__).with_name("workflows.py")
START_SECONDS = 60
END_SECONDS = 30
POLL_SECONDS = 0.01
MAX_STREAMS = 10_000
RESIDENT = 3_600.0  # an idle timeout that no turn reaches

Command = Sequence[str | Path]


class SubjectFailed(Exception):
    """A subject did not start, ended before it was told to, or refused a request."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs; `first_answer` is how many seconds its start took."""

    name: str
    port: int
    pid: int
    first_answer: float

    @property
    def cpu(self) -> float | None:
        """The seconds of processor time that it has used; None where nothing tells."""
        return cpu_of(self.pid)

    @property
    def memory(self) -> int:
        """The bytes that it keeps resident."""
        return memory_of(self.pid)

    async def start_run(self, workflow: str, connection: Connection, **fields: object) -> str:
        """Start a run and return its handler's id."""
        body = {"start_event": fields} if fields else {}
        request = post(f"/workflows/{workflow}/run-nowait", json.dumps(body).encode())
        return str((await self.ask(connection, request))["handler_id"])

    async def send_event(
        self, handler_id: str, kind: str, connection: Connection, **fields: object
    ) -> None:
        """Send an event into a run."""
        body = json.dumps({"event": {"type": kind, "value": fields}}).encode()
        await self.ask(connection, post(f"/events/{handler_id}", body))

    async def ask(self, connection: Connection, request: bytes) -> dict[str, object]:
        """Return the JSON that answers a request; `SubjectFailed` for another status than 200."""
        response = await connection.request(request)
        if response.status != 200:
            raise SubjectFailed(f"{self.name}: {response.status}: {response.body[:300]!r}")
        answer: dict[str, object] = json.loads(response.body)
        return answer


@dataclass(frozen=True, slots=True)
class Contender:
    """A server that can be started, with one kind of store.

    `bin_folder` is its environment, and `python` an interpreter that can reach a Postgres.
    """

    family: str
    kind: str
    bin_folder: Path
    python: Path
    postgres: str

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.family}, {self.kind}"

    @property
    def is_ours(self) -> bool:
        """Whether it is our server."""
        return self.family == "ours"

    @property
    def is_durable(self) -> bool:
        """Whether its runs outlive its process."""
        return self.kind != "memory"

    @property
    def is_slow(self) -> bool:
        """Whether it gets a tenth of the work, lest the benchmark take hours."""
        return self.is_durable and not self.is_ours

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """Make a fresh place for its runs, removed at the end of the block."""
        async with fresh_place(
            self.kind, self.python, postgres=self.postgres, whole_database=not self.is_ours
        ) as place:
            yield place

    @asynccontextmanager
    async def serve(
        self, place: Place | None = None, *, idle_timeout: float = RESIDENT
    ) -> AsyncIterator[Server]:
        """Serve the workflows as long as the block lasts, in a place of its own by default."""
        if place is None:
            async with self.place() as own, self.serve(own, idle_timeout=idle_timeout) as server:
                yield server
            return
        port = _free_port()
        command, variables = self._command(place, port, idle_timeout)
        async with _running(self.name, port, command, variables) as server:
            yield server

    def _command(
        self, place: Place, port: int, idle_timeout: float
    ) -> tuple[Command, Mapping[str, str]]:
        if not self.is_ours:
            python = self.bin_folder / "python"
            arguments = (str(port), place.url, str(idle_timeout))
            return [python, "-m", "benchmarks.peer_server", *arguments], {}
        return [
            *(self.bin_folder / "workflow-server", "serve", WORKFLOWS),
            *("--store", place.url, "--port", str(port), "--log-level", "warning"),
            # All clients of a benchmark come from one address.
            *("--max-streams-per-client", str(MAX_STREAMS)),
        ], {"WORKFLOW_SERVER_IDLE_TIMEOUT": str(idle_timeout)}


@asynccontextmanager
async def _running(
    name: str, port: int, command: Command, variables: Mapping[str, str]
) -> AsyncIterator[Server]:
    begun = time.perf_counter()
    with (BENCH / f"{name.replace(', ', '-')}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=CHECKOUT, env={**os.environ, **variables}, stdout=log, stderr=log
        )
    try:
        await _wait_healthy(process, port, name)
        yield Server(name, port, process.pid, time.perf_counter() - begun)
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), END_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _wait_healthy(process: asyncio.subprocess.Process, port: int, name: str) -> None:
    until = time.monotonic() + START_SECONDS
    while process.returncode is None and time.monotonic() < until:
        try:
            connection = await Connection.open(port)
            try:
                if (await connection.request(get("/health"))).status == 200:
                    return
            finally:
                connection.close()
        except (OSError, ConnectionLost):
            pass
        await asyncio.sleep(POLL_SECONDS)
    raise SubjectFailed(f"'{name}' did not start; its log is in {BENCH.name}/")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
