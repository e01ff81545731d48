"""Chromium before a live server of the examples and of `flows.py`."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.command import serving
from tests.support.ports import find_port
from tests.ui.pages import PATIENCE, Ui

ROOT = Path(__file__).parents[2]
FLOWS = str(Path(__file__).with_name("flows.py"))
BUILT = ROOT / "routers" / "ui_dist" / "index.html"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Start Chromium; skip without it or a built UI, or fail where everything is required."""
    executable = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    missing = [
        name
        for name, there in {"chromium": executable, BUILT: BUILT.is_file()}.items()
        if not there
    ]
    if missing and os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"{missing[0]} cannot be found")
    if missing:
        pytest.skip(f"{missing[0]} cannot be found")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the examples and the flows of the tests, and yield the server's address."""
    folder = tmp_path_factory.mktemp("ui")
    with serving(folder, str(ROOT / "examples"), FLOWS, "--store", "memory:") as server:
        yield server.url


@pytest.fixture(scope="package", autouse=True)
def _patience() -> Iterator[None]:
    """Wait as long for what shall be seen as for what shall be clicked."""
    expect.set_options(timeout=PATIENCE)
    yield
    expect.set_options(timeout=None)


@pytest.fixture
def api(url: str) -> Iterator[httpx.Client]:
    """Yield a client of the server's API."""
    with httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture
def free_port() -> int:
    """Return a port that nobody listens on."""
    return find_port()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Yield a page on which nothing may go wrong unseen, and from which nothing may leave."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    faults: list[str] = []
    hosts: set[str | None] = set()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda message: faults.append(message.text) if "Content Security" in message.text else None,
    )
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    yield page
    hacked = page.evaluate("window.hacked")
    context.close()
    assert (faults, hacked, hosts - {"127.0.0.1"}) == ([], None, set())


@pytest.fixture
def ui(page: Page, url: str) -> Ui:
    """Return the UI in the page."""
    return Ui(page, url)
