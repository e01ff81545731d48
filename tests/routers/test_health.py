"""`/health`: healthy means started, with a store that answers."""

import httpx

from app.server import WorkflowServer
from stores.base import StoreUnavailable
from tests.support.live import open_client
from tests.support.problems import problem_of
from tests.support.stores import ScriptedStore


async def get_health(client: httpx.AsyncClient) -> tuple[int, dict[str, str]]:
    """Return status code and body of the health check."""
    response = await client.get("/health")
    return response.status_code, response.json()


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
    async with httpx.AsyncClient(transport=transport, base_url="http://mounted") as client:
        store.down = True
        assert await get_health(client) == (503, {"status": "unhealthy"})
        assert problem_of(await client.get("/handlers")) == (503, "store_unavailable")
        store.down = False
        assert await get_health(client) == (200, {"status": "healthy"})
    await server.stop()
