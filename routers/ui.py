"""The web UI: files that are built into the package, and a plain page where they are not."""

import re
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from starlette.exceptions import HTTPException

from workflow_server.routers.negotiation import takes_coding
from workflow_server.routers.preconditions import read_known, unchanged_response

router = APIRouter(include_in_schema=False)

# Resolved, since in a clone this package is a link.
BUILT = Path(__file__).resolve().with_name("ui_dist")
ASSET = re.compile(r"(?=.{1,255}$)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
REVALIDATED = "no-cache"
FOR_EVER = "public, max-age=31536000, immutable"
NOT_BUILT = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Workflow server</title>
<h1>The web UI is not built</h1>
<p>The server works: see the <a href="docs">API pages</a>. The server's first lines
say how to get the web UI.</p>
</html>
"""


def find_remedy() -> str | None:
    """Return what the operator does to get the web UI, or None where it is built."""
    if (BUILT / "index.html").is_file():
        return None
    root = BUILT.parents[1]
    if (root / "ui" / "package.json").is_file():
        return f"install Node.js 20.19 or newer, and run `make ui` in {root}"
    return "install Node.js 20.19 or newer, and workflow-server from its source again"


@router.get("/")
def get_page(request: Request) -> Response:
    """Return the page of the web UI."""
    page = BUILT / "index.html"
    if not page.is_file():
        return HTMLResponse(NOT_BUILT, headers={**SECURITY, "Cache-Control": REVALIDATED})
    return _send(request, page, media_type="text/html", caching=REVALIDATED)


@router.get("/assets/{name}")
def get_asset(name: str, request: Request) -> Response:
    """Return a file that the page asks for; its name changes with its content."""
    asset = BUILT / "assets" / name
    media_type = MEDIA_TYPES.get(asset.suffix)
    if media_type is None or not ASSET.fullmatch(name) or not asset.is_file():
        raise HTTPException(404)
    return _send(request, asset, media_type=media_type, caching=FOR_EVER)


def _send(request: Request, file: Path, *, media_type: str, caching: str) -> Response:
    """Return a file, as it was compressed when it was built where the client takes that."""
    headers = {**SECURITY, "Cache-Control": caching, "Vary": "Accept-Encoding"}
    compressed = file.with_name(f"{file.name}.gz")
    if takes_coding(request.headers.get("accept-encoding", ""), "gzip") and compressed.is_file():
        file, headers["Content-Encoding"] = compressed, "gzip"
    response = FileResponse(file, media_type=media_type, headers=headers, stat_result=file.stat())
    if read_known(request).has(response.headers["etag"]):
        return unchanged_response(response.headers)
    return response
