"""Pictures of the UI; `make screenshots` writes them to the folder that SCREENSHOTS names."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx
import pytest
from playwright.sync_api import expect

from tests.support.command import serving
from tests.ui.conftest import ROOT
from tests.ui.pages import Ui

TEXT = "\n".join(f"line {number} of a text to count" for number in range(12))
EXPENSE = {"purpose": "Train tickets to the conference", "amount": 240.5}
RUNS = [
    ("greeting", "shot-greeting", {"name": "Ada"}),
    ("tokens", "shot-tokens", {}),
    ("flaky", "shot-failed", {"failures": 3}),
    ("approval", "shot-waiting", EXPENSE),
    ("pipeline", "shot-pipeline", {"text": TEXT, "chunks": 6}),
]
PAGES = {
    "workflows": "workflows",
    "start": "workflows/approval",
    "runs": "runs",
    "run": "runs/shot-pipeline",
    "failed": "runs/shot-failed",
    "waiting": "runs/shot-waiting",
    "questions": "questions",
}
PROVERB = "Nothing leaves the process before the commit that holds it."
SIZES = {1280: 640, 390: 844}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the examples, and nothing else."""
    folder = tmp_path_factory.mktemp("pictures")
    with serving(folder, str(ROOT / "examples"), "--store", "memory:") as server:
        yield server.url


@pytest.fixture(scope="module", autouse=True)
def _runs(url: str) -> None:
    """Leave a run of each kind."""
    for workflow, handler_id, fields in RUNS:
        body = {"handler_id": handler_id, "start_event": fields}
        httpx.post(f"{url}/workflows/{workflow}/run-nowait", json=body).raise_for_status()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder that the pictures are written to."""
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_pictured(
    ui: Ui, folder: Path, name: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    ui.page.set_viewport_size({"width": width, "height": SIZES[width]})
    ui.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    ui.open(*PAGES[name].split("/"))
    save(ui, folder / f"{name}-{width}-{scheme}.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_a_run_is_pictured_while_it_runs(
    ui: Ui, folder: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    ui.page.set_viewport_size({"width": width, "height": SIZES[width]})
    ui.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    ui.start("tokens", text=f"{PROVERB} {PROVERB}", delay="0.3")
    expect(ui.panel("Events")).to_contain_text("commit")
    save(ui, folder / f"watching-{width}-{scheme}.png")


def save(ui: Ui, picture: Path) -> None:
    """Take a picture of the page when it has all that it loads."""
    expect(ui.page.locator("main .loading")).to_have_count(0)
    expect(
        ui.page.locator(".graph-frame svg, table.runs, .cards svg, .question").first
    ).to_be_visible()
    if ui.page.locator(".cards").count():
        ui.page.wait_for_load_state("networkidle")  # a card in view asks for its graph by itself
    # The whole page where it is wide; of a phone what its screen shows.
    ui.page.screenshot(path=picture, full_page="-1280-" in picture.name)
    assert picture.stat().st_size > 5_000
