"""The long form: `python -m tests.soak --seconds 300 --store sqlite`."""

import argparse
import asyncio
import shutil
import sys
from pathlib import Path
from tempfile import mkdtemp

from tests.soak.soak import soak


def tell(text: str) -> None:
    """Print a text at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Soak as the command line says; 1 where anything goes on growing."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    arguments = parser.parse_args()
    folder = Path(mkdtemp(prefix="soak-"))
    tell(f"{arguments.store}, {arguments.seconds:g} s")
    judgements = asyncio.run(soak(arguments.store, arguments.seconds, folder, tell))
    tell("\n".join(f"  {judgement}" for judgement in judgements))
    if not all(judgement.holds for judgement in judgements):
        tell(f"The server's log is kept in {folder}.")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
