"""Inputs that atheris makes: it keeps those that reach code which no other has reached.

A process of its own, `python -m tests.fuzz.guided CASES SEED`, since the fuzzer never returns.
"""

import os
import sys
import time
import traceback
from collections import Counter

import atheris  # type: ignore[import-untyped]  # it has no annotations

# Only what is imported in this block is watched.
with atheris.instrument_imports(include=["workflow_server"]):
    from tests.fuzz.targets import TARGETS

LONGEST = 600  # bytes of an input


class Fuzzing:
    """Counts what is tried, and keeps what was wrong: one input for each place that raised."""

    def __init__(self, cases: int) -> None:
        self._cases = cases
        self._tried: Counter[str] = Counter()
        self._taken: Counter[str] = Counter()
        self._findings: dict[tuple[str, str], str] = {}
        self._names = list(TARGETS)
        self._begin = time.monotonic()

    def try_one(self, data: bytes) -> None:
        """Try an input, whose first byte says on what; the last one ends the process."""
        name = self._names[data[0] % len(self._names)] if data else self._names[0]
        self._tried[name] += 1
        try:
            self._taken[name] += TARGETS[name](data[1:])
        except Exception as error:  # noqa: BLE001  # whatever is raised is what is looked for
            place = traceback.extract_tb(error.__traceback__)[-1]
            key = (name, f"{type(error).__name__} at {place.filename}:{place.lineno}")
            told = f"{name}: {key[1]}: {error!s:.200} for {data.hex()}"
            self._findings.setdefault(key, told)
        if self._tried.total() >= self._cases:
            self._end()

    def _end(self) -> None:
        seconds = time.monotonic() - self._begin
        for name, tried in self._tried.items():
            tell(f"  {name}: {tried:,} tried, {self._taken[name]:,} taken, the others refused")
        for finding in self._findings.values():
            tell(f"  FOUND {finding}")
        found = len(self._findings)
        tell(f"in process: {self._cases:,} inputs in {seconds:.0f} s, {found} findings")
        sys.stdout.flush()
        os._exit(1 if self._findings else 0)


def tell(text: str) -> None:
    """Print a text."""
    sys.stdout.write(f"{text}\n")


def main() -> None:
    """Fuzz as the command line says."""
    cases, seed = int(sys.argv[1]), int(sys.argv[2])
    options = [f"-seed={seed}", f"-max_len={LONGEST}", "-len_control=0", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options], Fuzzing(cases).try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
