"""The command: `python -m benchmarks [--quick] [--store KIND …] [--row NAME …] [--picture FILE]`.

Installs our server and the peer into environments of their own, serves the same workflows with
both, and drives them and the bare engine in turn. Needs nothing but the standard library here.
"""

import argparse
import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.course import run_scenario, run_workloads
from benchmarks.environments import (
    BENCH,
    CHECKOUT,
    list_packages,
    prepare_ours,
    prepare_peer,
    prepare_picture,
)
from benchmarks.following import BURSTS, Following
from benchmarks.growth import EVENTS, STEPS, Growth
from benchmarks.listing import History, Listing
from benchmarks.machine import describe_machine
from benchmarks.places import KINDS, NoDatabase, act
from benchmarks.quiet import Quiet
from benchmarks.report import Report, markdown, text
from benchmarks.resuming import Resuming
from benchmarks.rows import ScenarioRow, WorkloadRow
from benchmarks.scenario import FULL, QUICK, Scenario
from benchmarks.servers import Contender
from benchmarks.starting import Starting
from benchmarks.subjects import BareEngine
from benchmarks.summary import Figure
from benchmarks.waiting import Waiting
from benchmarks.workloads import WORKLOADS

ROUNDS, SECONDS = 5, 1.2
QUICK_ROUNDS, QUICK_SECONDS = 3, 0.8
POSTGRES = "postgresql://postgres@127.0.0.1:5432/test"
PACKAGES = (
    *("workflow-server", "llama-agents-server", "llama-index-workflows", "fastapi", "starlette"),
    *("uvicorn", "uvloop", "httptools", "pydantic", "asyncpg"),
)
SCENARIOS: Sequence[Scenario] = (
    *map(Following, BURSTS),
    Quiet(),
    Waiting(released=False),
    Waiting(released=True),
    Listing(),
    History(),
    Resuming(),
    Starting(),
    Growth(EVENTS),
    Growth(STEPS),
)


def parse_arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer and shorter rounds, and of the peer only its memory server",
    )
    parser.add_argument(
        "--store", action="append", choices=KINDS, help="only servers on this store; repeatable"
    )
    parser.add_argument(
        "--postgres",
        default=os.environ.get("WORKFLOW_BENCHMARK_POSTGRES", POSTGRES),
        help=f"database in which ours makes a schema, and beside which the peer makes another one"
        f" ({POSTGRES})",
    )
    parser.add_argument(
        "--row",
        action="append",
        choices=[*(w.name for w in WORKLOADS), *(s.name for s in SCENARIOS)],
        help="measure this row only; repeatable",
    )
    parser.add_argument(
        "--output", type=Path, default=BENCH / "results.json", help="JSON file to write"
    )
    parser.add_argument("--picture", type=Path, help="draw the results into this PNG file too")
    parser.add_argument(
        "--markdown", action="store_true", help="measure nothing, print the last results for README"
    )
    return parser.parse_args()


async def run(options: argparse.Namespace) -> Report:
    """Measure what the options say."""
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if options.quick else (ROUNDS, SECONDS)
    ours, peer = prepare_ours(), prepare_peer()
    kinds = await _usable(options.store or KINDS, ours / "python", options.postgres)
    contenders = [
        Contender(family, kind, bin_folder, ours / "python", options.postgres)
        for family, bin_folder in (("ours", ours), ("peer", peer))
        for kind in kinds
    ]
    if options.quick:
        contenders = [contender for contender in contenders if not contender.is_slow]
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **describe_machine(),
        "rounds": rounds,
        "seconds_a_round": seconds,
        "quick": options.quick,
        "packages_of_ours": _pick(list_packages(ours)),
        "packages_of_the_peer": _pick(list_packages(peer)),
    }
    probes: list[float] = []
    rows: list[WorkloadRow | ScenarioRow] = []
    rows += await run_workloads(
        [workload for workload in WORKLOADS if not options.row or workload.name in options.row],
        contenders,
        BareEngine(ours / "python"),
        rounds=rounds,
        seconds=seconds,
        probes=probes,
    )
    scale = QUICK if options.quick else FULL
    for scenario in SCENARIOS:
        if not options.row or scenario.name in options.row:
            rows.append(await run_scenario(scenario, contenders, scale, probes=probes))
    return Report(about, Figure.of(probes), rows)


async def _usable(kinds: Sequence[str], python: Path, postgres: str) -> list[str]:
    """Return the stores that can be used here; a Postgres may not be there."""
    try:
        if "postgres" in kinds:
            await act(python, "size", postgres)
    except NoDatabase as error:
        sys.stderr.write(f"no Postgres is measured: {error}\n")
        return [kind for kind in kinds if kind != "postgres"]
    return list(kinds)


def _pick(packages: dict[str, str]) -> dict[str, str]:
    return {name: packages[name] for name in PACKAGES if name in packages}


def draw(results: Path, picture: Path) -> None:
    """Draw results, in an environment that can."""
    python = prepare_picture() / "python"
    command: list[str | Path] = [
        python,
        "-m",
        "benchmarks.picture",
        results.resolve(),
        picture.resolve(),
    ]
    subprocess.run(command, check=True, cwd=CHECKOUT)


def main() -> None:
    """Measure, print the tables and write the JSON; or print what was measured last."""
    options = parse_arguments()
    BENCH.mkdir(exist_ok=True)
    (BENCH / ".gitignore").write_text("*\n")
    if not options.markdown:
        # As Ctrl-C does: what was started is ended, and what was made is removed.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with (BENCH / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two at once would measure one another
            asyncio.run(run(options)).write(options.output)
    lines = markdown if options.markdown else text
    sys.stdout.write("\n".join(lines(options.output)) + "\n")
    if options.picture:
        draw(options.output, options.picture)


if __name__ == "__main__":
    main()
