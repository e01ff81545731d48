"""Servers that share a schema: what that costs one, and what another one adds to a request."""

import json
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import replace

from benchmarks.client import Connection, WrongAnswer, post
from benchmarks.subjects import Server, Subject, fresh_place
from benchmarks.summary import Sample, percentile
from benchmarks.turns import PACE, PACED_EVENTS, follow
from benchmarks.workloads import Workload, read_frames

ALONE, SHARING, TWO = "ours, alone", "ours, sharing", "ours, two"
SUBJECTS = tuple(Subject(name, "postgres") for name in (ALONE, SHARING, TWO))
WORKLOADS = {
    "one-step": Workload("one_step", 16, "done"),
    "21-step": Workload("many_steps", 16, 21),
    "stream": Workload("stream", 16, 100, events=100),
}
REPLICAS = {"WORKFLOW_SERVER_REPLICAS": "true"}
EVENTS = 100  # that are sent, to each of two servers


async def share(subject: Subject, seconds: float) -> Sample:
    """Let one server or two carry out runs; and let one pass on what the other one has."""
    async with fresh_place(subject.store) as place, AsyncExitStack() as stack:
        variables = {} if subject.name == ALONE else REPLICAS
        another = [replace(subject, name=f"{TWO}, another")] if subject.name == TWO else []
        servers = [
            await stack.enter_async_context(each.serve(place, **variables))
            for each in (subject, *another)
        ]
        figures = {}
        for title, workload in WORKLOADS.items():
            sample = await workload.measure_servers(servers, seconds)
            figures[f"{title} runs/s"] = sample.figures["runs/s"]
            figures[f"{title} CPU ms"] = sample.figures["CPU ms/run"]
        if another:
            figures |= await _compare(*servers)
        return Sample(figures)


async def _compare(owner: Server, other: Server) -> dict[str, float]:
    """Return what requests at the server that has a run take, and at another one, in ms."""
    local, forwarded = [], []
    async with owner.connections(2) as (starting, own), other.connections(1) as (theirs,):
        for _ in range(EVENTS):
            local.append(await _send(owner, starting, own))
            forwarded.append(await _send(owner, starting, theirs))
    delays = []
    for at in (owner, other):
        await follow(owner, 10, at=at)
        (seen,), _ = await follow(owner, PACED_EVENTS, pause=PACE, at=at)
        delays.append([arrived - emitted for emitted, arrived in seen])
    return {
        "event ms": statistics.median(local) * 1e3,
        "forwarded": statistics.median(forwarded) * 1e3,
        "stream p99 ms": percentile(delays[:1], 99) * 1e3,
        "through another": percentile(delays[1:], 99) * 1e3,
    }


async def _send(owner: Server, starting: Connection, sending: Connection) -> float:
    """Return the seconds until an event has been taken that a run at the owner waits for."""
    handler_id = await starting.start_run("question")
    event = {"type": "HumanResponseEvent", "value": {"response": handler_id}}
    request = post(f"/events/{handler_id}", json.dumps({"event": event}).encode())
    async with owner.streams([handler_id], first=b"InputRequiredEvent") as (stream,):
        begun = time.perf_counter()
        await sending.ask(request)
        seconds = time.perf_counter() - begun
        response = await stream.response
    if read_frames(response)[-1][1]["value"].get("result") != handler_id:
        raise WrongAnswer(f"the answer became {response.body[-300:]!r}")
    return seconds
