"""HEAD wherever GET is: the same status and headers, without a body (RFC 9110, section 9.3.2)."""

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEAD = "head"


class Heads:
    """Answers HEAD as GET would be answered, and drops the body.

    Whatever is looked at below (routes, open ones, limits, scopes) sees a GET. A route that would
    stream asks `is_head`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, a HEAD as a GET that is marked as one."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        # A copy, since the server beneath looks into its own for whether a body may follow.
        asked = {**scope, "method": "GET", HEAD: True}

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                if "route" in asked:
                    scope["route"] = asked["route"]  # by which the request is counted
                await send(message)
            elif not message.get("more_body", False):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(asked, receive, send_head)


def is_head(request: Request) -> bool:
    """Return whether nothing but the head of the answer will be sent."""
    return HEAD in request.scope
