"""The guard of access: it refuses a request without a valid credential before it is read.

The guard stands before the routes, since FastAPI reads a body before it solves dependencies.
"""

import asyncio
from collections.abc import Sequence

from fastapi import Security
from fastapi.params import Depends
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from workflow_server.app.access import Access, Principal
from workflow_server.app.access import Scope as AccessScope
from workflow_server.app.access.buckets import Buckets
from workflow_server.app.errors import ServiceError, Unauthenticated
from workflow_server.app.telemetry.logs import get_logger
from workflow_server.routers.dependencies import read_address
from workflow_server.routers.problems import answer_service_error

logger = get_logger(__name__)

API_KEY = "X-API-Key"
REFUSALS_A_SECOND = 1.0  # of one address, in the long run
READING = ("GET", "HEAD")

# They tell the OpenAPI document what the guard asks for.
SCHEMES: Sequence[Depends] = (
    Security(
        HTTPBearer(
            scheme_name="bearer",
            description="An API key, or a token of the identity provider.",
            auto_error=False,
        )
    ),
    Security(
        APIKeyHeader(
            name=API_KEY, scheme_name="api_key", description="An API key.", auto_error=False
        )
    ),
)


class AccessGuard:
    """Lets through who has a credential for what it asks, and anybody to the open routes.

    Everything is guarded that is not open, also what does not exist. An address from which too many
    requests are refused gets 429. A valid credential is let through from there all the same:
    else whoever shares an address with others, such as a proxy's, could lock them out.
    """

    def __init__(
        self, app: ASGIApp, *, access: Access, open_routes: Sequence[BaseRoute], max_refusals: int
    ) -> None:
        self._app = app
        self._access = access
        self._open_routes = open_routes
        self._refusals = Buckets(REFUSALS_A_SECOND, max_refusals) if max_refusals else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, 403, 429 or 503, or pass the request on together with its principal."""
        if scope["type"] == "http" and not self._is_open(scope):
            try:
                scope["principal"] = await self._identify(scope)
            except ServiceError as error:
                answer = await answer_service_error(Request(scope), error)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is Match.FULL for route in self._open_routes)

    async def _identify(self, scope: Scope) -> Principal:
        try:
            principal = await self._access.identify(read_credential(Headers(scope=scope)))
        except Unauthenticated as error:
            address = read_address(scope)
            if self._refusals is not None:
                self._refusals.take(address, asyncio.get_running_loop().time())
            if error.offered:
                logger.info("credential refused", client=address, reason=error.reason)
            raise
        reads = scope["method"] in READING
        principal.require(AccessScope.READ if reads else AccessScope.RUN)
        return principal


def read_credential(headers: Headers) -> str:
    """Return the credential of a request; `Unauthenticated` where there is none, or more."""
    if any(len(headers.getlist(name)) > 1 for name in ("authorization", API_KEY)):
        raise Unauthenticated("The request carries several credentials of a kind; send one.")
    scheme, _, credential = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credential.strip():
        return credential.strip()
    if key := headers.get(API_KEY):
        return key
    raise Unauthenticated(
        "The request carries no credential: send one as `Authorization: Bearer …`, or an API key"
        f" as `{API_KEY}`.",
        offered=False,
    )
