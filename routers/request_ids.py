"""Request ids: every request gets an id, which the answer and the log tell, and a measurement.

A fault of ours is answered here, where its id is still known to the log and to the answer.
"""

import asyncio
import re
import secrets
from time import perf_counter

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workflow_server.app.errors import Draining
from workflow_server.app.telemetry.bound import bind_contextvars, reset_contextvars
from workflow_server.app.telemetry.metrics import Metrics
from workflow_server.routers.problems import answer_unexpected_error, service_problem

HEADER = b"x-request-id"
ALLOWED = re.compile(rb"[A-Za-z0-9._~-]{1,128}")
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
CUT_OFF = "The server stops before it could answer; ask again what became of the request."
OTHER = "other"  # what no route serves, and what nobody has named


class RequestIds:
    """Gives each request an id, a client's own where it is plain, and measures it.

    The time is that until the answer begins: a stream is open for as long as its reader likes.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its id, and answer where that fails."""
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
                answered = True
                message["headers"] = [*message["headers"], (HEADER, current)]
                self._count(scope, message["status"], perf_counter() - began)
            await send(message)

        tokens = bind_contextvars(request_id=current.decode())
        try:
            await self._app(scope, receive, send_with_id)
        except BaseException as error:  # validators and the like are the user's code
            if answered:
                raise
            # Only a server that stops cuts a request off; it has waited for as long as it may.
            is_cut_off = isinstance(error, asyncio.CancelledError) and _is_cancelled()
            if is_cut_off:
                answer = service_problem(Draining(CUT_OFF))
            else:
                answer = await answer_unexpected_error(Request(scope), error)
            await answer(scope, receive, send_with_id)
            if is_cut_off:
                raise
        finally:
            reset_contextvars(**tokens)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        """Count the request under the template of its route; no path or odd method is a label."""
        route = getattr(scope.get("route"), "path", None) or OTHER
        method = scope["method"] if scope["method"] in METHODS else OTHER
        self._metrics.count_request(method, route, status, seconds)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
