"""Work beside the runs of servers that share a store: one does it, and another one goes on."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.durability.bystanders import expire, is_removed
from tests.replicas.joining import joined
from tests.replicas.servers import ServerHere, here
from tests.support.waiting import until
from workflow_server.stores.replicas import Replicas

OPTIONS: dict[str, Any] = {"retention": timedelta(hours=1), "stale_after": 600.0}
PATIENT = Replicas(heartbeat=1.0, stale_after=600.0)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the servers look for what is old all the time."""
    monkeypatch.setattr("workflow_server.app.handlers.retention.PAUSE", 0.05)


async def count_retentions(server: ServerHere) -> float:
    """Return how often a server has looked for what is old."""
    sought = 'workflow_server_background_work_total{status="completed",work="retention"} '
    [found] = [
        line.removeprefix(sought)
        for line in (await server.client.get("/metrics")).text.splitlines()
        if line.startswith(sought)
    ]
    return float(found)


async def test_another_server_removes_what_is_old_when_one_is_drained(
    url: str, tmp_path: Path
) -> None:
    async with joined(url, PATIENT) as store, here(url, tmp_path, "a", **OPTIONS) as a:
        await expire(store)
        await until(lambda: is_removed(store))
        async with here(url, tmp_path, "b", **OPTIONS) as b:
            a.lifecycle.begin_drain()
            looks = await count_retentions(b)
            await until(lambda: looks_more(b, looks))
            looks_of_a = await count_retentions(a)
            await expire(store)
            await until(lambda: is_removed(store))
            assert await count_retentions(a) == looks_of_a


async def looks_more(server: ServerHere, looks: float) -> bool:
    """Return whether a server has looked more often."""
    return await count_retentions(server) > looks


async def test_another_server_removes_what_is_old_when_one_has_ended(
    url: str, tmp_path: Path
) -> None:
    async with joined(url, PATIENT) as store, here(url, tmp_path, "a", **OPTIONS):
        async with here(url, tmp_path, "b", **OPTIONS) as b:
            await until(lambda: looks_more(b, 0.0))
        await expire(store)
        await until(lambda: is_removed(store))
