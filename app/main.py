"""The ASGI application: routers, middleware, errors and the OpenAPI document, put together."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from pydantic.json_schema import models_json_schema
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from workflow_server.app.access import Access
from workflow_server.app.catalog import Catalog
from workflow_server.app.settings import Limits, ServiceSettings
from workflow_server.routers import events, handlers, health, metrics, runs, ui, workflows
from workflow_server.routers.access import REFUSALS, SCHEMES, AccessGuard
from workflow_server.routers.bodies import BodyLimit
from workflow_server.routers.client_limits import ClientLimits
from workflow_server.routers.dependencies import Services
from workflow_server.routers.headers import SecureHeaders
from workflow_server.routers.http_rules import HttpRules
from workflow_server.routers.origins import LOCALHOST, OriginGuard
from workflow_server.routers.problems import add_problem_handlers
from workflow_server.routers.request_ids import RequestIds
from workflow_server.routers.root_paths import RootPath
from workflow_server.schemas.problems import Problem

GUARDED_ROUTERS = (
    runs.router,
    workflows.router,
    handlers.router,
    events.router,
    metrics.router,
)
OPEN_ROUTERS = (health.router, ui.router)  # to everybody, also where access is restricted
ROUTERS = (*GUARDED_ROUTERS, *OPEN_ROUTERS)
UNTRACED = ("/health", "/livez", "/readyz", "/metrics")
API_VERSION = "1"  # not the server's, which an open page need not tell
DESCRIPTION = """\
Serves [LlamaIndex Workflows](https://pypi.org/project/llama-index-workflows/): start runs, follow
their events, answer their questions, list, inspect and cancel them.

Errors are `application/problem+json` (RFC 9457): `detail` says what was wrong and what would be
right, `code` is for programs.
"""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    services: Services,
    *,
    lifespan: Lifespan,
    middleware: Sequence[Middleware],
    settings: ServiceSettings,
) -> FastAPI:
    """Return the application of a server; nothing is started."""
    root_path = settings.root_path
    app = FastAPIOffline(
        title="Workflow server",
        version=API_VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        middleware=[
            *([Middleware(RootPath, root_path=root_path)] if root_path else []),
            Middleware(SecureHeaders),
            Middleware(RequestIds, metrics=services.lifecycle.metrics),
            Middleware(HttpRules),
            *middleware,
            Middleware(BodyLimit, limit=settings.max_body_size),
        ],
        # A redirect would lead to whatever host the client names.
        redirect_slashes=False,
        swagger_ui_parameters={"defaultModelsExpandDepth": 0},  # there are many, so folded
        telemetry=_telemetry(root_path),
    )
    app.state.services = services
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
    _shape_openapi(app, services.catalog)
    return app


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
        # time, and looks each request up twice.
        app.router.routes += [route for router in ROUTERS for route in router.routes]
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
        app.include_router(router, dependencies=SCHEMES, responses=REFUSALS)
    for router in OPEN_ROUTERS:
        app.include_router(router)


def _takes_get(route: BaseRoute) -> bool:
    return isinstance(route, APIRoute) and "GET" in (route.methods or ())


def cors_middleware(origins: Sequence[str], pattern: str | None) -> list[Middleware]:
    """Return what lets only pages of these origins call; with none given, pages of localhost."""
    if not origins and pattern is None:
        pattern = LOCALHOST
    return [Middleware(OriginGuard, origins=origins, pattern=pattern)]


def _shape_openapi(app: FastAPI, catalog: Catalog) -> None:
    """Let the document say what the service does, and what each workflow takes and gives."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            # Here, for most servers are never asked for the document.
            from workflow_server.routers.typed_operations import add_typed_operations

            document = _shaped(generate())
            add_typed_operations(document, catalog)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _drop_null(schema: dict[str, Any]) -> None:
    """Take null out of a parameter's types: it is left out, for a URL cannot say null."""
    types = [member for member in schema.get("anyOf", ()) if member != {"type": "null"}]
    if len(types) > 1:
        schema["anyOf"] = types
    elif types:
        del schema["anyOf"]
        schema.update(types[0])


def _shaped(document: dict[str, Any]) -> dict[str, Any]:
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            for parameter in operation.get("parameters", ()):
                _drop_null(parameter["schema"])
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    _, problem = models_json_schema(
        [(Problem, "serialization")], ref_template="#/components/schemas/{model}"
    )
    schemas.update(problem["$defs"])
    return document
