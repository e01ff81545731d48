"""Turns: for each kind of row a function that lets a subject do something, and measures it."""

import asyncio
import json
import os
import resource
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from operator import methodcaller
from pathlib import Path

from benchmarks.client import WrongAnswer, get, get_events, post
from benchmarks.machine import cpu_of, memory_of
from benchmarks.subjects import IDLE_TIMEOUT, Server, Subject, execute, fresh_place, size_of
from benchmarks.summary import Sample
from benchmarks.workflows import BEAT_STEPS, HELD, HOLD
from benchmarks.workloads import check_emissions, read_frames

PACE, PACED_EVENTS = 0.02, 200  # seconds between two events, and how many come so
STREAMS_A_RUN, SPARE_FILES = 100, 200
STREAMS_A_SECOND = 190  # so that 5,000 are quiet for longer than the pause between two heartbeats
WARM_UP_RUNS, ANSWERS, IDLE_SECONDS, ANSWER_SECONDS, SETTLING_SECONDS = 100, 100, 1, 15, 120
PEER_RUNS = 50  # of more, one takes its answer and does not go on
QUIET_CPU = 0.03  # of a core: nothing is being released any more
PAGES, READINGS = 100, 15
STEPS, SPREAD = 475, 50  # so that what follows the latest snapshot is anything that it may be
# A snapshot removes the ticks before it; with this they stay.
KEEP_TICKS = {
    "sqlite": "CREATE TRIGGER keep BEFORE DELETE ON ticks BEGIN SELECT raise(IGNORE); END",
    "postgres": """DO $$ BEGIN
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER keep BEFORE DELETE ON ticks FOR EACH ROW EXECUTE FUNCTION keep();
    END $$""",
}
SMALLEST = str(Path(__file__).with_name("smallest.py"))
YARDSTICK = "import fastapi, uvicorn, workflows"
TELL_MEMORY = "import os; from benchmarks.machine import memory_of; print(memory_of(os.getpid()))"
KIB, MIB = 1 << 10, 1 << 20

# By reader when each event was emitted and when it arrived; the server's seconds of CPU time.
Followed = tuple[list[list[tuple[float, float]]], float]


async def follow(
    server: Server, events: int, *, readers: int = 1, pause: float = 0, at: Server | None = None
) -> Followed:
    """Let a run emit once its readers are there, and check that all of them read everything.

    They read `at` another server than that which has the run, where one is given.
    """
    with tempfile.TemporaryDirectory() as folder:
        gate = Path(folder) / "open"
        fields = {"gate": str(gate), "events": events, "pause": pause}
        (handler_id,) = await server.share(1, methodcaller("start_run", "broadcast", **fields))
        async with (at or server).streams([handler_id] * readers, b'"index":') as streams:
            cpu = cpu_of(server.pid)
            gate.touch()
            first, *others = await asyncio.gather(*(stream.response for stream in streams))
            cpu = cpu_of(server.pid) - cpu
    check_emissions(first, range(-1, events))
    if any(other.body != first.body for other in others):
        raise WrongAnswer("two readers of one run read different things")
    # The first one was there before the gate was opened.
    return [list(stream.reader.emissions())[1:] for stream in streams], cpu


async def follow_burst(subject: Subject, events: int, *, readers: int) -> Sample:
    """Follow a burst of events, then a run that emits at a pace."""
    async with subject.serve() as server:
        await follow(server, 10)  # the first run of a process is slower than those that follow
        burst, _ = await follow(server, events, readers=readers)
        paced, cpu = await follow(server, PACED_EVENTS, readers=readers, pause=PACE)
    seconds = [max(each[-1][1] for each in seen) - seen[0][0][0] for seen in (burst, paced)]
    delays = [arrived - emitted for each in paced for emitted, arrived in each]
    at_pace = {"max ms": max(delays) * 1e3, "CPU %": cpu / seconds[1] * 100}
    return Sample({"burst: events delivered/s": events * readers / seconds[0], **at_pace}, delays)


async def keep_quiet(subject: Subject, streams: int) -> Sample:
    """Open so many streams of runs that wait, let them be quiet, and follow one more run."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    streams, question = min(streams, files - SPARE_FILES), b"InputRequiredEvent"
    async with subject.serve() as server:
        runs = await server.share(streams // STREAMS_A_RUN, methodcaller("start_run", "question"))
        # The first streams of a process cost more than those that follow.
        async with server.streams(runs[:1] * STREAMS_A_RUN, question):
            memory, begun = memory_of(server.pid), time.perf_counter()
            async with server.streams(runs * STREAMS_A_RUN, question):
                opening = time.perf_counter() - begun
                memory = memory_of(server.pid) - memory
                await asyncio.sleep(1)
                cpu, quiet = cpu_of(server.pid), streams / STREAMS_A_SECOND
                await asyncio.sleep(quiet)
                cpu = cpu_of(server.pid) - cpu
                (seen,), _ = await follow(server, 50, pause=0.05)
    each = {"KiB/stream": memory / streams / KIB, "ms to open one": opening / streams * 1e3}
    figures = {"streams": streams, **each, "CPU %, quiet": cpu / quiet * 100}
    return Sample(figures, [arrived - emitted for emitted, arrived in seen])


async def read_ended(subject: Subject, events: int) -> Sample:
    """Read so many events of an ended run a few times, from the first to the last."""
    times = []
    async with subject.serve() as server:
        await follow(server, events)
        for _ in range(READINGS // 3):
            async with server.connections(1) as (connection,):
                (handler,) = (await connection.ask(get("/handlers")))["handlers"]
                begun = time.perf_counter()
                response = await connection.request(get_events(handler["handler_id"]))
                times.append(time.perf_counter() - begun)
            check_emissions(response, range(-1, events))
    seconds = statistics.median(times)
    return Sample({"events": events, "events/s": events / seconds, "ms": seconds * 1e3})


async def grow(subject: Subject, count: int, *, unit: str) -> Sample:
    """Compare the first events, or steps, of one long run with its last ones.

    Told by the times of emission: to write down and to send what was before delays the next one,
    while arrivals come in batches.
    """
    async with fresh_place(subject.store) as place:
        async with subject.serve(place) as server:
            disk = await size_of(place)
            if unit == "event":
                (seen,), _ = await follow(server, count)
            else:
                marches = await server.share(1, methodcaller("start_run", "march", steps=count))
                async with server.streams(marches, first=b"") as (stream,):
                    check_emissions(await stream.response, range(count // BEAT_STEPS))
                seen = list(stream.reader.emissions())
        disk = await size_of(place) - disk
    first, last = cost_of_tenths([emitted for emitted, _ in seen], count)
    figures = {f"{unit}s": count, f"µs/{unit}, second tenth": first * 1e6, "last tenth": last * 1e6}
    room = {f"bytes on disk/{unit}": disk / count} if disk else {}
    return Sample({**figures, "last / second": last / first, **room})


def cost_of_tenths(times: Sequence[float], count: int) -> tuple[float, float]:
    """Return what one of `count` cost in the second tenth, after a warm-up, and in the last one."""
    tenth = len(times) // 10
    first, last = times[2 * tenth] - times[tenth], times[-1] - times[-1 - tenth]
    each = count / len(times) * tenth
    return first / each, last / each


async def wait(subject: Subject, runs: int, *, released: bool = False) -> Sample:
    """Start so many runs that wait, and respond to some of them.

    Released ones start in two lots: the second has the memory that the first took while it was
    resident, so that what the second adds is what released runs keep.
    """
    runs = min(runs, PEER_RUNS) if subject.name.startswith("peer") else runs
    ask = methodcaller("start_run", "question")
    settings = {IDLE_TIMEOUT: str(IDLE_SECONDS)} if released else {}
    async with subject.serve(**settings) as server:
        await server.share(runs if released else WARM_UP_RUNS, ask)
        await _settle(server)
        memory, begun = memory_of(server.pid), time.perf_counter()
        handlers = await server.share(runs, ask)
        seconds = time.perf_counter() - begun
        await _settle(server)
        memory = memory_of(server.pid) - memory
        latencies = [await _respond(server, each) for each in handlers[:: max(runs // ANSWERS, 1)]]
    each = {"KiB/run": memory / runs / KIB, "ms to start one": seconds / runs * 1e3}
    return Sample({"runs": runs, **each}, latencies)


async def _settle(server: Server) -> None:
    """Return when the server has nothing left to do, nor to release."""
    await asyncio.sleep(IDLE_SECONDS)
    for _ in range(SETTLING_SECONDS):
        cpu = cpu_of(server.pid)
        await asyncio.sleep(1)
        if not cpu_of(server.pid) - cpu >= QUIET_CPU:  # NaN where nothing tells
            return
    raise WrongAnswer("the server does not come to rest")


async def _respond(server: Server, handler_id: str) -> float:
    """Return the seconds from a response to the result of its run, seen by a reader."""
    event = {"type": "HumanResponseEvent", "value": {"response": handler_id}}
    request = post(f"/events/{handler_id}", json.dumps({"event": event}).encode())
    asked = server.streams([handler_id], first=b"InputRequiredEvent")
    async with asked as (stream,), server.connections(1) as (connection,):
        begun = time.perf_counter()
        await connection.ask(request)
        response = await asyncio.wait_for(stream.response, ANSWER_SECONDS)
        seconds = time.perf_counter() - begun
    if read_frames(response)[-1][1]["value"].get("result") != handler_id:
        raise WrongAnswer(f"the answer became {response.body[-300:]!r}")
    return seconds


async def list_pages(subject: Subject, size: int) -> Sample:
    """List the handlers of a hundred pages of ended runs, and time the first and the last page."""
    async with subject.serve() as server:
        await server.share(size * PAGES, methodcaller("ask", post("/workflows/one_step/run")))
        pages = [get(f"/handlers?limit={size}")]
        found: set[str] = set()
        for page in pages:
            (answer,) = await server.share(1, methodcaller("ask", page))
            found |= {handler["handler_id"] for handler in answer["handlers"]}
            if cursor := answer["next_cursor"]:
                pages.append(get(f"/handlers?limit={size}&cursor={cursor}"))
        if len(found) != size * PAGES:
            raise WrongAnswer(f"{len(found)} handlers were listed instead of {size * PAGES}")
        times: dict[bytes, list[float]] = {pages[0]: [], pages[-1]: []}
        async with server.connections(1) as (connection,):
            for page in [*times] * READINGS:
                begun = time.perf_counter()
                await connection.request(page)
                times[page].append(time.perf_counter() - begun)
    first, last = (statistics.median(taken) * 1e3 for taken in times.values())
    figures = {"first page ms": first, "hundredth page ms": last, "hundredth / first": last / first}
    return Sample({"handlers": len(found), **figures})


async def resume_runs(subject: Subject, runs: int) -> Sample:
    """Resume runs that a crash cut off in their last step, until the end of each is visible.

    They are resumed from their snapshots, and others like them without, by all of their ticks.
    """
    snapshots, startup = await _resume(subject, runs, whole=False)
    replay, _ = await _resume(subject, runs, whole=True)
    figures = {"runs": runs, "s with snapshots": snapshots, "s replaying every tick": replay}
    return Sample({**figures, "times as fast": replay / snapshots, "s to first answer": startup})


async def _resume(subject: Subject, runs: int, *, whole: bool) -> tuple[float, float]:
    """Return the seconds until every run has ended, and until the first answer of the server."""
    lengths = [STEPS + number % SPREAD for number in range(runs)]
    left = iter(lengths)
    async with fresh_place(subject.store) as place:
        async with subject.serve(place, **{HOLD: "1"}) as server:
            if whole:
                await execute(place, KEEP_TICKS[subject.store])
            marches = await server.share(runs, lambda c: c.start_run("march", steps=next(left)))
            async with server.streams(marches, first=b'"index":%d,' % HELD):
                os.kill(server.pid, signal.SIGKILL)
        if whole:
            await execute(place, "DELETE FROM snapshots")
        begun = time.perf_counter()
        async with subject.serve(place) as server, server.connections(1) as (connection,):
            running = get("/handlers?status=running&limit=1")
            while (await connection.ask(running))["handlers"]:  # noqa: ASYNC110  # not in here
                await asyncio.sleep(0.02)
            seconds = time.perf_counter() - begun
            page = await connection.ask(get(f"/handlers?status=completed&limit={runs}"))
            ended = page["handlers"]
    if sorted(handler["result"]["value"]["result"] for handler in ended) != sorted(lengths):
        raise WrongAnswer(f"{len(ended)} of {runs} runs ended, or some with another result")
    return seconds, server.first_answer


async def start(subject: Subject, rest: float) -> Sample:
    """Start a server of one small workflow and let it rest; or import what such a server needs."""
    if not subject.store:
        begun = time.perf_counter()
        command = (subject.python, "-c", f"{YARDSTICK}; {TELL_MEMORY}")
        output = await asyncio.to_thread(subprocess.check_output, command, cwd=subject.code)
        memory = float(output) / MIB
        return Sample({"s to first answer": time.perf_counter() - begun, "MiB then": memory})
    async with subject.serve(source=SMALLEST) as server:
        memory = memory_of(server.pid) / MIB
        await asyncio.sleep(rest)
        figures = {"s to first answer": server.first_answer, "MiB then": memory}
        return Sample({**figures, "MiB at rest": memory_of(server.pid) / MIB})
