"""Row 6: thousands of runs that wait for a person, in memory and released from it."""

import asyncio
import json
import time
from dataclasses import dataclass

from benchmarks.client import Connection, get
from benchmarks.scenario import KIB, Column, Reading, Scale, rank
from benchmarks.servers import RESIDENT, Contender, Server
from benchmarks.workloads import WrongAnswer, read_frames

CLIENTS = 16
WARM_UP_RUNS = 500
ANSWERED = 100
IDLE_TIMEOUT = 1.0
ANSWER_SECONDS = 15
QUIET_CPU = 0.03  # of a core: nothing is being released any more
SETTLING_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Waiting:
    """Runs that wait, and how long an answer takes to become a result.

    Released runs are begun in two lots: the memory that the first lot took while it was resident
    is free for the second, so that what the second adds is what released runs keep.
    """

    released: bool
    columns: tuple[Column, ...] = (
        Column("runs", "runs", 0),
        Column("memory", "KiB/run", 2, 1 / KIB),
        Column("start", "ms to start one", 2, 1e3),
        Column("p50", "answer to result p50 ms", 1, 1e3),
        Column("p99", "p99 ms", 1, 1e3),
    )
    compared: str | None = None
    more: bool = False
    repeated: bool = False

    @property
    def name(self) -> str:
        """The name on the command line."""
        return f"waiting-{'released' if self.released else 'resident'}"

    @property
    def title(self) -> str:
        """What the table says."""
        where = "released from memory" if self.released else "resident"
        return f"runs that wait for a person, {where}"

    async def measure(self, contender: Contender, scale: Scale) -> Reading | None:
        """Start the runs, and answer some."""
        runs = scale.waiting_runs // (1 if contender.is_ours else scale.slow)
        idle_timeout = IDLE_TIMEOUT if self.released else RESIDENT
        async with contender.serve(idle_timeout=idle_timeout) as server:
            # As many as are counted, so that what they need while they start is there already.
            await _start(server, runs if self.released else WARM_UP_RUNS // 5)
            await _settle(server, idle_timeout)
            memory, begun = server.memory, time.perf_counter()
            handler_ids = await _start(server, runs)
            seconds = time.perf_counter() - begun
            await _settle(server, idle_timeout)
            memory = server.memory - memory
            chosen = handler_ids[:: max(len(handler_ids) // ANSWERED, 1)]
            found = [await _answer(server, handler_id) for handler_id in chosen]
        return {
            "runs": runs,
            "memory": memory / runs,
            "start": seconds / runs,
            "p50": rank(found, 50),
            "p99": rank(found, 99),
        }


async def _start(server: Server, runs: int) -> list[str]:
    async def client(count: int) -> list[str]:
        connection = await Connection.open(server.port)
        try:
            return [await server.start_run("question", connection) for _ in range(count)]
        finally:
            connection.close()

    counts = [len(range(client, runs, CLIENTS)) for client in range(CLIENTS)]
    return [
        handler_id
        for started in await asyncio.gather(*map(client, counts))
        for handler_id in started
    ]


async def _settle(server: Server, idle_timeout: float) -> None:
    """Return when the server has nothing left to do."""
    if idle_timeout < RESIDENT:
        await asyncio.sleep(idle_timeout)
    for _ in range(SETTLING_SECONDS):
        cpu = server.cpu or 0
        await asyncio.sleep(1)
        if (server.cpu or 0) - cpu < QUIET_CPU:
            return
    raise WrongAnswer(f"{server.name} does not come to rest")


async def _answer(server: Server, handler_id: str) -> float:
    """Return the seconds from an answer to the result of its run, seen by a reader."""
    sender, reader = await Connection.open(server.port), await Connection.open(server.port)
    try:
        reading = asyncio.create_task(
            reader.request(get(f"/events/{handler_id}?sse=true&after_sequence=-1"))
        )
        await asyncio.sleep(0.01)
        begun = time.perf_counter()
        await server.send_event(handler_id, "HumanResponseEvent", sender, response=handler_id)
        try:
            response = await asyncio.wait_for(reading, ANSWER_SECONDS)
        except TimeoutError:
            raise WrongAnswer("a run that waits takes its answer and does not go on") from None
        seconds = time.perf_counter() - begun
    finally:
        sender.close()
        reader.close()
    last = read_frames(response.body)[-1][1]["value"]
    if last.get("result") != handler_id:
        raise WrongAnswer(f"the answer became {json.dumps(last):.300}")
    return seconds
