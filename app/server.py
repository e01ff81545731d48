"""The Python face, for people who embed the service."""

import asyncio
import os
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
from workflow_server.app.address import is_loopback
from workflow_server.app.catalog import Catalog
from workflow_server.app.engine.values.registry import register_type
from workflow_server.app.errors import NotStarted, StoreFailed
from workflow_server.app.http.blocked_loops import BlockedLoopGuard
from workflow_server.app.http.connections import KEEP_ALIVE, HttpServer, make_connection_class
from workflow_server.app.http.stop_signals import StopSignals
from workflow_server.app.http.workers import count_workers
from workflow_server.app.lifecycle import Lifecycle
from workflow_server.app.main import cors_middleware, create_app
from workflow_server.app.settings import Limits, ServiceSettings, make_service_settings
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.routers.dependencies import Services
from workflow_server.routers.hosts import HostRule
from workflow_server.stores.backends import open_store
from workflow_server.stores.base import Store, StoreError
from workflow_server.stores.replicas import Replicas

__all__ = ["WorkflowServer", "register_type"]

logger = get_logger(__name__)

SEVERAL_WORKERS = (
    "{} workers are to serve this application, and one alone can: each would have runs of its own,"
    " of which the others know nothing. Start one worker."
)
PROXIES = "FORWARDED_ALLOW_IPS"  # uvicorn's own variable


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
        settings = settings or ServiceSettings()
        if limits is not None or options:
            settings = make_service_settings(settings, limits, options)
        store = workflow_store if workflow_store is not None else "memory:"
        self.settings = settings
        self._store = _open_store(store, settings) if isinstance(store, str) else store
        self._catalog = Catalog()
        self.lifecycle = Lifecycle(self._store, self._catalog, settings)
        self._signals = StopSignals(self.lifecycle, grace=settings.shutdown_timeout)
        self._has_process = False
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
            max_body_values=settings.max_body_values,
        )
        if middleware is None:
            middleware = cors_middleware(settings.cors_origins, settings.cors_origin_pattern)
        self._hosts = HostRule(settings.allowed_hosts)
        self.app: FastAPI = create_app(
            services,
            lifespan=self._lifespan,
            middleware=middleware,
            settings=settings,
            hosts=self._hosts,
        )

    def add_workflow(
        self,
        name: str,
        workflow: Workflow,
        additional_events: Sequence[type[Event]] | None = None,
        *,
        keep_history: bool = True,
    ) -> None:
        """Serve a workflow under a name, from now on; also after the start.

        `additional_events` are events that the workflow takes without declaring them in a step's
        signature: they may be sent, and are listed. `keep_history=False`: what its runs do, step by
        step, is not kept. Raises ValueError for a name that is taken or
        impossible.
        """
        self._catalog.add(name, workflow, additional_events or (), keep_history=keep_history)
        self.app.openapi_schema = None

    def get_workflows(self) -> dict[str, Workflow]:
        """Return the served workflows by name."""
        return {name: served.workflow for name, served in self._catalog.items()}

    def openapi_schema(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return self.app.openapi()

    async def start(self) -> "WorkflowServer":
        """Open the store and take requests.

        Raises `StoreError` where the store cannot be opened, and in one of several workers of
        uvicorn or gunicorn. Starting twice does nothing.

        From now on SIGTERM and SIGINT begin a drain, and the handlers that were there are called;
        `stop` gives them back. Outside of the main thread, where Python has no signals, and where
        nobody handles them, they are left alone.
        """
        await self._start()
        return self

    async def _start(self, *, stops_itself: bool = False) -> None:
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if self._started:
                return
            workers = count_workers()
            if workers > 1:
                raise StoreError(SEVERAL_WORKERS.format(workers))
            await self.lifecycle.start()
            self._started, self._stopped = True, False
            if not self._has_process:
                self._signals.hook(stop=self.stop if stops_itself else None)

    async def stop(self) -> None:
        """Stop all runs where they are and close the store. Stopping twice does nothing.

        Where a signal has begun a drain, that is waited for.
        """
        if self._started:
            self._started, self._stopped = False, True
            await self._signals.wait_drained()
            self._signals.give_back()
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
        http = self.make_http_server(host, port, uvicorn_config)
        guard = BlockedLoopGuard(grace=self.settings.shutdown_timeout)
        http.on_signal = guard.ask
        guard.start()
        try:
            async with self.contextmanager():
                await http.serve()
        finally:
            guard.stop()

    def make_http_server(
        self, host: str, port: int, uvicorn_config: dict[str, Any] | None = None
    ) -> HttpServer:
        """Return what serves HTTP, as `serve` does, once this is started; needs an event loop.

        It drains at a signal itself.
        """
        self._has_process = True
        self._signals.give_back()
        # uvicorn would believe whoever is on 127.0.0.1.
        proxies = ",".join(self.settings.trusted_proxies) or os.environ.get(PROXIES, "")
        options: dict[str, Any] = {
            "host": host,
            "port": port,
            "http": make_connection_class(self.settings),
            "ws": "none",
            "lifespan": "on",
            "server_header": False,
            "proxy_headers": bool(proxies),
            "forwarded_allow_ips": proxies,
            "timeout_keep_alive": KEEP_ALIVE,
            "timeout_graceful_shutdown": self.settings.shutdown_timeout,
            **(uvicorn_config or {}),
        }
        config = uvicorn.Config(self.app, **options)
        by_address = config.uds is None and config.fd is None
        self._hosts.loopback_only = by_address and is_loopback(config.host)
        return HttpServer(config, self.lifecycle, grace=self.settings.shutdown_timeout)

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
            starting = self._start(stops_itself=True)
            await asyncio.create_task(starting, name="start", context=Context())
        except StoreError as error:
            logger.error("store cannot be opened", error=str(error))
            raise StoreFailed("The store cannot be opened; the log says why.") from error


def _open_store(url: str, settings: ServiceSettings) -> Store:
    """Return the store that a URL names, shared with other servers where the settings say so."""
    replicas = Replicas(heartbeat=settings.heartbeat, stale_after=settings.stale_after)
    return open_store(url, replicas=replicas if settings.replicas else None)
