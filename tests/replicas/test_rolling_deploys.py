"""Rolling deploys under load: every failure can be retried, and nothing is lost."""

import secrets
import sys
from pathlib import Path

import pytest

from tests.replicas.crash.fleet import SERVERS, fleet
from tests.replicas.crash.rolling import RollingDeploys
from tests.support.backends import opened_store

STALE = 30.0  # seconds: a server that is busy with the start of another one is not dead


async def test_rolling_deploys_fail_no_request_for_good_and_lose_nothing(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = secrets.randbelow(1_000_000)
    async with opened_store(url):
        pass  # the servers come at once, to a schema that is there
    async with fleet(url, tmp_path, stale_after=STALE) as servers:
        harness = RollingDeploys(
            url, tmp_path, servers, seed=seed, concurrent=6, uptime=0.5, longest_pause=0.3
        )
        verdict = await harness.run(0)  # seconds; each server is replaced, however long that takes
    with capsys.disabled():
        sys.stdout.write(f"\nseed {seed}: {harness.tally}\n")
    assert harness.tally.faults == []
    assert verdict.violations == []
    assert harness.tally.restarts >= SERVERS
    # The proxy passes a connection on that nobody takes, and has none that is kept.
    assert harness.tally.refused == harness.tally.closed == harness.tally.dropped == 0
