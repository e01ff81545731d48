"""Headers that keep browsers from guessing, framing, telling others and keeping copies.

None says that ranges are taken, since `HttpRules` passes them over.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # Not `no-referrer`: forms of our own pages would then come without their origin.
    (b"referrer-policy", b"same-origin"),
    # For the API pages, whose scripts are inline.
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline';"
        b" img-src 'self' data:; worker-src 'self' blob:; base-uri 'none'; frame-ancestors 'none'",
    ),
)
UNCACHED = (b"cache-control", b"no-store")
UNTRUE = b"accept-ranges"
CACHED_BY = {b"cache-control", b"etag"}


class SecureHeaders:
    """Adds to each answer the headers that it does not have; what has no `ETag` is not kept."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and complete its answer."""

        async def send_completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [header for header in message["headers"] if header[0] != UNTRUE]
                present = {name for name, _ in headers}
                headers += [header for header in ALWAYS if header[0] not in present]
                if CACHED_BY.isdisjoint(present):
                    headers.append(UNCACHED)
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, send_completed)
