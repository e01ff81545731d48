"""Limits on one client: open event streams, and requests a second.

A client is known by its credential, where access is restricted, and else by its address. Behind a
proxy that does not say whom it speaks for, all clients have the proxy's address.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence

from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from workflow_server.app.access import Principal
from workflow_server.app.access.buckets import Buckets
from workflow_server.app.errors import TooManyRequests, TooManyStreams
from workflow_server.app.settings import Limits
from workflow_server.routers.dependencies import read_address
from workflow_server.routers.heads import HEAD
from workflow_server.routers.problems import answer_service_error


class ClientLimits:
    """Refuses the streams and the requests of a client that are too many."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        streams: Sequence[BaseRoute],
        probes: Sequence[BaseRoute],
    ) -> None:
        """`streams` are the routes that stream, and `probes` those without a rate limit."""
        self._app = app
        self._limits = limits
        self._stream_routes = streams
        self._probe_routes = probes
        self._buckets = Buckets(limits.rate_limit, limits.rate_burst) if limits.rate_limit else None
        self._streams: Counter[str] = Counter()
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 429, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            if self._buckets is not None and not _is_one_of(self._probe_routes, scope):
                self._buckets.take(_client_of(scope), asyncio.get_running_loop().time())
            if scope["method"] == "GET" and _is_one_of(self._stream_routes, scope):
                await self._stream(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        except (TooManyRequests, TooManyStreams) as error:
            answer = await answer_service_error(Request(scope), error)
            await answer(scope, receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = _client_of(scope)
        if self._open >= self._limits.max_streams:
            raise TooManyStreams(
                f"{self._open} event streams are open, which is as many as may; try again later."
            )
        if self._streams[client] >= self._limits.max_streams_per_client:
            raise TooManyStreams(
                f"The client has {self._streams[client]} event streams open, which is as many as"
                " it may; close one of them first."
            )
        if HEAD in scope:
            await self._app(scope, receive, send)
            return
        self._open += 1
        self._streams[client] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= 1
            self._streams[client] -= 1
            if not self._streams[client]:
                del self._streams[client]


def _is_one_of(routes: Sequence[BaseRoute], scope: Scope) -> bool:
    return any(route.matches(scope)[0] is Match.FULL for route in routes)


def _client_of(scope: Scope) -> str:
    """Return by what a client is known."""
    principal: Principal | None = scope.get("principal")
    if principal is not None:
        return f"{principal.tenant}/{principal.name}"
    return read_address(scope)
