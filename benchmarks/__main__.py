"""The command: `python -m benchmarks [--quick] [--store URL …] [--row NAME …] [--output FILE]`.

Installs our server and the peer into environments of their own, serves the same workflows with
both, and drives them and the bare engine in turn. Needs nothing but the standard library here.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.environments import BENCH, list_packages, prepare_ours, prepare_peer
from benchmarks.machine import describe_machine, probe
from benchmarks.report import Report, Row
from benchmarks.samples import Sample
from benchmarks.subjects import BareEngine, Subject, our_server, peer_server
from benchmarks.summary import Figure
from benchmarks.workloads import WORKLOADS, Workload

ROUNDS, SECONDS = 7, 5.0
QUICK_ROUNDS, QUICK_SECONDS = 3, 1.5
PACKAGES = (
    *("workflow-server", "llama-agents-server", "llama-index-workflows", "fastapi", "starlette"),
    *("uvicorn", "uvloop", "httptools", "pydantic"),
)


def parse_arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument(
        "--store", action="append", help="URL of a store of ours to measure; repeatable (memory:)"
    )
    parser.add_argument(
        "--row",
        action="append",
        choices=[workload.name for workload in WORKLOADS],
        help="measure this row only; repeatable",
    )
    parser.add_argument(
        "--output", type=Path, default=BENCH / "results.json", help="JSON file to write"
    )
    options = parser.parse_args()
    kinds = [store.partition(":")[0] for store in options.store or ()]
    if len(set(kinds)) < len(kinds):
        parser.error("two stores of one kind have one name in the table; measure them apart")
    return options


async def measure(
    workload: Workload,
    subjects: Sequence[Subject],
    *,
    rounds: int,
    seconds: float,
    probes: list[float],
) -> Row:
    """Let the subjects take turns at a workload, in every round each once."""
    samples: dict[str, list[Sample]] = {subject.name: [] for subject in subjects}
    for turn in range(rounds):
        for subject in subjects:
            sys.stderr.write(f"{workload.name}, round {turn + 1} of {rounds}: {subject.name}\n")
            probes.append(probe())
            samples[subject.name].append(await subject.measure(workload, seconds))
    return Row(workload, samples)


async def run(options: argparse.Namespace) -> Report:
    """Measure what the options say."""
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if options.quick else (ROUNDS, SECONDS)
    ours, peer = prepare_ours(), prepare_peer()
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **describe_machine(),
        "rounds": rounds,
        "seconds_a_round": seconds,
        "packages_of_ours": _pick(list_packages(ours)),
        "packages_of_the_peer": _pick(list_packages(peer)),
    }
    probes: list[float] = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=BENCH)))
        servers = [
            *(our_server(ours, store) for store in options.store or ["memory:"]),
            peer_server(peer),
            peer_server(peer, folder / "peer.db"),
        ]
        subjects: list[Subject] = [
            BareEngine(ours / "python"),
            *[await stack.enter_async_context(server) for server in servers],
        ]
        rows = [
            await measure(workload, subjects, rounds=rounds, seconds=seconds, probes=probes)
            for workload in WORKLOADS
            if not options.row or workload.name in options.row
        ]
    return Report(about, Figure.of(probes), rows)


def _pick(packages: dict[str, str]) -> dict[str, str]:
    return {name: packages[name] for name in PACKAGES if name in packages}


def main() -> None:
    """Measure, print the table and write the JSON."""
    options = parse_arguments()
    BENCH.mkdir(exist_ok=True)
    (BENCH / ".gitignore").write_text("*\n")
    report = asyncio.run(run(options))
    report.write(options.output)
    sys.stdout.write("\n".join(report.lines()) + "\n")


if __name__ == "__main__":
    main()
