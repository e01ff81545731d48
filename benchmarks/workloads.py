"""Workloads: runs of one workflow, one after the other, by some clients at the same time."""

import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from benchmarks import workflows
from benchmarks.client import Connection, Response, WrongAnswer, drive, get_events, post
from benchmarks.machine import cpu_of
from benchmarks.subjects import Server, Subject
from benchmarks.summary import Sample


@dataclass(frozen=True, slots=True)
class Workload:
    """Runs of one workflow of `benchmarks.workflows`, by so many clients at the same time.

    A run that writes `events` to its stream, each with a text of `size` bytes where that matters,
    is started and its stream read to the end; for other ones `POST …/run` waits.
    """

    workflow: str
    clients: int
    result: object
    events: int = 0
    size: int = 0

    async def measure(self, subject: Subject, seconds: float) -> Sample:
        """Let a subject carry out runs for some seconds, after a warm-up."""
        if not subject.store:
            return await self._drive([self._run_engine] * self.clients, seconds, [os.getpid()])
        async with subject.serve() as server:
            return await self.measure_servers([server], seconds)

    async def measure_servers(self, servers: Sequence[Server], seconds: float) -> Sample:
        """Let servers carry out runs for some seconds, after a warm-up, each an equal part."""
        async with AsyncExitStack() as stack:
            connections = [
                await stack.enter_async_context(server.connections(self.clients // len(servers)))
                for server in servers
            ]
            runs = [partial(self._run, each) for each in chain(*zip(*connections, strict=True))]
            pids = [server.pid for server in servers]
            return await self._drive(runs, seconds, pids)

    async def _drive(
        self,
        runs: Sequence[Callable[[], Awaitable[Response | None]]],
        seconds: float,
        pids: Sequence[int],
    ) -> Sample:
        await drive(runs[: len(pids)], seconds=0.3)  # a warm-up
        begun, cpu, own_cpu = time.perf_counter(), sum(map(cpu_of, pids)), time.process_time()
        answers, latencies = await drive(runs, seconds=seconds)
        seconds = time.perf_counter() - begun
        cpu, own_cpu = sum(map(cpu_of, pids)) - cpu, time.process_time() - own_cpu
        for answer in filter(None, answers):  # now, lest the checks slow the clients down
            self.check(answer)
        cost = {"CPU ms/run": cpu / len(answers) * 1e3, "client CPU %": own_cpu / seconds * 100}
        return Sample({"runs/s": len(answers) / seconds, **cost}, latencies)

    async def _run(self, connection: Connection) -> Response:
        """Carry out one run and return what the server said last."""
        if not self.events:
            return await connection.request(post(f"/workflows/{self.workflow}/run"))
        return await connection.request(get_events(await connection.start_run(self.workflow)))

    async def _run_engine(self) -> None:
        """Carry out one run without any server, and check its answer."""
        handler = getattr(workflows, self.workflow).run()
        events = 0
        if self.events:
            async for event in handler.stream_events():
                events += isinstance(event, workflows.Token)
        self._expect("result", (await handler, events), (self.result, self.events))

    def check(self, response: Response) -> None:
        """Raise `WrongAnswer` unless it is the workflow's result, after all events in order."""
        self._expect("status code", response.status, 200)
        if self.events:
            frames = read_frames(response)
            sequences = [sequence for sequence, _ in frames]
            self._expect("ids", sequences, sorted(set(sequences)))
            *tokens, end = [envelope["value"] for _, envelope in frames]
            self._expect("events", [token["index"] for token in tokens], [*range(self.events)])
            sizes = {len(token["text"]) for token in tokens} if self.size else {self.size}
            self._expect("sizes", sizes, {self.size})
        else:
            handler = json.loads(response.body)
            self._expect("status", handler["status"], "completed")
            end = handler["result"]["value"]
        self._expect("result", end["result"], self.result)

    def _expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            raise WrongAnswer(f"{self.workflow}: {what} {found!r:.500}, not {expected!r:.500}")


def read_frames(response: Response) -> list[tuple[int, dict[str, Any]]]:
    """Return the ids and envelopes of a stream of Server-Sent Events, without its comments."""
    frames = []
    for frame in response.body.decode().split("\n\n"):
        lines = [line.split(": ", 1) for line in frame.split("\n") if line[:1] not in ("", ":")]
        if fields := dict(lines):
            frames.append((int(fields["id"]), json.loads(fields["data"])))
    return frames


def check_emissions(response: Response, indices: Sequence[int]) -> None:
    """Raise `WrongAnswer` unless a stream has all emissions in order, and then the result."""
    envelopes = [envelope for _, envelope in read_frames(response)]
    found = [each["value"]["index"] for each in envelopes if each["type"] == "Emission"]
    if found != list(indices) or "result" not in envelopes[-1]["value"]:
        raise WrongAnswer(f"{len(found)} emissions of {len(indices)}, disordered, or no result")
