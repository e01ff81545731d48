"""The short form of the outages of Postgres; `make outage-test` runs the long one."""

import secrets
import sys
from pathlib import Path

import pytest

from tests.durability.crash.outages import Outage, Outages
from tests.support.postgres_instance import postgres_instance

SECONDS = 11.0  # less than all outages, one after the other, take


async def test_what_clients_saw_survives_every_outage_of_postgres(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = secrets.randbelow(1_000_000)
    async with postgres_instance() as database:
        harness = Outages(
            database, tmp_path, schema="runs", seed=seed, concurrent=16, longest_pause=0.3
        )
        verdict = await harness.run(SECONDS)
    with capsys.disabled():
        sys.stdout.write(f"\nseed {seed}: {harness.losses}; {verdict}\n")
    assert harness.losses.faults == []
    assert verdict.violations == []
    assert sorted(harness.losses.outages) == sorted(Outage)
    assert harness.losses.unhealthy > 0
