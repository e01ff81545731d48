"""Dependencies of routes: the registry, the catalog, and JSON bodies however they are labelled."""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from workflow_server.app.access import ANYONE, Access, Principal
from workflow_server.app.access import Scope as AccessScope
from workflow_server.app.catalog import Catalog
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.errors import Forbidden, UnsupportedCoding
from workflow_server.app.handlers.registry import HandlerRegistry
from workflow_server.app.lifecycle import Lifecycle
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.schemas.names import Name
from workflow_server.schemas.records import HandlerKey

Confirm = Callable[[], Awaitable[bool]]


@dataclass(frozen=True)
class Services:
    """The parts that all requests of one server share."""

    lifecycle: Lifecycle
    catalog: Catalog
    heartbeat: float | None
    ensure_started: Callable[[], Coroutine[Any, Any, None]]
    access: Access | None = None


async def get_services(request: Request) -> Services:
    """Return the services, started: an app that is mounted has no lifespan to start them."""
    services: Services = request.app.state.services
    await services.ensure_started()
    return services


def get_principal(request: Request) -> Principal:
    """Return the principal of the request, who is anyone where access is not restricted."""
    services: Services = request.app.state.services
    if services.access is None:
        return ANYONE
    # A missing principal is a KeyError: no route that asks for handlers may be an open one.
    principal: Principal = request.scope["principal"]
    return principal


# Each takes the request itself: FastAPI's cost of a dependency grows with those below it.
async def get_registry(request: Request) -> HandlerRegistry:
    """Return the registry of all handlers; a `HandlerKey` or a tenant says whose are meant."""
    return (await get_services(request)).lifecycle.registry


async def get_catalog(request: Request) -> Catalog:
    """Return the registered workflows."""
    return (await get_services(request)).catalog


async def get_metrics(request: Request) -> Metrics:
    """Return the metrics, which count the runs of all tenants and so are for none of them."""
    if get_principal(request).tenant:
        raise Forbidden(
            "The metrics count the runs of all tenants; they take a credential without one."
        )
    return (await get_services(request)).lifecycle.metrics


async def get_workflow(
    name: Annotated[Name, Path(description="The workflow's registered name.")],
    request: Request,
) -> ServedWorkflow:
    """Return the workflow that the path names; `WorkflowNotFound` where there is none."""
    return (await get_services(request)).catalog.find(name)


async def get_handler_key(
    handler_id: Annotated[Name, Path(description="The handler's id.")],
    request: Request,
) -> HandlerKey:
    """Return the key of the handler that the path names, among those of the caller's tenant."""
    return HandlerKey(get_principal(request).tenant, handler_id)


async def get_tenant(request: Request) -> str:
    """Return the tenant for whom the caller speaks, empty where there is none."""
    return get_principal(request).tenant


async def read_purge(
    request: Request,
    purge: Annotated[
        bool, Query(description="Remove every trace of the handler, running or ended.")
    ] = False,
) -> bool:
    """Return whether the handler is to be purged, which takes the scope `admin`."""
    if purge:
        get_principal(request).require(AccessScope.ADMIN)
    return purge


async def get_confirm(request: Request) -> Confirm | None:
    """Return what says whether the caller's credential is still good; None where it needs none."""
    services: Services = request.app.state.services
    if services.access is None:
        return None
    return partial(services.access.confirm, get_principal(request))


ServicesDep = Annotated[Services, Depends(get_services)]
RegistryDep = Annotated[HandlerRegistry, Depends(get_registry)]
CatalogDep = Annotated[Catalog, Depends(get_catalog)]
MetricsDep = Annotated[Metrics, Depends(get_metrics)]
WorkflowDep = Annotated[ServedWorkflow, Depends(get_workflow)]
HandlerKeyDep = Annotated[HandlerKey, Depends(get_handler_key)]
TenantDep = Annotated[str, Depends(get_tenant)]
PurgeDep = Annotated[bool, Depends(read_purge)]
ConfirmDep = Annotated[Confirm | None, Depends(get_confirm)]
RunId = Annotated[
    Name | None,
    Query(description="An earlier run of the handler; without it the current one."),
]


def read_address(scope: Scope) -> str:
    """Return the address of the client, as the server beneath knows it."""
    client = scope.get("client")
    return str(client[0]) if client else ""


# What is taken of each: nothing is ever unpacked, so that no small body becomes a large one.
CODINGS = {b"content-encoding": (b"", b"identity"), b"transfer-encoding": (b"chunked",)}


def refuse_codings(request: Request) -> None:
    """Raise `UnsupportedCoding` for a body that is not sent as it is."""
    for name, value in request.scope["headers"]:
        if name in CODINGS and value.strip().lower() not in CODINGS[name]:
            raise UnsupportedCoding("The body is coded; send it as plain JSON, whole or chunked.")


class JsonRequest(Request):
    """A request whose body is strict JSON: UTF-8, no lone surrogates, no NaN, 200 levels deep."""

    async def body(self) -> bytes:
        try:
            return await super().body()
        except ClientDisconnect as error:
            raise HTTPException(400, "The client has hung up in its body.") from error

    async def json(self) -> Any:
        body = await self.body()
        try:
            content = from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise HTTPException(400, f"The body is not JSON: {error}.") from error
        if content is None:
            # FastAPI would take it for an absent body.
            raise HTTPException(400, "The body is null; it must be an object.")
        return content


class JsonRoute(APIRoute):
    """A route that reads its body as JSON whatever its content type.

    `curl -d` labels every body as a form. Pages of other origins cannot make use of it, since
    their requests are refused by their `Origin`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's handler, given a `JsonRequest`."""
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            refuse_codings(request)
            headers = MutableHeaders(scope=request.scope)
            headers["content-type"] = "application/json"
            return await handle(JsonRequest(request.scope, request.receive))

        return handle_json
