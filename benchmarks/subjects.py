"""What takes turns at the workloads: servers that run, and the bare engine."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.client import Connection, Response
from benchmarks.environments import CHECKOUT
from benchmarks.samples import Sample, repeat
from benchmarks.servers import Server, SubjectFailed
from benchmarks.workloads import Workload

WARM_UP_SECONDS = 0.3
PATIENCE_SECONDS = 180  # for the runs that are open when the time is up


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
class ServerSubject:
    """A server that runs."""

    server: Server

    @property
    def name(self) -> str:
        """What the table calls it."""
        return self.server.name

    async def measure(self, workload: Workload, seconds: float) -> Sample:
        """Run a workload for some seconds, after a warm-up, and check its answers.

        The answers are checked when the time is up, lest the checks slow the clients down.
        """
        connections = [await Connection.open(self.server.port) for _ in range(workload.clients)]
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
        begun, client_cpu, cpu = time.perf_counter(), time.process_time(), self.server.cpu
        answers = await _drive(workload, connections, seconds, sample.latencies)
        sample.seconds = time.perf_counter() - begun
        sample.client_cpu = time.process_time() - client_cpu
        cpu_now = self.server.cpu
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
