"""The short form of the crash harness; `make crash-test` runs the long one."""

import secrets
import sys
from pathlib import Path

import pytest

from tests.durability.crash.harness import Harness
from tests.durability.crash.returning import Returns
from tests.support.backends import DURABLE, FRESH_URLS

SECONDS = 8.0


@pytest.mark.parametrize("kind", DURABLE)
async def test_what_clients_saw_survives_every_crash(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = secrets.randbelow(1_000_000)
    async with FRESH_URLS[kind](tmp_path) as url:
        harness = Harness(
            url,
            tmp_path,
            seed=seed,
            concurrent=16,
            uptime=0.6,
            longest_pause=0.3,
            storm=5_000,
            copies=2,
        )
        verdict = await harness.run(SECONDS)
    with capsys.disabled():
        sys.stdout.write(f"\n{kind}, seed {seed}: {verdict}; {harness.copies}\n")
    assert verdict.violations == []
    assert verdict.crashes > 0


@pytest.mark.parametrize("kind", DURABLE)
async def test_retention_removes_no_handler_that_runs_again_before_it_is_old(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = secrets.randbelow(1_000_000)
    async with FRESH_URLS[kind](tmp_path) as url:
        harness = Returns(url, tmp_path, seed=seed, concurrent=12, longest_pause=0.3)
        verdict = await harness.run(SECONDS)
    with capsys.disabled():
        kept, removed = harness.kept, harness.removed
        sys.stdout.write(f"\n{kind}, seed {seed}: {kept} kept and {removed} removed; {verdict}\n")
    assert verdict.violations == []
