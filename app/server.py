"""The Python face, for people who embed the service."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware
from workflows import Workflow
from workflows.events import Event

from workflow_server.app.access import Access
from workflow_server.app.catalog import Catalog
from workflow_server.app.engine.values.registry import register_type
from workflow_server.app.errors import NotStarted, StoreFailed
from workflow_server.app.http.connections import HttpServer, make_connection_class
from workflow_server.app.lifecycle import Lifecycle
from workflow_server.app.main import cors_middleware, create_app
from workflow_server.app.settings import Limits, ServiceSettings, make_service_settings
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.routers.dependencies import Services
from workflow_server.stores.backends import open_store
from workflow_server.stores.base import Store, StoreError

__all__ = ["WorkflowServer", "register_type"]

logger = get_logger(__name__)


class WorkflowServer:
    """Serves workflows over HTTP.

        server = WorkflowServer()
        server.add_workflow("greet", GreetingWorkflow())
        asyncio.run(server.serve(port=8000))

    `workflow_store` is a store or a URL, by default one in memory. `access` says who may call, by
    default everybody. `settings` say how runs and clients are treated; `limits`, and each option
    that is called as a field of `ServiceSettings`, take the place of what stands there.
    `sse_heartbeat_interval` may be None for never. `middleware`, where it is given, takes the place
    of the rule of `cors_origins` and `cors_origin_pattern`.

    Raises TypeError for an option that is no setting, and `SettingsError`, which is a ValueError,
    for a value that cannot be.
    """

    def __init__(
        self,
        *,
        workflow_store: Store | str | None = None,
        access: Access | None = None,
        middleware: Sequence[Middleware] | None = None,
        settings: ServiceSettings | None = None,
        limits: Limits | None = None,
        **options: Any,
    ) -> None:
        settings = make_service_settings(settings or ServiceSettings(), limits, options)
        store = workflow_store if workflow_store is not None else "memory:"
        self.settings = settings
        self._store = open_store(store) if isinstance(store, str) else store
        self._catalog = Catalog()
        self.lifecycle = Lifecycle(self._store, self._catalog, settings)
        self._starting: asyncio.Lock | None = None
        self._started = False
        self._stopped = False
        self.access = access
        services = Services(
            lifecycle=self.lifecycle,
            access=access,
            catalog=self._catalog,
            heartbeat=settings.sse_heartbeat_interval or None,
            ensure_started=self._ensure_started,
        )
        if middleware is None:
            middleware = cors_middleware(settings.cors_origins, settings.cors_origin_pattern)
        self.app: FastAPI = create_app(
            services, lifespan=self._lifespan, middleware=middleware, settings=settings
        )

    def add_workflow(
        self,
        name: str,
        workflow: Workflow,
        additional_events: Sequence[type[Event]] | None = None,
    ) -> None:
        """Serve a workflow under a name, from now on; also after the start.

        `additional_events` are events that the workflow takes without declaring them in a step's
        signature: they may be sent, and are listed. Raises ValueError for a name that is taken or
        impossible.
        """
        self._catalog.add(name, workflow, additional_events or ())
        self.app.openapi_schema = None

    def get_workflows(self) -> dict[str, Workflow]:
        """Return the served workflows by name."""
        return {name: served.workflow for name, served in self._catalog.items()}

    def openapi_schema(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return self.app.openapi()

    async def start(self) -> "WorkflowServer":
        """Open the store and take requests; `StoreError` when it cannot be opened.

        Starting twice does nothing.
        """
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if not self._started:
                await self.lifecycle.start()
                self._started, self._stopped = True, False
        return self

    async def stop(self) -> None:
        """Stop all runs where they are and close the store. Stopping twice does nothing."""
        if self._started:
            self._started, self._stopped = False, True
            await self.lifecycle.stop()

    @asynccontextmanager
    async def contextmanager(self) -> AsyncIterator["WorkflowServer"]:
        """Start the server, and stop it at the end of the block."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    async def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 8000,
        uvicorn_config: dict[str, Any] | None = None,
    ) -> None:
        """Start, and serve HTTP until SIGTERM or SIGINT.

        `uvicorn_config` goes to `uvicorn.Config` and wins over what is set here.
        """
        options: dict[str, Any] = {
            "host": host,
            "port": port,
            "http": make_connection_class(self.settings),
            "ws": "none",
            "lifespan": "on",
            "server_header": False,
            "timeout_graceful_shutdown": self.settings.shutdown_timeout,
            **(uvicorn_config or {}),
        }
        async with self.contextmanager():
            config = uvicorn.Config(self.app, **options)
            server = HttpServer(config, self.lifecycle, grace=self.settings.shutdown_timeout)
            await server.serve()

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        async with self.contextmanager():
            yield

    async def _ensure_started(self) -> None:
        """Start on the first request where no lifespan did: in another application's mount."""
        if self._started:
            return
        if self._stopped:
            raise NotStarted("The server is stopped.")
        try:
            # In a context of its own: the server outlives the request that starts it.
            await asyncio.create_task(self.start(), name="start", context=Context())
        except StoreError as error:
            logger.error("store cannot be opened", exc_info=error)
            raise StoreFailed("The store cannot be opened; the log says why.") from error
