"""Which pages may call: an `Origin` that is not allowed is refused before anything is done.

CORS alone keeps a page from reading answers; a simple request, such as a form's, would still be
carried out.
"""

import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import OriginNotAllowed
from routers.problems import problem_response

LOCALHOST = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"


class OriginGuard:
    """Lets through requests of no page, of this server's own pages, and of allowed origins."""

    def __init__(self, app: ASGIApp, *, origins: Sequence[str], pattern: str | None) -> None:
        self._app = app
        self._origins = frozenset(origins)
        self._pattern = re.compile(pattern) if pattern else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 for a foreign page, else pass the request on."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and not self._allows(origin, headers.get("host", "")):
                refusal = problem_response(
                    OriginNotAllowed.status,
                    code=OriginNotAllowed.code,
                    title=OriginNotAllowed.title,
                    detail="Pages of this origin may not call the service; the operator can"
                    " allow them.",
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _allows(self, origin: str, host: str) -> bool:
        if "*" in self._origins or origin in self._origins:
            return True
        if self._pattern is not None and self._pattern.fullmatch(origin):
            return True
        return origin.partition("://")[2] == host
