"""The short form of the harness; `make replicas-test` runs the long one."""

import secrets
import sys
from pathlib import Path

import pytest

from tests.replicas.crash.audit import Audit
from tests.replicas.crash.fleet import fleet
from tests.replicas.crash.harness import Move, ReplicasHarness

STALE = 3.0  # seconds
MOVES = (Move.KILL, Move.STOP, Move.CUT)


async def test_what_clients_saw_survives_the_loss_of_any_server(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = secrets.randbelow(1_000_000)
    audit = Audit(url)
    await audit.install()
    async with fleet(url, tmp_path, stale_after=STALE) as servers:
        harness = ReplicasHarness(
            url,
            tmp_path,
            servers,
            audit,
            stale_after=STALE,
            moves=MOVES,
            seed=seed,
            concurrent=8,
            longest_pause=0.3,
        )
        verdict = await harness.run(0)  # seconds; each move is made once, however long that takes
    with capsys.disabled():
        sys.stdout.write(f"\nseed {seed}: {verdict}\n")
    assert verdict.violations == []
    assert harness.moves.keys() == set(MOVES)
