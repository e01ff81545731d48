"""Whatever one operation of the store does: nothing seen is lost, and nothing hangs.

A selection on the store in memory; `make fault-test` has every operation go wrong in every way,
once, three times and for good, on every store.
"""

import asyncio
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path

import httpx
import pytest
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.durability.conducting import served
from tests.durability.faulty import FOR_GOOD, Fault, FaultyStore
from tests.durability.ordeal import Ordeal, is_healthy
from tests.durability.restarts import restarting
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import answer, start, start_asker, wait_ended
from tests.support.live import serving
from tests.support.waiting import DEADLINE, until
from tests.support.workflows import Asker
from workflow_server.app.server import WorkflowServer
from workflow_server.schemas.records import DueRun, EndedHandler
from workflow_server.stores.base import Store
from workflow_server.stores.memory import MemoryStore

# Asked for at a stop and at a start after a crash, see below, by no single server, and by a copy.
ELSEWHERE = {"start", "stop", "let_go", "write_suspects", "list_servers"} | {
    "get_copy",
    "list_run_ids",
    "note_copy",
    "read_runs",
    "weigh_runs",
}
OPERATIONS = sorted(Store.__abstractmethods__ - ELSEWHERE)
EVERY_CASE = list(product([*OPERATIONS, "everything"], Fault, (1, 3, FOR_GOOD)))
CASES = [
    *(("commit", fault, FOR_GOOD) for fault in Fault),
    ("commit", Fault.FAIL_AFTER, 1),
    ("commit", Fault.HANG_AFTER, 1),
    ("everything", Fault.FAIL_BEFORE, FOR_GOOD),
    ("everything", Fault.HANG_BEFORE, FOR_GOOD),
    *((operation, Fault.FAIL_BEFORE, 3) for operation in OPERATIONS),
]
ALL = os.environ.get("EVERY_FAULT") == "1"
TIMEOUT = 2.0 if ALL else 1.0  # seconds until what hangs has failed
# What bounds an operation; all others are reads.
COMMIT, READ = "runs.commit_log.COMMIT_TIMEOUT", "reads.READ_TIMEOUT"
TIMEOUTS: dict[str, tuple[str, ...]] = {
    "commit": (COMMIT,),
    "check": ("lifecycle.CHECK_TIMEOUT",),
    "describe": ("description.CHECK_TIMEOUT",),
}
TIMEOUTS["everything"] = (READ, *(name for names in TIMEOUTS.values() for name in names))
HANGS = (Fault.HANG_BEFORE, Fault.HANG_AFTER)


class Gated(Workflow):
    """Ends once it is let."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.opened = asyncio.Event()

    @step
    async def wait(self, ev: StartEvent) -> StopEvent:
        await self.opened.wait()
        return StopEvent()


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody pause for long."""
    monkeypatch.setattr("workflow_server.app.runs.commit_log.RECOVERY_PAUSE", 0.02)
    monkeypatch.setattr("workflow_server.app.scheduling.claims.RETRY_PAUSE", 0.02)
    monkeypatch.setattr("workflow_server.app.scheduling.restoring.RETRY_PAUSE", 0.02)
    monkeypatch.setattr("workflow_server.app.scheduling.timers.RETRY_PAUSE", 0.02)
    monkeypatch.setattr("workflow_server.app.scheduling.trials.RETRY_PAUSE", 0.02)
    monkeypatch.setattr("workflow_server.app.handlers.retention.PAUSE", 0.02)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FaultyStore:
    """Return a store that works, until it is told not to, and for which nobody waits for long."""
    wait_briefly(monkeypatch, "everything")
    return FaultyStore(MemoryStore())


def wait_briefly(monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    """Let nobody wait for an operation for long."""
    for name in TIMEOUTS.get(operation, (READ,)):
        monkeypatch.setattr(f"workflow_server.app.{name}", TIMEOUT)


@pytest.mark.parametrize("kind", FRESH_URLS if ALL else ["memory"])
@pytest.mark.parametrize(("operation", "fault", "times"), EVERY_CASE if ALL else CASES)
async def test_nothing_that_was_seen_is_lost(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    operation: str,
    fault: Fault,
    times: int,
) -> None:
    if fault in HANGS:  # What works gets its time, however busy the machine is.
        wait_briefly(monkeypatch, operation)
    ordeal = Ordeal(operation, fault, times)
    async with FRESH_URLS[kind](tmp_path) as url, opened_store(url) as real:
        await ordeal.undergo(real)
    assert ordeal.violations == []
    assert ordeal.struck > 0


async def test_a_request_whose_read_hangs_is_answered(store: FaultyStore) -> None:
    async with served(store) as url, httpx.AsyncClient(base_url=url, timeout=DEADLINE) as client:
        store.break_down("list_handlers", Fault.HANG_BEFORE)
        refused = await client.get("/handlers")
        store.repair()
        found = await client.get("/handlers")
    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    assert found.status_code == 200


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.HANG_BEFORE, Fault.HANG_AFTER])
async def test_health_tells_of_a_commit_that_fails_or_hangs_and_recovers_by_itself(
    store: FaultyStore, fault: Fault
) -> None:
    async with served(store) as url, httpx.AsyncClient(base_url=url, timeout=DEADLINE) as client:
        store.break_down("commit", fault)
        start = {"start_event": {"name": "n", "size": 1}}
        response = await client.post("/workflows/streamer/run-nowait", json=start)
        refused = (response.status_code, await is_healthy(client))
        store.repair()
        await until(lambda: is_healthy(client))
        assert refused == (503, False)


async def test_health_tells_of_a_store_that_does_not_answer(store: FaultyStore) -> None:
    async with served(store) as url, httpx.AsyncClient(base_url=url, timeout=DEADLINE) as client:
        store.break_down("check", Fault.HANG_BEFORE)
        assert not await is_healthy(client)
        store.repair()
        assert await is_healthy(client)


async def test_what_the_store_did_not_take_is_not_written_after_a_stop(store: FaultyStore) -> None:
    first, second = (WorkflowServer(workflow_store=store, persistence_backoff=()) for _ in range(2))
    first.add_workflow("asker", Asker())
    async with serving(first) as url, httpx.AsyncClient(base_url=url, timeout=DEADLINE) as client:
        handler_id = await start_asker(client, "asker")
    async with serving(second) as url, httpx.AsyncClient(base_url=url, timeout=DEADLINE) as client:

        async def is_held() -> bool:
            return bool((await client.get(f"/handlers/{handler_id}")).json()["phase"] == "held")

        await until(is_held)
        store.break_down("commit", Fault.FAIL_BEFORE)
        refused = await client.post(f"/handlers/{handler_id}/cancel")
    store.repair()
    commits = len(store.commits)
    second.add_workflow("asker", Asker())
    async with serving(second) as url, httpx.AsyncClient(base_url=url, timeout=DEADLINE) as client:
        await answer(client, handler_id, "yes")
        handler = await wait_ended(client, handler_id)
    written = [event.envelope for batch in store.commits[commits:] for event in batch.events]
    assert (refused.status_code, handler["status"]) == (503, "completed")
    assert [envelope for envelope in written if b"WorkflowCancelledEvent" in envelope] == []


class Unreadable(MemoryStore):
    """Has a fault of its own where it is asked for timers."""

    async def list_due(self, *, after: DueRun | None = None, limit: int) -> Sequence[DueRun]:
        raise ZeroDivisionError


async def test_readiness_tells_that_timers_were_broken_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = WorkflowServer(workflow_store=Unreadable())
    async with serving(server) as url, httpx.AsyncClient(base_url=url, timeout=DEADLINE) as client:

        async def is_unready() -> bool:
            return (await client.get("/readyz")).status_code == 503

        await until(is_unready)
        health = await client.get("/health")
    assert health.status_code == 200
    assert [record for record in caplog.records if "broken off" in record.getMessage()]


class Cancelling(MemoryStore):
    """Cancels the work that looks for what is old."""

    async def list_ended(self, *, before: datetime, limit: int) -> Sequence[EndedHandler]:
        raise asyncio.CancelledError


async def test_readiness_tells_that_retention_was_broken_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = WorkflowServer(workflow_store=Cancelling(), retention=timedelta(hours=1))
    async with serving(server) as url, httpx.AsyncClient(base_url=url, timeout=DEADLINE) as client:

        async def is_unready() -> bool:
            return (await client.get("/readyz")).status_code == 503

        await until(is_unready)
        health = await client.get("/health")
    assert health.status_code == 200
    assert [record for record in caplog.records if "broken off" in record.getMessage()]


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.HANG_BEFORE])
async def test_a_stop_in_which_the_store_lets_no_run_go_ends(
    store: FaultyStore, fault: Fault
) -> None:
    async with restarting(store, asker=Asker()) as restarts:
        handler_id = await start_asker(restarts.client, "asker")
        store.break_down("let_go", fault)
        await restarts.stop()
        store.repair()
        await restarts.start()
        assert (await answer(restarts.client, handler_id, "yes")).status_code == 200


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.FAIL_AFTER, Fault.HANG_AFTER])
async def test_suspects_that_cannot_be_written_down_come_back_when_they_can(
    store: FaultyStore, fault: Fault
) -> None:
    gated = Gated()
    async with restarting(store, gated=gated) as restarts:
        handlers = [await start(restarts.client, "gated") for _ in range(2)]
        await restarts.crash()
        script = store.break_down("write_suspects", fault, 3)
        await restarts.start()
        await until(lambda: script.happened == 3)
        gated.opened.set()
        for handler_id in handlers:
            assert (await wait_ended(restarts.client, handler_id))["status"] == "completed"
