"""The guard of origins: an `Origin` that is not allowed is refused before anything is done.

CORS alone keeps a page from reading answers; a simple request, such as a form's, would still be
carried out.
"""

import re
from collections.abc import Sequence

from fastapi.middleware.cors import CORSMiddleware
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from workflow_server.app.errors import OriginNotAllowed
from workflow_server.routers.problems import problem_response

LOCALHOST = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"


class OriginGuard:
    """Lets through requests of no page, of this server's own pages, and of allowed origins.

    Pages learn what is allowed from the headers of CORS.
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str], pattern: str | None) -> None:
        self._app = app
        self._cors = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_origin_regex=pattern,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
        self._origins = frozenset(origins)
        self._pattern = re.compile(pattern) if pattern else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 for a foreign page, else pass the request on."""
        if scope["type"] != "http" or all(name != b"origin" for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        # A browser sends one; with more, others may have looked at another one.
        host = headers.get("host")
        if all(self._allows(origin, host) for origin in headers.getlist("origin")):
            await self._cors(scope, receive, send)
            return
        refusal = problem_response(
            OriginNotAllowed.status,
            code=OriginNotAllowed.code,
            title=OriginNotAllowed.title,
            detail="Pages of this origin may not call the service; the operator can allow them.",
        )
        await refusal(scope, receive, send)

    def _allows(self, origin: str, host: str | None) -> bool:
        if "*" in self._origins or origin in self._origins:
            return True
        if self._pattern is not None and self._pattern.fullmatch(origin):
            return True
        return host == origin.partition("://")[2]
