"""Row 4: one run and its many readers, in a burst and at a pace."""

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import Connection
from benchmarks.environments import BENCH
from benchmarks.readers import Readers, check_emissions
from benchmarks.scenario import DELAY_COLUMNS, Column, Reading, Scale, delays
from benchmarks.servers import Contender, Server
from benchmarks.workloads import WrongAnswer

BURSTS = {1: 5_000, 50: 1_000, 1_000: 200}  # events, by readers
PACE = 0.02  # seconds between two events
TIMEOUT = 60  # seconds
FIRST = b'"index":'  # of the emission before the gate


@dataclass(frozen=True, slots=True)
class Following:
    """One run is read by many while it emits, as fast as it can or at a pace."""

    readers: int
    columns: tuple[Column, ...] = (
        Column("burst", "burst: events delivered/s", 0),
        *DELAY_COLUMNS,
        Column("slowest", "max ms", factor=1e3),
        Column("cpu", "CPU %", 0, 100),
    )
    compared: str | None = "burst"
    more: bool = True
    repeated: bool = True

    @property
    def name(self) -> str:
        """The name on the command line."""
        return f"readers-{self.readers}"

    @property
    def title(self) -> str:
        """What the table says."""
        return (
            f"one run, {self.readers:,} readers: a burst of {BURSTS[self.readers]:,} events, and"
            " the delay from emission to arrival at 50 events/s"
        )

    async def measure(self, contender: Contender, scale: Scale) -> Reading | None:
        """Follow a burst, then a run at a pace."""
        async with contender.serve() as server:
            burst = BURSTS[self.readers] // (scale.slow if contender.is_slow else 1)
            # The first run of a process is slower than those that follow.
            await follow(server, readers=1, events=10)
            bursting = await follow(server, readers=self.readers, events=burst)
            paced = int(scale.pace_seconds / PACE)
            pacing = await follow(server, readers=self.readers, events=paced, pause=PACE)
        return {
            "burst": burst * self.readers / bursting.seconds,
            **delays(pacing.delays),
            "slowest": max(pacing.delays),
            "cpu": pacing.cpu / pacing.seconds,
        }


@dataclass(frozen=True, slots=True)
class Followed:
    """What was seen of a run: seconds to the last arrival, delays, emissions, server's CPU time."""

    seconds: float
    delays: list[float]
    emissions: list[float]
    cpu: float


async def follow(
    server: Server, *, readers: int, events: int, pause: float = 0, timeout: float = TIMEOUT
) -> Followed:
    """Let a run emit once its readers are there, and check that all of them read everything."""
    with Readers() as group:
        return await _follow(
            group, server, readers=readers, events=events, pause=pause, timeout=timeout
        )


async def follow_alone(group: Readers, server: Server, *, events: int, pause: float) -> Followed:
    """Let one more reader follow a run, beside those that are open already."""
    return await _follow(group, server, readers=1, events=events, pause=pause, timeout=TIMEOUT)


async def _follow(
    group: Readers, server: Server, *, readers: int, events: int, pause: float, timeout: float
) -> Followed:
    others = len(group.all)
    with tempfile.TemporaryDirectory(dir=BENCH) as folder:
        gate = Path(folder) / "open"
        connection = await Connection.open(server.port)
        handler_id = await server.start_run(
            "broadcast", connection, gate=str(gate), events=events, pause=pause
        )
        connection.close()
        await asyncio.to_thread(group.open, server.port, [handler_id] * readers, wait_for=FIRST)
        reading = asyncio.create_task(
            asyncio.to_thread(group.read, until_ended=readers, timeout=timeout)
        )
        begun, cpu = time.time(), server.cpu or 0
        gate.touch()
        await reading
    cpu = (server.cpu or 0) - cpu
    those = group.all[others:]
    first, *rest = [reader.response() for reader in those]
    check_emissions(first, range(-1, events))
    if any(other.body != first.body for other in rest):
        raise WrongAnswer("two readers of one run read different things")
    return Followed(
        max(reader.times[-1] for reader in those) - begun,
        [delay for reader in those for delay in list(reader.delays())[1:]],
        list(those[0].emissions())[1:],
        cpu,
    )
