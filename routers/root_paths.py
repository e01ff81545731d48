"""The path under which a proxy serves this server, whether the proxy takes it away or not."""

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """Puts every request below a root path, where it is not there already."""

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self._app = app
        self._root_path = root_path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its path beginning with the root path.

        The root path alone leads to the page below it, whose links are relative.
        """
        if scope["type"] == "http" and self._root_path:
            path = scope["path"]
            if path == self._root_path:
                folder = RedirectResponse(f"{path.rpartition('/')[2]}/")
                await folder(scope, receive, send)
                return
            if not path.startswith(f"{self._root_path}/"):
                path = self._root_path + path
            scope = {**scope, "root_path": self._root_path, "path": path}
        await self._app(scope, receive, send)
