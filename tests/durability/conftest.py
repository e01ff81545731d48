"""Fixtures of the tests of crashes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.durability.restarts import OffsetClock
from tests.support.backends import FRESH_URLS, opened_store
from workflow_server.stores.base import Store


@pytest.fixture(autouse=True)
def short_probations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the suspects of a crash in this process come back soon after one another."""
    monkeypatch.setattr("workflow_server.app.scheduling.evidence.PROBATION", 0.02)


@pytest.fixture(params=FRESH_URLS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Yield a store of each kind, which outlives its servers."""
    async with FRESH_URLS[request.param](tmp_path) as url, opened_store(url) as store:
        yield store


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> OffsetClock:
    """Return the clock by which the servers go."""
    clock = OffsetClock()
    clock.install(monkeypatch)
    return clock
