"""A live server on loopback, in the test's own event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from app.server import WorkflowServer


class _Uvicorn(uvicorn.Server):
    """A server that says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def serving_app(app: ASGIApp, *, lifespan: str = "on") -> AsyncIterator[str]:
    """Serve an ASGI application and yield its base URL."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        log_level="warning",
        ws="none",
        lifespan=lifespan,  # type: ignore[arg-type]  # a literal, given by tests
        timeout_graceful_shutdown=2,
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
        server.should_exit = True
        await task


@asynccontextmanager
async def serving(server: WorkflowServer) -> AsyncIterator[str]:
    """Serve a `WorkflowServer` and yield its base URL."""
    async with serving_app(server.app) as base_url:
        try:
            yield base_url
        finally:
            # uvicorn waits for open streams, and no signal comes here to end them.
            await server.stop()
