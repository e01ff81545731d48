"""Shared reading positions: as many are kept as may be, and then the least used are forgotten."""

import pytest

from workflow_server.app.streams.subscription import SharedPositions

MOST = 4


@pytest.mark.parametrize("runs", range(1, MOST + 3))
def test_the_least_used_beyond_the_bound_are_forgotten(
    runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow_server.app.streams.subscription.MAX_SHARED_POSITIONS", MOST)
    positions = SharedPositions()
    for number in range(runs):
        positions.of(f"run-{number}").cursor = number
    moved = [positions.look(f"run-{number}").cursor for number in range(runs)]
    forgotten = max(runs - MOST, 0)
    assert moved == [*[-1] * forgotten, *range(forgotten, runs)]
