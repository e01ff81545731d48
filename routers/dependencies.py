"""Dependencies of routes: the registry, the catalog, and JSON bodies however they are labelled."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from workflow_server.app.access import ANYONE, Access, Principal
from workflow_server.app.access import Scope as AccessScope
from workflow_server.app.catalog import Catalog
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.errors import Forbidden
from workflow_server.app.handlers.paging import (
    LARGE_ANSWERS,
    LARGE_PAGES,
    RECORDS_AT_ONCE,
    TenantSlots,
)
from workflow_server.app.handlers.registry import HandlerRegistry
from workflow_server.app.http_errors import UnsupportedCoding
from workflow_server.app.json_size import LARGE, building_values, has_more_values
from workflow_server.app.lifecycle import Lifecycle
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.routers.responses import View
from workflow_server.schemas.names import Name
from workflow_server.schemas.records import HandlerKey

ELSEWHERE = ("cross-site", "same-site")  # values of Sec-Fetch-Site
Confirm = Callable[[], Awaitable[bool]]


@dataclass(frozen=True)
class Services:
    """The parts that all requests of one server share."""

    lifecycle: Lifecycle
    catalog: Catalog
    heartbeat: float | None
    ensure_started: Callable[[], Coroutine[Any, Any, None]]
    max_body_values: int
    access: Access | None = None
    large_answers: TenantSlots = field(default_factory=partial(TenantSlots, LARGE_ANSWERS))
    large_pages: TenantSlots = field(default_factory=partial(TenantSlots, LARGE_PAGES))
    record_reads: TenantSlots = field(default_factory=partial(TenantSlots, RECORDS_AT_ONCE))


def make_view(services: Services) -> View:
    """Return what answers say beside the records of runs."""
    return View(services.catalog, services.lifecycle.store_clock)


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


async def get_view(request: Request) -> View:
    """Return what answers say beside the records of runs."""
    return make_view(await get_services(request))


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


async def get_sender(request: Request) -> str | None:
    """Return the name of the caller's credential; None where access is not restricted."""
    services: Services = request.app.state.services
    return get_principal(request).name if services.access is not None else None


async def may_move_position(request: Request) -> bool:
    """Return whether the caller's reading may move a run's shared position.

    It may not where the credential may only read, nor for a link on a page of another origin:
    a GET by them changes nothing.
    """
    if is_from_elsewhere(request.headers) and "origin" not in request.headers:
        return False
    return AccessScope.RUN in get_principal(request).scopes


def is_from_elsewhere(headers: Headers) -> bool:
    """Return whether a browser says that a page of another origin has caused the request.

    Such pages are of other sites or of other origins of one's own (Fetch Metadata, W3C).
    """
    return any(site in ELSEWHERE for site in headers.getlist("sec-fetch-site"))


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
ViewDep = Annotated[View, Depends(get_view)]
CatalogDep = Annotated[Catalog, Depends(get_catalog)]
MetricsDep = Annotated[Metrics, Depends(get_metrics)]
WorkflowDep = Annotated[ServedWorkflow, Depends(get_workflow)]
HandlerKeyDep = Annotated[HandlerKey, Depends(get_handler_key)]
TenantDep = Annotated[str, Depends(get_tenant)]
SenderDep = Annotated[str | None, Depends(get_sender)]
PurgeDep = Annotated[bool, Depends(read_purge)]
MayMovePositionDep = Annotated[bool, Depends(may_move_position)]
ConfirmDep = Annotated[Confirm | None, Depends(get_confirm)]
RunId = Annotated[
    Name | None,
    Query(description="An earlier run of the handler; without it the current one."),
]
CurrentRunId = Annotated[
    Name | None,
    Query(description="The run that is meant; 409 where it is not the handler's current run."),
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
    """A request whose body is strict JSON: UTF-8, no lone surrogates, no NaN, 200 levels deep.

    It has no more values than the server takes, which are counted before any is built.
    """

    async def body(self) -> bytes:
        try:
            return await super().body()
        except ClientDisconnect as error:
            raise HTTPException(400, "The client has hung up in its body.") from error

    async def check_values(self, text: bytes | str) -> None:
        """Answer 413 for JSON of too many values, also for a string in the body that holds it."""
        services: Services = self.app.state.services
        limit = services.max_body_values
        if len(text) <= limit:
            return
        encoded = text.encode() if isinstance(text, str) else text
        if await has_more_values(encoded, limit):
            # FastAPI passes on no other exception that is raised while it reads a body.
            raise HTTPException(413, f"The body has more than {limit} JSON values.")

    async def json(self) -> Any:
        body = await self.body()
        await self.check_values(body)
        try:
            with building_values(body):
                content = from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise HTTPException(400, f"The body is not JSON: {error}.") from error
        if content is None:
            # FastAPI would take it for an absent body.
            raise HTTPException(400, "The body is null; it must be an object.")
        if len(body) >= LARGE:
            await asyncio.sleep(0)  # to look at the values takes as long as to build them
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
