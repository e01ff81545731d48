"""The long form: `python -m tests.durability.crash --seconds 600 --store sqlite --seed 7`.

With `--victim database` it is a Postgres of its own that is restarted, crashes and is away.
"""

import argparse
import asyncio
import random
import shutil
import sys
from pathlib import Path
from tempfile import mkdtemp

from tests.durability.crash.harness import Harness, Verdict
from tests.durability.crash.outages import Outages
from tests.durability.crash.returning import Returns
from tests.support.backends import FRESH_URLS
from tests.support.postgres_instance import postgres_instance

STORM = 100_000  # events
COPIES = 6
RETURNS = 0.2  # of the time, in which retention removes what ended a moment ago


async def crash(store: str, seconds: float, seed: int, folder: Path) -> Verdict:
    """Run the harness over stores of a kind, fresh and gone afterwards."""
    verdicts: list[Verdict] = []
    for part in (kill, remove):
        inside = folder / part.__name__
        inside.mkdir()
        async with FRESH_URLS[store](inside) as url:
            verdicts.append(await part(url, seconds, seed, inside))
    verdicts[0].violations += verdicts[1].violations
    return verdicts[0]


async def kill(url: str, seconds: float, seed: int, folder: Path) -> Verdict:
    """Kill the servers of a store, copy it, and tell what became of the copies."""
    harness = Harness(url, folder, seed=seed, storm=STORM, copies=COPIES)
    verdict = await harness.run(seconds * (1 - RETURNS))
    tell(f"{verdict}; {harness.copies}")
    return verdict


async def remove(url: str, seconds: float, seed: int, folder: Path) -> Verdict:
    """Kill the servers of a store that remove handlers which run again."""
    harness = Returns(url, folder, seed=seed)
    verdict = await harness.run(seconds * RETURNS)
    tell(f"{harness.kept} times a handler ran again, and {harness.removed} times it was removed")
    return verdict


async def disturb_database(seconds: float, seed: int, folder: Path) -> Verdict:
    """Run the harness over a Postgres of its own that has one outage after the other."""
    async with postgres_instance() as database:
        harness = Outages(database, folder, schema="runs", seed=seed)
        verdict = await harness.run(seconds)
    tell("\n".join([*harness.losses.faults, str(harness.losses)]))
    verdict.violations += harness.losses.faults
    return verdict


def tell(text: str) -> None:
    """Print a text at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the harness as the command line says; 1 where anything did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability.crash", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--victim", choices=["server", "database"], default="server")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    arguments = parser.parse_args()
    seconds, seed = arguments.seconds, arguments.seed
    folder = Path(mkdtemp(prefix="crash-"))
    if arguments.victim == "database":
        tell(f"outages of Postgres, {seconds:g} s, seed {seed}")
        verdict = asyncio.run(disturb_database(seconds, seed, folder))
    else:
        tell(f"{arguments.store}, {seconds:g} s, seed {seed}")
        verdict = asyncio.run(crash(arguments.store, seconds, seed, folder))
    tell("\n".join([*verdict.violations, str(verdict)]))
    if verdict.violations:
        tell(f"The server's log, the effects and the store of SQLite are kept in {folder}.")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
