"""The course of a benchmark: every subject takes its turn in every round."""

import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from benchmarks.client import ConnectionLost
from benchmarks.machine import probe
from benchmarks.rows import ScenarioRow, WorkloadRow
from benchmarks.samples import Sample
from benchmarks.scenario import Reading, Scale, Scenario
from benchmarks.servers import Contender, SubjectFailed
from benchmarks.subjects import BareEngine, ServerSubject, Subject
from benchmarks.workloads import Workload, WrongAnswer

LONG_TURN = 15.0  # seconds; a subject whose turn took longer takes no other one at this row

FAILURES = (SubjectFailed, WrongAnswer, ConnectionLost, TimeoutError)


async def run_workloads(
    workloads: Sequence[Workload],
    contenders: Sequence[Contender],
    bare: BareEngine,
    *,
    rounds: int,
    seconds: float,
    probes: list[float],
) -> list[WorkloadRow]:
    """Measure workloads; the servers run all the time, and are at rest while others are driven."""
    if not workloads:
        return []
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(c.serve()) for c in contenders]
        subjects: list[Subject] = [bare, *map(ServerSubject, servers)]
        return [
            await _run_workload(workload, subjects, rounds=rounds, seconds=seconds, probes=probes)
            for workload in workloads
        ]


async def _run_workload(
    workload: Workload,
    subjects: Sequence[Subject],
    *,
    rounds: int,
    seconds: float,
    probes: list[float],
) -> WorkloadRow:
    samples: dict[str, list[Sample]] = {subject.name: [] for subject in subjects}
    slow: set[str] = set()
    for turn in range(rounds):
        for subject in subjects:
            if subject.name in slow:
                continue
            _tell(f"{workload.name}, round {turn + 1} of {rounds}: {subject.name}")
            probes.append(probe())
            begun = time.monotonic()
            samples[subject.name].append(await subject.measure(workload, seconds))
            if time.monotonic() - begun > LONG_TURN:
                slow.add(subject.name)
    return WorkloadRow(workload, samples)


async def run_scenario(
    scenario: Scenario, contenders: Sequence[Contender], scale: Scale, *, probes: list[float]
) -> ScenarioRow:
    """Measure a scenario; a server that fails at it is left out, and its failure told."""
    readings: dict[str, list[Reading]] = {contender.name: [] for contender in contenders}
    failures: dict[str, str] = {}
    rounds = scale.rounds if scenario.repeated else 1
    for turn in range(rounds):
        for contender in contenders:
            if contender.name in failures:
                continue
            _tell(f"{scenario.name}, round {turn + 1} of {rounds}: {contender.name}")
            probes.append(probe())
            try:
                reading = await scenario.measure(contender, scale)
            except FAILURES as error:
                failures[contender.name] = str(error) or type(error).__name__
                _tell(failures[contender.name])
            else:
                if reading is not None:
                    readings[contender.name].append(reading)
    return ScenarioRow(scenario, readings, failures)


def _tell(what: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}\n")
