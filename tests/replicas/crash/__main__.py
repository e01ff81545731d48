"""The long form: `python -m tests.replicas.crash --seconds 600 --seed 7`."""

import argparse
import asyncio
import random
import shutil
import sys
from pathlib import Path
from tempfile import mkdtemp

from tests.replicas.crash.audit import Audit
from tests.replicas.crash.fleet import fleet
from tests.replicas.crash.harness import Move, ReplicasHarness
from tests.support.postgres import temporary_schema

STALE_AFTER = 5.0  # seconds, as by default
CONCURRENT = 24
KEPT = "The servers' logs, the effects, and the log of nginx are kept in"


async def disturb(seconds: float, seed: int, folder: Path, *, concurrent: int) -> list[str]:
    """Run the harness over a fresh schema; return what did not hold."""
    async with (
        temporary_schema() as url,
        fleet(url, folder, stale_after=STALE_AFTER) as servers,
    ):
        audit = Audit(url)
        await audit.install()
        harness = ReplicasHarness(
            url,
            folder,
            servers,
            audit,
            stale_after=STALE_AFTER,
            seed=seed,
            concurrent=concurrent,
        )
        verdict = await harness.run(seconds)
        tell("\n".join([*verdict.violations, str(verdict)]))
        for move in Move:
            tell(f"{harness.moves[move]} × {move}")
        writes = await audit.count_writes()
        tell(f"noted by the database: {', '.join(f'{n} {what}' for what, n in writes.items())}")
        for lost, times in (await audit.time_takeovers()).items():
            tell(f"{lost}: {describe(times)}")
    return verdict.violations


def describe(times: list[float]) -> str:
    """Return how many runs were taken over, and how long that took."""
    if not times:
        return "nothing was taken over"
    ordered = sorted(times)
    p50, p99 = (ordered[len(ordered) * rank // 100] for rank in (50, 99))
    return f"{len(times)} takeovers, p50 {p50:.1f} s, p99 {p99:.1f} s"


def tell(text: str) -> None:
    """Print a text at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the harness as the command line says; 1 where anything did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.replicas.crash", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--concurrent", type=int, default=CONCURRENT)
    arguments = parser.parse_args()
    folder = Path(mkdtemp(prefix="replicas-"))
    tell(f"three servers, {arguments.seconds:g} s, seed {arguments.seed}")
    violations = asyncio.run(
        disturb(arguments.seconds, arguments.seed, folder, concurrent=arguments.concurrent)
    )
    if violations:
        tell(f"{KEPT} {folder}.")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
