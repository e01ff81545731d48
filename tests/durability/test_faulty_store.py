"""Whatever one operation of the store does: nothing seen is lost, and nothing hangs."""

import asyncio

import httpx
import pytest

from stores.memory import MemoryStore
from tests.durability.conducting import audit_again, check, conducting, served
from tests.durability.faulty import FOR_GOOD, Fault, FaultyStore
from tests.support.waiting import until

CASES = [
    *(("commit", fault, FOR_GOOD) for fault in Fault),
    ("commit", Fault.FAIL_AFTER, 1),
    ("commit", Fault.HANG_AFTER, 1),
    ("everything", Fault.FAIL_BEFORE, FOR_GOOD),
    ("everything", Fault.HANG_BEFORE, FOR_GOOD),
    ("get_run", Fault.FAIL_BEFORE, FOR_GOOD),
    ("read_events", Fault.FAIL_BEFORE, FOR_GOOD),
]


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait for long."""
    monkeypatch.setattr("app.runtime.commit_log.COMMIT_TIMEOUT", 0.2)
    monkeypatch.setattr("app.runtime.commit_log.RECOVERY_PAUSE", 0.02)
    monkeypatch.setattr("app.runtime.residency.RETRY_PAUSE", 0.02)
    monkeypatch.setattr("app.registry.CHECK_TIMEOUT", 0.2)


@pytest.fixture
def store() -> FaultyStore:
    """Return a store that works, until it is told not to."""
    return FaultyStore(MemoryStore())


@pytest.mark.parametrize(("operation", "fault", "times"), CASES)
async def test_nothing_that_was_seen_is_lost(
    store: FaultyStore, operation: str, fault: Fault, times: int
) -> None:
    async with served(store) as url, conducting(url) as conducted:
        await until(lambda: len(store.commits) > 10)
        store.break_down(operation, fault, times)
        await asyncio.sleep(0.3)
        store.repair()
    async with served(store) as url:
        await audit_again(url, conducted)
    assert check(conducted) == []


async def is_healthy(client: httpx.AsyncClient) -> bool:
    """Return whether the server says that it is healthy."""
    return (await client.get("/health")).status_code == 200


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.HANG_BEFORE, Fault.HANG_AFTER])
async def test_health_tells_of_a_commit_that_fails_or_hangs_and_recovers_by_itself(
    store: FaultyStore, fault: Fault
) -> None:
    async with served(store) as url, httpx.AsyncClient(base_url=url) as client:
        store.break_down("commit", fault)
        start = {"start_event": {"name": "n", "size": 1}}
        response = await client.post("/workflows/streamer/run-nowait", json=start)
        refused = (response.status_code, await is_healthy(client))
        store.repair()
        await until(lambda: is_healthy(client))
        assert refused == (503, False)


async def test_health_tells_of_a_store_that_does_not_answer(store: FaultyStore) -> None:
    async with served(store) as url, httpx.AsyncClient(base_url=url) as client:
        store.break_down("check", Fault.HANG_BEFORE)
        assert not await is_healthy(client)
        store.repair()
        assert await is_healthy(client)
