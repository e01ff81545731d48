"""The limit on bodies: one that is larger is refused before it is read whole.

FastAPI's own `max_body_size` answers in plain text where the length is told in advance.
"""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Lets no route read more than `limit` bytes, by the length that is told or as they come.

    No route reads the body of a GET; who waits there for the client to hang up keeps none of it.
    """

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count what is read of its body."""
        if scope["type"] == "http" and scope["method"] != "GET":
            receive = self._counted(receive, Headers(scope=scope).get("content-length", ""))
        await self._app(scope, receive, send)

    def _counted(self, receive: Receive, length: str) -> Receive:
        read = 0

        async def receive_counted() -> Message:
            nonlocal read
            self._check(int(length) if length.isdecimal() else 0)
            message = await receive()
            read += len(message.get("body", b""))
            self._check(read)
            return message

        return receive_counted

    def _check(self, size: int) -> None:
        if size > self._limit:
            # FastAPI passes on no other exception that is raised while it reads a body.
            raise HTTPException(413)
