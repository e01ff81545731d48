"""Row 8: a thousand runs of a thousand ticks, cut off and resumed at the start of the server."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.client import Connection, get
from benchmarks.listing import fill
from benchmarks.scenario import Column, Reading, Scale
from benchmarks.servers import Contender, Server
from benchmarks.workloads import WrongAnswer

TICKS = 1_000
PAGE = 1_000
TIMEOUT = 900
POLL = 0.02


@dataclass(frozen=True, slots=True)
class Resuming:
    """Every run is cut off in its last step, and resumed when its end is visible.

    The journals are copies of runs that were really made, of lengths that differ, so that what
    follows the latest snapshot is anything between nothing and all that it may be. Without
    snapshots every tick is replayed.
    """

    name: str = "resuming"
    title: str = f"resuming runs of {TICKS:,} ticks, from process start to every run's next step"
    columns: Sequence[Column] = (
        Column("runs", "runs", 0),
        Column("snapshots", "s with snapshots", 2),
        Column("replay", "s replaying every tick", 2),
        Column("gain", "times as fast", 1),
        Column("startup", "s of it: process start", 2),
    )
    compared: str | None = None
    more: bool = False
    repeated: bool = False

    async def measure(self, contender: Contender, scale: Scale) -> Reading | None:
        """Resume both; None for runs that do not outlive their process, and for the peer's."""
        if not contender.is_ours or not contender.is_durable:
            return None
        runs = scale.resumed_runs
        snapshots, startup = await _resume(contender, "journals", runs)
        replay, _ = await _resume(contender, "whole-journals", runs)
        return {
            "runs": runs,
            "snapshots": snapshots,
            "replay": replay,
            "gain": replay / snapshots,
            "startup": startup,
        }


async def _resume(contender: Contender, what: str, runs: int) -> tuple[float, float]:
    """Return the seconds until every run has gone on, and until the first answer."""
    async with contender.place() as place:
        await fill(contender, place, what, runs, TICKS)
        begun = time.perf_counter()
        async with contender.serve(place) as server:
            await _wait_ended(server)
            seconds = time.perf_counter() - begun
            await _check(server, runs)
            return seconds, server.first_answer


async def _wait_ended(server: Server) -> None:
    connection = await Connection.open(server.port)
    async with asyncio.timeout(TIMEOUT):
        request = get("/handlers?status=running&limit=1")
        while (await server.ask(connection, request))["handlers"]:  # noqa: ASYNC110  # another process
            await asyncio.sleep(POLL)
    connection.close()


async def _check(server: Server, runs: int) -> None:
    connection = await Connection.open(server.port)
    response = await connection.request(get(f"/handlers?status=completed&limit={PAGE}"))
    connection.close()
    handlers = json.loads(response.body)["handlers"]
    right = [
        handler
        for handler in handlers
        if str(handler["result"]["value"]["result"]) == handler["handler_id"].rpartition("-")[2]
    ]
    if len(right) != runs:
        raise WrongAnswer(f"{len(right)} of {runs} runs ended as they should")
