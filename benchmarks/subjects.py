"""What is measured: servers, each a process of its own on a free port, and the bare engine."""

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.client import Connection, ConnectionLost, Response, get
from benchmarks.environments import BENCH, CHECKOUT
from benchmarks.samples import Sample, repeat
from benchmarks.workloads import Workload

WARM_UP_SECONDS = 0.3
START_SECONDS = 30
END_SECONDS = 15
PATIENCE_SECONDS = 120  # for the runs that are open when the time is up

Command = Sequence[str | Path]


class SubjectFailed(Exception):
    """A subject did not start, or ended before it was told to."""


class Subject(Protocol):
    """Something that runs workloads."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    async def measure(self, workload: Workload, seconds: float) -> Sample:
        """Run a workload for some seconds, after a warm-up, and check its answers."""


@dataclass(frozen=True, slots=True)
class BareEngine:
    """The engine without any server, in a process of its own for each turn."""

    python: Path
    name: str = "bare engine"

    async def measure(self, workload: Workload, seconds: float) -> Sample:
        """Run a workload for some seconds, after a warm-up, and check its answers."""
        process = await asyncio.create_subprocess_exec(
            self.python,
            *("-m", "benchmarks.bare", workload.name, str(seconds)),
            cwd=CHECKOUT,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise SubjectFailed(f"{self.name} ended with status {process.returncode}")
        return Sample(**json.loads(output))


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs."""

    name: str
    port: int
    pid: int

    async def measure(self, workload: Workload, seconds: float) -> Sample:
        """Run a workload for some seconds, after a warm-up, and check its answers.

        The answers are checked when the time is up, lest the checks slow the clients down.
        """
        connections = [await Connection.open(self.port) for _ in range(workload.clients)]
        try:
            async with asyncio.timeout(seconds + PATIENCE_SECONDS):
                await _drive(workload, connections[:1], WARM_UP_SECONDS, [])
                sample, answers = await self._take_sample(workload, connections, seconds)
        finally:
            for connection in connections:
                connection.close()
        for answer in answers:
            workload.check(answer)
        return sample

    async def _take_sample(
        self, workload: Workload, connections: Sequence[Connection], seconds: float
    ) -> tuple[Sample, list[Response]]:
        sample = Sample()
        begun, client_cpu, cpu = time.perf_counter(), time.process_time(), _cpu(self.pid)
        answers = await _drive(workload, connections, seconds, sample.latencies)
        sample.seconds = time.perf_counter() - begun
        sample.client_cpu = time.process_time() - client_cpu
        cpu_now = _cpu(self.pid)
        sample.cpu = cpu_now - cpu if cpu is not None and cpu_now is not None else None
        return sample, answers


async def _drive(
    workload: Workload, connections: Sequence[Connection], seconds: float, latencies: list[float]
) -> list[Response]:
    until = time.perf_counter() + seconds

    async def client(connection: Connection) -> list[Response]:
        return await repeat(lambda: workload.run(connection), until=until, latencies=latencies)

    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(client(connection)) for connection in connections]
    return [answer for each in clients for answer in each.result()]


def _cpu(pid: int) -> float | None:
    """Return the seconds of processor time that a process has used; None where nothing tells."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def our_server(bin_folder: Path, store: str) -> AsyncIterator[Server]:
    """Serve the workflows with this checkout's wheel and a store."""
    file = Path(__file__).with_name("workflows.py")
    command: Command = [bin_folder / "workflow-server", "serve", file, "--store", store]
    name = f"ours, {store.partition(':')[0]}"
    async with _running(name, [*command, "--log-level", "warning", "--port"]) as server:
        yield server


@asynccontextmanager
async def peer_server(bin_folder: Path, sqlite_file: Path | None = None) -> AsyncIterator[Server]:
    """Serve the workflows with the published peer, in memory or in a SQLite file."""
    name = "peer, sqlite" if sqlite_file else "peer, memory"
    command: Command = [bin_folder / "python", "-m", "benchmarks.peer_server"]
    arguments: Command = [sqlite_file] if sqlite_file else []
    async with _running(name, command, arguments) as server:
        yield server


@asynccontextmanager
async def _running(name: str, command: Command, arguments: Command = ()) -> AsyncIterator[Server]:
    """Run `COMMAND PORT ARGUMENTS` as long as the block lasts; its log goes to `.bench/`."""
    port = _free_port()
    log = BENCH / f"{name.replace(', ', '-')}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, str(port), *arguments, cwd=CHECKOUT, stdout=output, stderr=output
        )
    try:
        await _wait_healthy(process, port, name)
        yield Server(name, port, process.pid)
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
            await asyncio.sleep(0.05)
    raise SubjectFailed(f"'{name}' did not start; its log is in {BENCH.name}/")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
