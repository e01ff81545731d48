"""The ASGI application: routers, middleware, errors and the OpenAPI document, put together."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from pydantic.json_schema import models_json_schema
from starlette.middleware import Middleware

from routers import events, handlers, health, ui, workflows
from routers.bodies import BodyLimit
from routers.dependencies import Services
from routers.origins import LOCALHOST, OriginGuard
from routers.problems import add_problem_handlers
from schemas.problems import Problem

ROUTERS = (workflows.router, handlers.router, events.router, health.router, ui.router)
DISTRIBUTION = "workflow-server"
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
    max_body_size: int,
    root_path: str,
) -> FastAPI:
    """Return the application of a server; nothing is started."""
    app = FastAPIOffline(
        title="Workflow server",
        version=version(DISTRIBUTION),
        description=DESCRIPTION,
        lifespan=lifespan,
        middleware=[*middleware, Middleware(BodyLimit, limit=max_body_size)],
        root_path=root_path,
        generate_unique_id_function=_operation_id,
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    app.state.services = services
    for router in ROUTERS:
        app.include_router(router)
    add_problem_handlers(app)
    _shape_openapi(app)
    return app


def cors_middleware(origins: Sequence[str], pattern: str | None) -> list[Middleware]:
    """Return what lets only pages of these origins call; with none given, pages of localhost."""
    if not origins and pattern is None:
        pattern = LOCALHOST
    return [Middleware(OriginGuard, origins=origins, pattern=pattern)]


def _operation_id(route: APIRoute) -> str:
    """Return the route's function name, which generated clients make their methods' names of."""
    return route.name


def _shape_openapi(app: FastAPI) -> None:
    """Let the document say what the service does: 400 for malformed requests, and problems."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _shaped(generate())
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
