"""The long form: `python -m tests.fuzz --cases 1000000 --seed 7`; one in 20 goes over HTTP."""

import argparse
import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.requests import try_requests
from tests.support.backends import FRESH_URLS

SHARE = 20  # one case in so many goes over HTTP
SHOWN = 20  # findings of a store


def main() -> int:
    """Fuzz in this machine's processes, then over HTTP; 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--stores", nargs="+", choices=[*FRESH_URLS], default=[*FRESH_URLS])
    parser.add_argument("--seed", type=int, default=random.randrange(1, 1_000_000))
    arguments = parser.parse_args()
    over_http = arguments.cases // SHARE
    tell(f"seed {arguments.seed}")
    within = arguments.cases - over_http
    command = [sys.executable, "-m", "tests.fuzz.guided", str(within), str(arguments.seed)]
    guided = subprocess.run(command, check=False)
    found = [
        asyncio.run(fuzz_requests(store, over_http // len(arguments.stores), arguments.seed))
        for store in arguments.stores
    ]
    return 1 if any(found) or guided.returncode else 0


async def fuzz_requests(store: str, cases: int, seed: int) -> bool:
    """Fuzz a server over a kind of store; return whether anything was found."""
    begin = time.monotonic()
    with TemporaryDirectory() as folder:
        async with FRESH_URLS[store](Path(folder)) as url:
            statuses, findings = await try_requests(url, cases, seed)
    counted = ", ".join(f"{count:,} × {status}" for status, count in sorted(statuses.items()))
    tell("\n".join([f"  {counted}", *(f"  FOUND {finding}" for finding in findings[:SHOWN])]))
    seconds = time.monotonic() - begin
    tell(f"over HTTP, {store}: {cases:,} requests in {seconds:.0f} s, {len(findings)} findings")
    return bool(findings)


def tell(text: str) -> None:
    """Print a text at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
