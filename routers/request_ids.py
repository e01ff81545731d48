"""What every request gets: an id, which is told in the answer and in the log, and a measurement."""

import re
import secrets
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from app.runtime.metrics import Metrics

HEADER = b"x-request-id"
ALLOWED = re.compile(rb"[A-Za-z0-9._~-]{1,128}")
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
OTHER = "other"  # what no route serves, and what nobody has named


class RequestIds:
    """Gives each request an id, a client's own where it is plain, and measures it.

    The time is that until the answer begins: a stream is open for as long as its reader likes.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        current = given if ALLOWED.fullmatch(given) else secrets.token_hex(8).encode()

        answered = False

        async def send_with_id(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (HEADER, current)]
                answered = True
                self._count(scope, message["status"], perf_counter() - began)
            await send(message)

        # Not taken back: the task is the request's own, and what answers an error comes later.
        bind_contextvars(request_id=current.decode())
        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            # Answered further out, with the id but past here; an answer that broke off is counted.
            if not answered:
                self._count(scope, 500, perf_counter() - began)
            raise

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        """Count the request under the template of its route; no path or odd method is a label."""
        route = getattr(scope.get("route"), "path", None) or OTHER
        method = scope["method"] if scope["method"] in METHODS else OTHER
        self._metrics.count_request(method, route, status, seconds)
