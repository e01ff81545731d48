"""How the web UI is served: compressed, cached by hash, under a strict policy, below any path."""

import gzip
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

import workflow_server.routers.ui
from tests.support.command import write
from tests.support.live import make_client, serving_app
from workflow_server.app.server import WorkflowServer

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SCRIPT = b"console.log(1)" * 100
COMPRESSED = gzip.compress(SCRIPT)


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let a UI of one script and its compressed twin stand for the real one."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<p>The page")
    (tmp_path / "assets" / "index-a1.js").write_bytes(SCRIPT)
    (tmp_path / "assets" / "index-a1.js.gz").write_bytes(COMPRESSED)
    (tmp_path / "secret.js").write_text("no asset")
    monkeypatch.setattr(workflow_server.routers.ui, "BUILT", tmp_path)
    return tmp_path


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a server of nothing."""
    async with (
        serving_app(WorkflowServer().app) as url,
        make_client(url) as client,
    ):
        yield client


@pytest.mark.usefixtures("built")
async def test_the_page_is_asked_for_each_time(client: httpx.AsyncClient) -> None:
    response = await client.get("/")
    kept = {name: response.headers[name] for name in ("cache-control", "content-type")}
    assert response.text == "<p>The page"
    assert kept == {"cache-control": "no-cache", "content-type": "text/html; charset=utf-8"}


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("path", ["/", "/assets/index-a1.js"])
async def test_every_answer_carries_the_policy(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.headers["content-security-policy"] == POLICY
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, br", "gzip"),
        ("br, *;q=0.1", "gzip"),
        ("gzip;q=0", None),
        ("identity", None),
        ("gzip;q=0, *", None),
        ("*;q=0, gzip", "gzip"),
        ("gzip;q=0.001", "gzip"),
    ],
)
async def test_an_asset_is_kept_for_ever_and_sent_compressed_to_who_takes_it(
    client: httpx.AsyncClient, accepted: str, encoding: str | None
) -> None:
    headers = {"accept-encoding": accepted}
    async with client.stream("GET", "/assets/index-a1.js", headers=headers) as response:
        raw = b"".join([chunk async for chunk in response.aiter_raw()])
    assert (response.headers.get("content-encoding"), raw) == (
        encoding,
        COMPRESSED if encoding else SCRIPT,
    )
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert response.headers["vary"] == "Accept-Encoding"


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(
    "name", ["..%2fsecret.js", "..%5csecret.js", "index-a1.js.gz", "none-1.js", "%00.js", "."]
)
async def test_nothing_but_assets_is_found(client: httpx.AsyncClient, name: str) -> None:
    response = await client.get(f"/assets/{name}")
    assert response.status_code == 404


async def test_where_the_ui_is_not_built_the_page_says_so(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow_server.routers.ui, "BUILT", tmp_path)
    response = await client.get("/")
    assert (response.status_code, "is not built" in response.text) == (200, True)
    assert str(tmp_path) not in response.text


def test_a_built_ui_needs_no_remedy(built: Path) -> None:
    assert workflow_server.routers.ui.find_remedy() is None


def test_in_a_clone_the_remedy_is_to_build_the_ui(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "ui" / "package.json")
    monkeypatch.setattr(workflow_server.routers.ui, "BUILT", tmp_path / "routers" / "ui_dist")
    assert workflow_server.routers.ui.find_remedy() == (
        f"install Node.js 20.19 or newer, and run `make ui` in {tmp_path}"
    )


def test_without_a_clone_the_remedy_is_to_install_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow_server.routers.ui, "BUILT", tmp_path / "routers" / "ui_dist")
    assert workflow_server.routers.ui.find_remedy() == (
        "install Node.js 20.19 or newer, and workflow-server from its source again"
    )


async def test_the_built_page_names_its_files_relative_to_itself() -> None:
    page = workflow_server.routers.ui.BUILT / "index.html"
    if not page.is_file():
        pytest.skip("The UI is not built")
    names = re.findall(r'(?:src|href)="([^"]*)"', page.read_text())
    assert {name.split("/")[0] for name in names} <= {".", "docs"}


@pytest.mark.usefixtures("built")
async def test_the_page_is_served_where_the_app_is_mounted() -> None:
    outer = FastAPI()
    outer.mount("/wf", WorkflowServer().app)
    async with (
        serving_app(outer) as url,
        make_client(url) as client,
    ):
        pages = [await client.get(path) for path in ("/wf/", "/wf/assets/index-a1.js")]
    assert [page.status_code for page in pages] == [200, 200]


async def test_the_page_that_a_browser_has_is_304(built: Path, client: httpx.AsyncClient) -> None:
    sent = await client.get("/")
    known = {"If-None-Match": sent.headers["etag"]}
    assert (await client.get("/", headers=known)).status_code == 304
    (built / "index.html").write_text("<p>Another page")
    assert (await client.get("/", headers=known)).text == "<p>Another page"
