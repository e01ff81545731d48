"""The guard of origins: an `Origin` that is not allowed is refused before anything is done.

CORS alone keeps a page from reading answers; a simple request, such as a form's, would still be
carried out.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from fastapi.middleware.cors import CORSMiddleware
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from workflow_server.app.errors import OriginNotAllowed
from workflow_server.app.origin_patterns import MAX_ORIGIN, Fits, compile_origin_pattern
from workflow_server.routers.dependencies import is_from_elsewhere
from workflow_server.routers.problems import problem_response

MARKS = frozenset({b"origin", b"sec-fetch-site"})  # headers of what a page has caused
LOCALHOST = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"


class OriginGuard:
    """Lets through requests of no page, of this server's own pages, and of allowed origins.

    Pages learn what is allowed from the headers of CORS. A browser that sends no `Origin`, as with
    images and links, says in `Sec-Fetch-Site` that the page is of another origin: then it may open
    a page of ours in a window, and nothing else.
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str], pattern: str | None) -> None:
        self._app = app
        self._fits = _find_rule(pattern)
        self._cors = _Cors(
            app,
            self._is_given,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
        )
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 for a foreign page, else pass the request on."""
        if scope["type"] != "http" or MARKS.isdisjoint(name for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if "origin" not in headers and self._lets_in(scope["method"], headers):
            await self._app(scope, receive, send)
            return
        # A browser sends one; with more, others may have looked at another one.
        host = headers.get("host")
        origins = headers.getlist("origin")
        if origins and all(self._allows(origin, host) for origin in origins):
            await self._cors(scope, receive, send)
            return
        refusal = problem_response(
            OriginNotAllowed.status,
            code=OriginNotAllowed.code,
            title=OriginNotAllowed.title,
            detail="Pages of this origin may not call the service; the operator can allow them.",
        )
        await refusal(scope, receive, send)

    def _lets_in(self, method: str, headers: Headers) -> bool:
        """Return whether a request without an `Origin` may pass."""
        if "*" in self._origins or not is_from_elsewhere(headers):
            return True
        mode, destination = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
        return method in ("GET", "HEAD") and (mode, destination) == ("navigate", "document")

    def _allows(self, origin: str, host: str | None) -> bool:
        return self._is_given(origin) or host == origin.partition("://")[2]

    def _is_given(self, origin: str) -> bool:
        """Return whether an origin is among those that may call, or fits their pattern."""
        if "*" in self._origins or origin in self._origins:
            return True
        return self._fits is not None and len(origin) <= MAX_ORIGIN and bool(self._fits(origin))


def _find_rule(pattern: str | None) -> Fits | None:
    if pattern is None:
        return None
    # Ours needs no other engine.
    return (
        re.compile(pattern).fullmatch if pattern == LOCALHOST else compile_origin_pattern(pattern)
    )


class _Cors(CORSMiddleware):
    """The framework's headers of CORS, for origins that the guard knows."""

    def __init__(self, app: ASGIApp, is_given: Callable[[str], bool], **options: Any) -> None:
        super().__init__(app, **options)
        self._is_given = is_given

    def is_allowed_origin(self, origin: str) -> bool:
        return self._is_given(origin)
