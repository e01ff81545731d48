"""The bare engine: `python -m benchmarks.bare WORKLOAD SECONDS` runs it and prints the sample.

Run in our server's environment, with the event loop that our server has. Nothing of any server is
imported; runs are started with `workflow.run()` and their streams read to the end.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict

import uvloop
from workflows import Workflow

from benchmarks import workflows
from benchmarks.samples import Sample, repeat
from benchmarks.workloads import WORKLOADS, Workload, WrongAnswer

WARM_UP_SECONDS = 0.3


async def run(workflow: Workflow, workload: Workload) -> None:
    """Carry out one run and check its answer."""
    handler = workflow.run()
    events = 0
    if workload.events:
        async for event in handler.stream_events():
            events += isinstance(event, workflows.Token)
    result = await handler
    if (result, events) != (workload.result, workload.events):
        raise WrongAnswer(f"{workload.name}: {result!r:.500} after {events} events")


async def measure(workload: Workload, seconds: float) -> Sample:
    """Run the workload for some seconds, after a warm-up."""
    workflow: Workflow = getattr(workflows, workload.workflow)
    await _repeat(workflow, workload, 1, WARM_UP_SECONDS, [])
    sample = Sample()
    begun, cpu = time.perf_counter(), time.process_time()
    await _repeat(workflow, workload, workload.clients, seconds, sample.latencies)
    sample.seconds, sample.cpu = time.perf_counter() - begun, time.process_time() - cpu
    return sample


async def _repeat(
    workflow: Workflow, workload: Workload, clients: int, seconds: float, latencies: list[float]
) -> None:
    until = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(
                repeat(lambda: run(workflow, workload), until=until, latencies=latencies)
            )


def main(name: str, seconds: str) -> None:
    """Print the sample of a workload as JSON."""
    workload = next(workload for workload in WORKLOADS if workload.name == name)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sample = runner.run(measure(workload, float(seconds)))
    sys.stdout.write(json.dumps(asdict(sample)))


if __name__ == "__main__":
    main(*sys.argv[1:])
