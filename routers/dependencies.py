"""What routes are given: the registry, the catalog, and JSON bodies however they are labelled."""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from app.access import Access, Principal
from app.catalog import Catalog
from app.engine.served import ServedWorkflow
from app.errors import UnsupportedCoding
from app.handlers.ownership import Handlers
from app.handlers.registry import HandlerRegistry
from schemas.names import Name

Confirm = Callable[[], Awaitable[bool]]


@dataclass(frozen=True)
class Services:
    """What all requests of one server share, and `handlers` as one principal sees them.

    `confirm` says whether the principal's credential is good still; None where it needs none.
    """

    registry: HandlerRegistry
    handlers: Handlers
    catalog: Catalog
    heartbeat: float | None
    ensure_started: Callable[[], Coroutine[Any, Any, None]]
    access: Access | None = None
    confirm: Confirm | None = None


async def get_services(request: Request) -> Services:
    """Return the services, started: an app that is mounted has no lifespan to start them."""
    services: Services = request.app.state.services
    await services.ensure_started()
    return services


async def get_callers_services(request: Request) -> Services:
    """Return the services as the principal of the request sees them."""
    services = await get_services(request)
    if services.access is None:
        return services
    # A missing principal is a KeyError: no route that asks for handlers may be an open one.
    principal: Principal = request.scope["principal"]
    return replace(
        services,
        handlers=Handlers(services.registry, principal),
        confirm=partial(services.access.confirm, principal),
    )


ServicesDep = Annotated[Services, Depends(get_callers_services)]


# Each takes the request itself: FastAPI's cost of a dependency grows with those below it.
async def get_handlers(request: Request) -> Handlers:
    """Return the handlers that are there for the principal of the request."""
    return (await get_callers_services(request)).handlers


async def get_catalog(request: Request) -> Catalog:
    """Return the registered workflows."""
    return (await get_services(request)).catalog


RegistryDep = Annotated[Handlers, Depends(get_handlers)]
CatalogDep = Annotated[Catalog, Depends(get_catalog)]


async def get_workflow(
    name: Annotated[Name, Path(description="The workflow's registered name.")],
    request: Request,
) -> ServedWorkflow:
    """Return the workflow that the path names; `WorkflowNotFound` where there is none."""
    return (await get_services(request)).catalog.find(name)


WorkflowDep = Annotated[ServedWorkflow, Depends(get_workflow)]
HandlerId = Annotated[Name, Path(description="The handler's id.")]
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
