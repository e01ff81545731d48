"""The command: our server, the peer and the bare engine, by turns and with the same workflows.

Run it in the environment of our server; the peer gets one of its own in `.bench/`.
"""

import argparse
import asyncio
import fcntl
import json
import resource
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import uvloop

from benchmarks import replicas
from benchmarks.client import WrongAnswer
from benchmarks.machine import describe, probe
from benchmarks.report import Report
from benchmarks.rows import AGAINST, ENGINE, ROWS, YARDSTICK, Row
from benchmarks.subjects import BENCH, CHECKOUT, POSTGRES, STORES, Subject, compile_code, execute
from benchmarks.summary import Sample, gather

FILES = 10_000  # that we and each server may open


def read_rows(names: str) -> list[Row]:
    """Return the rows of some names; ValueError for an unknown one."""
    known = [row.name for row in ROWS]
    return [ROWS[known.index(name)] for name in names.split(",")]


def parse_arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="less work, and only the memory server of the peer")
    add("--rows", type=read_rows, metavar="NAME,…", help=", ".join(row.name for row in ROWS))
    add("--rounds", type=int, help="turns of each subject, instead of as many as the row says")
    add("--store", action="append", choices=STORES, help="only servers on this store; repeatable")
    add("--against", metavar="REV", help="compare ours only, with a commit or a folder of it")
    add("--picture", type=Path, help="draw the results into this PNG file too")
    add("--markdown", action="store_true", help="measure nothing; print the last results so")
    return parser.parse_args()


def prepare(name: str) -> Path:
    """Return the interpreter of the environment with what `NAME-requirements.txt` names."""
    requirements = Path(__file__).with_name(f"{name}-requirements.txt")
    python, stamp = BENCH / name / "bin" / "python", BENCH / name / "made-from"
    made_from = sys.version + requirements.read_text()
    if not stamp.is_file() or stamp.read_text() != made_from:
        tell(f"installing {name}")
        venv.create(BENCH / name, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", "-r", requirements], check=True)
        stamp.write_text(made_from)
    return python


@contextmanager
def check_out(revision: str) -> Iterator[Path]:
    """Yield a folder with the code of another commit, or the folder that is named itself."""
    if Path(revision, "pyproject.toml").is_file():
        yield Path(revision).resolve()
        return
    with TemporaryDirectory() as folder:
        worktree = ("git", "-C", str(CHECKOUT), "worktree")
        subprocess.run([*worktree, "add", "--quiet", "--detach", folder, revision], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run([*worktree, "remove", "--force", folder], check=True)


async def measure(options: argparse.Namespace, base: Path | None) -> Report:
    """Measure what the options say; where there is a base, only ours and that."""
    stores = options.store or [*STORES]
    try:
        await execute(POSTGRES, "SELECT 1")
    except (OSError, asyncpg.PostgresError) as error:
        tell(f"no Postgres is measured: {error}")
        stores = [store for store in stores if store != "postgres"]
    for code in (CHECKOUT, *([base] if base else [])):
        compile_code(code)
    others = [] if base else [Subject(ENGINE), Subject(YARDSTICK)]
    if "postgres" in stores and not base:
        others += replicas.SUBJECTS
    servers = []
    for store in stores:
        servers.append(Subject(f"ours, {store}", store))
        if base:
            servers.append(Subject(f"base, {store}", store, code=base))
        elif store == "memory" or not options.quick:
            servers.append(Subject(f"peer, {store}", store, python=prepare("peer")))
    report = Report(describe() | {"quick": options.quick, "against": options.against or "nothing"})
    for kept, rows in groupby(options.rows or (AGAINST if base else ROWS), lambda row: row.kept):
        async with AsyncExitStack() as stack:
            serving = [
                replace(s, running=await stack.enter_async_context(s.serve())) if kept else s
                for s in servers
            ]
            for row in rows:
                taking = [subject for subject in (*others, *serving) if row.has(subject)]
                await take_turns(row, taking, options, report)
    return report


async def take_turns(
    row: Row, subjects: list[Subject], options: argparse.Namespace, report: Report
) -> None:
    """Let the subjects take turns at a row; one that fails takes no other one."""
    families = sorted(subjects, key=lambda subject: subject.name.partition(",")[0])
    samples: dict[str, list[Sample]] = {subject.name: [] for subject in families}
    failures = report.failures.setdefault(row.name, {})
    for turn, subject in order_turns(subjects, options.rounds or row.rounds[options.quick]):
        if subject.name in failures:
            continue
        tell(f"{row.name}, round {turn}: {subject.name}")
        report.probes.append(probe())
        work = row.work[options.quick]
        if subject.name in ("peer, sqlite", "peer, postgres") and not row.kept:
            work //= 10  # lest the benchmark take hours
        try:
            sample = await asyncio.wait_for(row.measure(subject, work), timeout=3_600)
            samples[subject.name].append(sample)
        except (WrongAnswer, OSError) as error:
            failures[subject.name] = str(error) or type(error).__name__
            tell(failures[subject.name])
    report.values[row.name] = {name: gather(rounds) for name, rounds in samples.items()}


def order_turns(subjects: Sequence[Subject], rounds: int) -> Iterator[tuple[int, Subject]]:
    """Yield the round and the subject of each turn; in every other round the last comes first."""
    for turn in range(rounds):
        yield from ((turn + 1, subject) for subject in subjects[:: -1 if turn % 2 else 1])


def tell(what: str) -> None:
    """Say how far the benchmark is."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}\n")


def main() -> None:
    """Measure, print the tables and write the JSON; or print what was measured last."""
    options = parse_arguments()
    BENCH.mkdir(exist_ok=True)
    results = BENCH / ("against.json" if options.against else "results.json")
    if not options.markdown:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = FILES if most == resource.RLIM_INFINITY else min(FILES, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
        # As Ctrl-C does: what was started is ended, and what was made is removed.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with (BENCH / "lock").open("w") as lock, ExitStack() as stack:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two at once would measure one another
            base = stack.enter_context(check_out(options.against)) if options.against else None
            results.write_text(json.dumps(asdict(uvloop.run(measure(options, base))), indent=1))
    report = Report(**json.loads(results.read_text()))
    sys.stdout.write("\n".join(report.lines(markdown=options.markdown)) + "\n")
    if picture := options.picture:
        draw = (prepare("picture"), "-m", "benchmarks.picture", results, picture.resolve())
        subprocess.run(draw, check=True, cwd=CHECKOUT)


if __name__ == "__main__":
    main()
