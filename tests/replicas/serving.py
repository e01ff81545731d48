"""Servers that share a schema of Postgres, in the test's own process."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.routers.test_observability import read_metrics
from tests.support.live import make_client, serving
from tests.support.ports import find_port
from tests.support.waiting import until
from tests.support.workflows import add_all
from workflow_server.app.replicas.exchange import Exchange
from workflow_server.app.server import WorkflowServer
from workflow_server.stores.postgres import PostgresStore
from workflow_server.stores.replicas import Replicas

# None of them is dead to the others because the machine is busy.
STEADY = Replicas(stale_after=120.0)


@dataclass(frozen=True)
class Member:
    """A server among others, and a client of it."""

    server: WorkflowServer
    client: httpx.AsyncClient

    @property
    def exchange(self) -> Exchange:
        """Its exchange with the others."""
        assert self.server.lifecycle.exchange is not None
        return self.server.lifecycle.exchange


@asynccontextmanager
async def member(
    url: str,
    *,
    add: Callable[[WorkflowServer], None] = add_all,
    replicas: Replicas = STEADY,
    **options: Any,
) -> AsyncIterator[Member]:
    """Yield a server that shares a schema, once the others know its address."""
    port = find_port()
    server = WorkflowServer(workflow_store=PostgresStore(url, replicas=replicas), **options)
    add(server)
    server.lifecycle.address = f"http://127.0.0.1:{port}"
    async with serving(server, port=port) as base_url, make_client(base_url) as client:
        await until(lambda: _is_described(server))
        yield Member(server, client)


async def _is_described(server: WorkflowServer) -> bool:
    lifecycle = server.lifecycle
    servers = await lifecycle.reads.store.list_servers()
    return any(record.address == lifecycle.address for record in servers)


@asynccontextmanager
async def members(url: str, count: int = 2, **options: Any) -> AsyncIterator[list[Member]]:
    """Yield servers that share a schema."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(member(url, **options)) for _ in range(count)]


async def has_readers(member: Member, count: int) -> bool:
    """Return whether so many streams are read at a server."""
    return (await read_metrics(member.client))[("readers",)] == count
