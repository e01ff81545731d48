"""The ASGI application: routers, middleware, errors and the OpenAPI document, put together."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from starlette.types import Message, Receive, Scope, Send

from workflow_server.app.access import Access
from workflow_server.app.replicas.registry import SharedRegistry
from workflow_server.app.settings import MIB, Limits, ServiceSettings
from workflow_server.routers import (
    events,
    handlers,
    health,
    metrics,
    results,
    runs,
    servers,
    steps,
    ui,
    workflows,
)
from workflow_server.routers.access import SCHEMES, AccessGuard
from workflow_server.routers.api_pages import serve_page_files
from workflow_server.routers.bodies import BodyLimit
from workflow_server.routers.client_limits import ClientLimits
from workflow_server.routers.dependencies import Services
from workflow_server.routers.document import serve_document
from workflow_server.routers.headers import SecureHeaders
from workflow_server.routers.heads import Heads
from workflow_server.routers.hosts import HostGuard, HostRule
from workflow_server.routers.http_rules import HttpRules
from workflow_server.routers.internal import InternalRoutes
from workflow_server.routers.origins import LOCALHOST, OriginGuard
from workflow_server.routers.problems import add_problem_handlers
from workflow_server.routers.request_ids import RequestIds
from workflow_server.routers.root_paths import RootPath
from workflow_server.stores.base import StoreError

GUARDED_ROUTERS = (
    runs.router,
    workflows.router,
    handlers.router,
    steps.router,
    events.router,
    results.router,
    metrics.router,
    servers.router,
)
OPEN_ROUTERS = (health.router, ui.router)  # to everybody, also where access is restricted
# They are asked by whatever address a supervisor knows.
PROBES = [
    route
    for route in health.router.routes
    if isinstance(route, APIRoute) and route.path in ("/livez", "/readyz")
]
ROUTERS = (*GUARDED_ROUTERS, *OPEN_ROUTERS)
UNTRACED = ("/health", "/livez", "/readyz", "/metrics")
CONTACT = {"name": "The operator of this server"}
LICENSE = {"name": "MIT", "identifier": "MIT"}
API_VERSION = "1"  # not the server's, which an open page need not tell
DESCRIPTION = """\
Serves [LlamaIndex Workflows](https://pypi.org/project/llama-index-workflows/): start runs, follow
their events, answer their questions, list, inspect and cancel them.

Errors are `application/problem+json` (RFC 9457): `detail` says what was wrong and what would be
right, `code` is for programs. Every path that takes GET takes HEAD too.
"""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    services: Services,
    *,
    lifespan: Lifespan,
    middleware: Sequence[Middleware],
    settings: ServiceSettings,
    hosts: HostRule,
) -> FastAPI:
    """Return the application of a server; nothing is started."""
    root_path = settings.root_path
    app = FastAPIOffline(
        title="Workflow server",
        version=API_VERSION,
        description=DESCRIPTION,
        contact=CONTACT,
        license_info=LICENSE,
        lifespan=lifespan,
        middleware=[
            *([Middleware(RootPath, root_path=root_path)] if root_path else []),
            Middleware(SecureHeaders),
            Middleware(RequestIds, metrics=services.lifecycle.metrics),
            Middleware(HttpRules),
            Middleware(Heads),
            Middleware(HostGuard, rule=hosts, probes=PROBES),
            *middleware,
            Middleware(BodyLimit, limit=settings.max_body_size),
        ],
        # A redirect would lead to whatever host the client names.
        redirect_slashes=False,
        swagger_ui_parameters={"defaultModelsExpandDepth": 0},  # there are many, so folded
        telemetry=_telemetry(root_path),
    )
    serve_page_files(app)
    app.state.services = services
    _add_internal_routes(app, services, settings)
    serve_document(app, services.catalog, root_path=root_path.rstrip("/"))
    _include_routers(app, services.access, settings)
    # After the guard of access, which says who asks.
    app.user_middleware.append(
        Middleware(
            ClientLimits,
            limits=settings,
            streams=[route for route in events.router.routes if _takes_get(route)],
            probes=health.router.routes,
        )
    )
    add_problem_handlers(app)
    _shorten_refusal(app)
    return app


def _add_internal_routes(app: FastAPI, services: Services, limits: Limits) -> None:
    """Let other servers ask this one, where servers share a store, before all else is looked at."""
    exchange, registry = services.lifecycle.exchange, services.lifecycle.registry
    if exchange is not None and isinstance(registry, SharedRegistry):
        routes = Middleware(
            InternalRoutes,
            registry=registry,
            exchange=exchange,
            members=services.lifecycle.members,
            max_body=2 * limits.max_body_size + MIB,  # a text has longer escapes than a client's
        )
        app.user_middleware.insert(0, routes)


def _telemetry(root_path: str) -> TelemetryConfig:
    """Return what the framework tells a tracer provider, where the process has one.

    Probes and scrapes come every few seconds, and tell nothing.
    """
    untold = {f"{root_path}{path}" for path in UNTRACED} | set(UNTRACED)
    return {
        "tracing": True,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "auto_configure": False,
        "exclude": lambda scope: scope["path"] in untold,
    }


def _include_routers(app: FastAPI, access: Access | None, limits: Limits) -> None:
    for route in (route for router in ROUTERS for route in router.routes):
        if isinstance(route, APIRoute):
            # Generated clients make the names of their methods of it.
            route.operation_id = route.name
    if access is None:
        # Added as they are: of a router that is included, the framework builds every route a second
        # time, and looks each request up twice. The API pages come after them, as they are rarer.
        app.router.routes[:0] = [route for router in ROUTERS for route in router.routes]
        return
    # The API pages, which the framework has put there, are open too.
    open_routes = [*app.routes, *(route for router in OPEN_ROUTERS for route in router.routes)]
    app.user_middleware.append(
        Middleware(
            AccessGuard,
            access=access,
            open_routes=open_routes,
            max_refusals=limits.max_refusals,
        )
    )
    for router in GUARDED_ROUTERS:
        app.include_router(router, dependencies=SCHEMES)
    for router in OPEN_ROUTERS:
        app.include_router(router)


def _takes_get(route: BaseRoute) -> bool:
    return isinstance(route, APIRoute) and "GET" in (route.methods or ())


def cors_middleware(origins: Sequence[str], pattern: str | None) -> list[Middleware]:
    """Return what lets only pages of these origins call; with none given, pages of localhost."""
    if not origins and pattern is None:
        pattern = LOCALHOST
    return [Middleware(OriginGuard, origins=origins, pattern=pattern)]


def _shorten_refusal(app: FastAPI) -> None:
    """Let whoever runs the lifespan be told in a sentence that the server cannot start.

    Starlette sends a traceback, and uvicorn logs that.
    """
    live = app.router.lifespan

    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_sentence(message: Message) -> None:
            refusal = sys.exception()
            if message["type"] == "lifespan.startup.failed" and isinstance(refusal, StoreError):
                message["message"] = str(refusal)
            await send(message)

        await live(scope, receive, send_sentence)

    app.router.lifespan = lifespan  # type: ignore[method-assign]  # Starlette has no other way
