"""Row 7: the first and the hundredth page of many handlers; the events of an ended run."""

import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.client import Connection, get
from benchmarks.environments import CHECKOUT
from benchmarks.following import follow
from benchmarks.places import Place
from benchmarks.readers import check_emissions
from benchmarks.scenario import Column, Reading, Scale
from benchmarks.servers import Contender, Server, SubjectFailed
from benchmarks.workloads import WrongAnswer

PAGES = 100
REPEATS = 15


@dataclass(frozen=True, slots=True)
class Listing:
    """The pages of a list of handlers that were written into the store directly."""

    name: str = "listing"
    title: str = "listing handlers: the first and the hundredth page of a hundred"
    columns: Sequence[Column] = (
        Column("handlers", "handlers", 0),
        Column("first", "first page ms", 2, 1e3),
        Column("last", "hundredth page ms", 2, 1e3),
        Column("growth", "hundredth / first", 2),
    )
    compared: str | None = None
    more: bool = False
    repeated: bool = False

    async def measure(self, contender: Contender, scale: Scale) -> Reading | None:
        """List; None for stores that nobody can fill from outside, and for lists without pages."""
        if not contender.is_ours or not contender.is_durable:
            return None
        handlers = scale.handlers_a_page * PAGES
        async with contender.place() as place:
            await fill(contender, place, "handlers", handlers)
            async with contender.serve(place) as server:
                first, last = await _list(server, scale.handlers_a_page)
        return {"handlers": handlers, "first": first, "last": last, "growth": last / first}


@dataclass(frozen=True, slots=True)
class History:
    """The events of an ended run, read over SSE from the first to the last."""

    name: str = "reading"
    title: str = "reading the events of an ended run over SSE"
    columns: Sequence[Column] = (
        Column("events", "events", 0),
        Column("rate", "events/s", 0),
        Column("seconds", "ms", 1, 1e3),
    )
    compared: str | None = "rate"
    more: bool = True
    repeated: bool = True

    async def measure(self, contender: Contender, scale: Scale) -> Reading | None:
        """Read a long run a few times."""
        events = scale.read_events // (scale.slow if contender.is_slow else 1)
        async with contender.serve() as server:
            await follow(server, readers=1, events=events)
            connection = await Connection.open(server.port)
            listed = await server.ask(connection, get("/handlers"))
            handlers = listed["handlers"]
            assert isinstance(handlers, list)
            request = get(f"/events/{handlers[0]['handler_id']}?sse=true&after_sequence=-1")
            times = []
            for _ in range(REPEATS // 3):
                begun = time.perf_counter()
                response = await connection.request(request)
                times.append(time.perf_counter() - begun)
                check_emissions(response, range(-1, events))
            connection.close()
        seconds = statistics.median(times)
        return {"events": events, "rate": events / seconds, "seconds": seconds}


async def fill(contender: Contender, place: Place, *arguments: object) -> None:
    """Let `benchmarks.fill` write into a place."""
    process = await asyncio.create_subprocess_exec(
        contender.python,
        *("-m", "benchmarks.fill", place.url, *map(str, arguments)),
        cwd=CHECKOUT,
    )
    if await process.wait():
        raise SubjectFailed(f"{contender.name} could not be filled")


async def _list(server: Server, limit: int) -> tuple[float, float]:
    """Return the seconds that the first and the last page take."""
    connection = await Connection.open(server.port)
    seen: set[str] = set()
    path: str | None = f"/handlers?limit={limit}"
    first = request = get(f"/handlers?limit={limit}")
    while path:
        request = get(path)
        answer = json.loads((await connection.request(request)).body)
        seen |= {handler["handler_id"] for handler in answer["handlers"]}
        cursor = answer["next_cursor"]
        path = f"/handlers?limit={limit}&cursor={cursor}" if cursor else None
    if len(seen) != limit * PAGES:
        raise WrongAnswer(f"{len(seen)} handlers were listed instead of {limit * PAGES}")
    times: dict[bytes, list[float]] = {first: [], request: []}
    for _ in range(REPEATS):
        for page_request, taken in times.items():
            begun = time.perf_counter()
            await connection.request(page_request)
            taken.append(time.perf_counter() - begun)
    connection.close()
    return statistics.median(times[first]), statistics.median(times[request])
