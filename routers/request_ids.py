"""The id of a request: taken from the client or made, told in the answer, and in every log line.

A fault of ours is answered here, where its id is still known to the log and to the answer.
"""

import re
import secrets

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from routers.problems import answer_unexpected_error

HEADER = b"x-request-id"
ALLOWED = re.compile(rb"[A-Za-z0-9._~-]{1,128}")


class RequestIds:
    """Gives each request an id; what a client sends is taken where it is plain."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its id, and answer where that fails."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        current = given if ALLOWED.fullmatch(given) else secrets.token_hex(8).encode()

        begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message["headers"], (HEADER, current)]
            await send(message)

        tokens = bind_contextvars(request_id=current.decode())
        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            if begun:
                raise
            answer = await answer_unexpected_error(Request(scope), error)
            await answer(scope, receive, send_with_id)
        finally:
            reset_contextvars(**tokens)
