"""The path under which a proxy serves this server, whether the proxy takes it away or not."""

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """Puts every request below a root path, where it is not there already."""

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self._app = app
        self._root_path = root_path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its path beginning with the root path."""
        if scope["type"] == "http" and self._root_path:
            path = scope["path"]
            below = path == self._root_path or path.startswith(f"{self._root_path}/")
            path = path if below else self._root_path + path
            scope = {**scope, "root_path": self._root_path, "path": path}
        await self._app(scope, receive, send)
