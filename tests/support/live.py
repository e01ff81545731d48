"""A live server on loopback, in the test's own event loop."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp
from workflows import Workflow

from tests.support.waiting import DEADLINE
from workflow_server.app.http.connections import make_connection_class
from workflow_server.app.server import WorkflowServer

# Of no certificates: to read those of the world takes longer than most tests, and nothing here is
# encrypted.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class _Uvicorn(uvicorn.Server):
    """A server that says when it listens, and leaves at once when it is told to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.leaving = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.leaving.wait()

    async def shutdown(self, sockets: Any = None) -> None:
        """Do as uvicorn does, without its pause of a tenth of a second."""
        for listener in self.servers:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        async with asyncio.timeout(self.config.timeout_graceful_shutdown):
            await self._wait_tasks_to_complete()
        await self.lifespan.shutdown()


@asynccontextmanager
async def serving_app(
    app: ASGIApp, *, lifespan: str = "on", port: int = 0, http: type[asyncio.Protocol] | None = None
) -> AsyncIterator[str]:
    """Serve an ASGI application, on any free port if none is given, and yield its base URL."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        log_level="warning",
        ws="none",
        http=http or "auto",
        lifespan=lifespan,  # type: ignore[arg-type]  # a literal, given by tests
        timeout_graceful_shutdown=int(DEADLINE),
        # On a busy machine one ends in the moment in which its client uses it again.
        timeout_keep_alive=int(DEADLINE),
    )
    server = _Uvicorn(config)
    # `_serve`: without the signal handlers, which belong to pytest here.
    task = asyncio.create_task(server._serve())
    listening = asyncio.create_task(server.listening.wait())
    try:
        await asyncio.wait({task, listening}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        listening.cancel()
        server.leaving.set()
        await task


@asynccontextmanager
async def serving(
    server: WorkflowServer, *, port: int = 0, own_connections: bool = False
) -> AsyncIterator[str]:
    """Serve a `WorkflowServer` and yield its base URL; by uvicorn's connections, or by ours."""
    http = make_connection_class(server.settings) if own_connections else None
    async with serving_app(server.app, port=port, http=http) as base_url:
        try:
            yield base_url
        finally:
            # uvicorn waits for open streams, and no signal comes here to end them.
            await server.stop()


def make_client(base_url: str) -> httpx.AsyncClient:
    """Return a client of a live server."""
    return httpx.AsyncClient(base_url=base_url, timeout=DEADLINE, verify=NO_TLS)


@asynccontextmanager
async def open_client(
    server: WorkflowServer, *, own_connections: bool = False
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a `WorkflowServer` as `serving` does, and yield a client of it."""
    async with (
        serving(server, own_connections=own_connections) as base_url,
        make_client(base_url) as client,
    ):
        yield client


@asynccontextmanager
async def serve_workflow(workflow: Workflow, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve one workflow under the name `it`, and yield a client of its server."""
    server = WorkflowServer(**options)
    server.add_workflow("it", workflow)
    async with open_client(server) as client:
        yield client
