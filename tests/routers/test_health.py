"""`/health`: healthy means started, with a store that answers."""

import asyncio
from collections.abc import Sequence

import httpx
import pytest

from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.stores import ScriptedStore
from tests.support.waiting import DEADLINE, until
from tests.support.workflows import add_all
from workflow_server.app.server import WorkflowServer
from workflow_server.schemas.records import Phase, UnfinishedRun
from workflow_server.stores.base import StoreUnavailable


async def get_health(client: httpx.AsyncClient) -> tuple[int, dict[str, str]]:
    """Return status code and body of the health check."""
    response = await client.get("/health")
    return response.status_code, response.json()


async def ask(client: httpx.AsyncClient) -> list[int]:
    """Return the status codes of all probes."""
    return [(await client.get(f"/{name}")).status_code for name in ("livez", "readyz", "health")]


async def test_a_started_server_is_healthy(client: httpx.AsyncClient) -> None:
    assert await get_health(client) == (200, {"status": "healthy"})


async def test_a_server_is_unhealthy_while_its_store_cannot_be_reached() -> None:
    store = ScriptedStore()
    async with open_client(WorkflowServer(workflow_store=store)) as client:
        store.down = True
        down = await get_health(client)
        store.down = False
        up = await get_health(client)
    assert down == (503, {"status": "unhealthy"})
    assert up == (200, {"status": "healthy"})


async def test_a_stopped_server_is_unhealthy_and_refuses_all_else(
    server: WorkflowServer, client: httpx.AsyncClient
) -> None:
    await server.stop()
    assert await get_health(client) == (503, {"status": "unhealthy"})
    assert problem_of(await client.get("/handlers")) == (503, "not_started")


class ClosedStore(ScriptedStore):
    """A store that cannot be opened."""

    async def start(self) -> None:
        if self.down:
            raise StoreUnavailable("closed")


async def test_a_server_whose_store_cannot_be_opened_is_unhealthy() -> None:
    store = ClosedStore()
    server = WorkflowServer(workflow_store=store)
    transport = httpx.ASGITransport(server.app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://mounted", timeout=DEADLINE
    ) as client:
        store.down = True
        assert await get_health(client) == (503, {"status": "unhealthy"})
        assert problem_of(await client.get("/handlers")) == (503, "store_unavailable")
        store.down = False
        assert await get_health(client) == (200, {"status": "healthy"})
    await server.stop()


async def test_probes_tell_that_the_store_fails_and_that_it_is_back() -> None:
    store = ScriptedStore()
    async with open_client(WorkflowServer(workflow_store=store)) as client:
        store.down = True
        down = await ask(client)
        store.down = False
        up = await ask(client)
    assert down == [200, 503, 503]
    assert up == [200, 200, 200]


async def test_probes_tell_that_nothing_can_be_written_though_the_store_can_be_read() -> None:
    store = ScriptedStore()
    server = WorkflowServer(workflow_store=store, persistence_backoff=())
    add_all(server)
    async with open_client(server) as client:
        store.failures = 2
        refused = await client.post("/workflows/echo/run-nowait", json={})
        failing = await ask(client)

        async def recovered() -> bool:
            return await ask(client) == [200, 200, 200]

        await until(recovered)
    assert refused.status_code == 503
    assert failing == [200, 503, 503]


class HangingStore(ScriptedStore):
    """A store that does not answer while it is down."""

    async def check(self) -> None:
        if self.down:
            await asyncio.Event().wait()


async def test_a_store_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflow_server.app.lifecycle.CHECK_TIMEOUT", 0.05)
    store = HangingStore()
    async with open_client(WorkflowServer(workflow_store=store)) as client:
        store.down = True
        assert await ask(client) == [200, 503, 503]


async def test_a_stopped_server_lives_and_is_not_ready(
    server: WorkflowServer, client: httpx.AsyncClient
) -> None:
    await server.stop()
    assert await ask(client) == [200, 503, 503]


class SlowStore(ScriptedStore):
    """A store that lists what is unfinished only while it is open, and may break at it."""

    broken = False

    async def list_unfinished(
        self,
        phase: Phase,
        *,
        workflow_name: str | None = None,
        after: UnfinishedRun | None = None,
        limit: int,
    ) -> Sequence[UnfinishedRun]:
        await self.open.wait()
        if self.broken:
            raise ValueError("this store lists nothing")
        return await super().list_unfinished(
            phase, workflow_name=workflow_name, after=after, limit=limit
        )


async def test_a_server_is_ready_while_it_resumes() -> None:
    store = SlowStore()
    store.open.clear()
    async with open_client(WorkflowServer(workflow_store=store)) as client:
        assert await ask(client) == [200, 200, 200]


async def test_a_server_that_cannot_go_on_with_its_runs_is_not_ready(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = SlowStore()
    store.broken = True
    async with open_client(WorkflowServer(workflow_store=store)) as client:

        async def unready() -> bool:
            return await ask(client) == [200, 503, 200]

        await until(unready)
    assert "work was broken off" in caplog.text
