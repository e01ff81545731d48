"""The files of the API pages, which ask nobody else for anything."""

from pathlib import Path

import fastapi_offline
from fastapi import FastAPI, Response
from fastapi.staticfiles import StaticFiles
from starlette.responses import FileResponse
from starlette.routing import Mount
from starlette.types import Scope

FILES = Path(fastapi_offline.__file__).parent / "static"
REDOC = "redoc.standalone.js"
LOGO, NOTHING = b"https://cdn.redoc.ly/redoc/logo-mini.svg", b"data:,"  # ReDoc then leaves it out
KEPT = "etag", "last-modified"  # header fields of the file


class PageFiles(StaticFiles):
    """The files as they are installed, but ReDoc without its maker's logo from elsewhere."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the answer for a file."""
        answer = await super().get_response(path, scope)
        if path != REDOC or not isinstance(answer, FileResponse):
            return answer
        script = (FILES / REDOC).read_bytes().replace(LOGO, NOTHING)
        headers = {name: answer.headers[name] for name in KEPT}
        return Response(script, headers=headers, media_type="text/javascript")


def serve_page_files(app: FastAPI) -> None:
    """Let the API pages of an application have their files from here."""
    mounted = next(route for route in app.routes if isinstance(route, Mount))
    mounted.app = PageFiles(directory=FILES)
