"""Row 5: thousands of open streams on which almost nothing happens."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.client import Connection
from benchmarks.following import follow_alone
from benchmarks.machine import allow_files
from benchmarks.readers import Readers
from benchmarks.scenario import DELAY_COLUMNS, KIB, Column, Reading, Scale, delays
from benchmarks.servers import Contender, Server

STREAMS_A_RUN = 100
OPENED_AT_ONCE = 250  # a server's queue of connections is finite
EVENTS, PAUSE = 50, 0.05
SPARE_FILES = 200


@dataclass(frozen=True, slots=True)
class Quiet:
    """Many streams of runs that wait, and a few events on one of them."""

    name: str = "quiet-streams"
    title: str = "open, quiet streams, a hundred a run; the delay is of events on one of them"
    columns: Sequence[Column] = (
        Column("streams", "streams", 0),
        Column("memory", "KiB/stream", factor=1 / KIB),
        Column("opening", "ms to open one", 2, 1e3),
        Column("cpu", "CPU %, quiet", 1, 100),
        *DELAY_COLUMNS,
    )
    compared: str | None = None
    more: bool = False
    repeated: bool = False

    async def measure(self, contender: Contender, scale: Scale) -> Reading | None:
        """Open the streams, let them be quiet, and use one."""
        streams = min(scale.streams, allow_files(scale.streams + SPARE_FILES) - SPARE_FILES)
        async with contender.serve() as server:
            connection = await Connection.open(server.port)
            runs = [
                await server.start_run("question", connection)
                for _ in range(streams // STREAMS_A_RUN)
            ]
            with Readers() as readers:
                await _open(server, readers, runs[:1] * STREAMS_A_RUN)  # the first cost more
                memory, begun = server.memory, time.perf_counter()
                await _open(server, readers, runs * STREAMS_A_RUN)
                opening = time.perf_counter() - begun
                memory = server.memory - memory
                connection.close()
                await asyncio.sleep(1)
                cpu = server.cpu or 0
                await asyncio.sleep(scale.quiet_seconds)
                cpu = (server.cpu or 0) - cpu
                one = await follow_alone(readers, server, events=EVENTS, pause=PAUSE)
        return {
            "streams": streams,
            "memory": memory / streams,
            "opening": opening / streams,
            "cpu": cpu / scale.quiet_seconds,
            **delays(one.delays),
        }


async def _open(server: Server, readers: Readers, handler_ids: Sequence[str]) -> None:
    for begin in range(0, len(handler_ids), OPENED_AT_ONCE):
        some = handler_ids[begin : begin + OPENED_AT_ONCE]
        await asyncio.to_thread(readers.open, server.port, some, wait_for=b"InputRequiredEvent")
