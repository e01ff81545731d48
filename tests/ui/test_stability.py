"""Nothing jumps while a page is loaded, or while a run goes on."""

import httpx
import pytest
from playwright.sync_api import expect

from tests.ui.pages import Ui

OBSERVE = """
window.shifts = [];
new PerformanceObserver((list) => {
    const untouched = list.getEntries().filter((entry) => !entry.hadRecentInput);
    window.shifts.push(...untouched.map((entry) => entry.value));
}).observe({ type: "layout-shift", buffered: true });
"""
HARDLY_SEEN = 0.02  # of Cumulative Layout Shift, which calls anything below 0.1 good
PAGES = [
    "workflows",
    "workflows/approval",
    "runs",
    "runs/still-done",
    "runs/still-failed",
    "runs/still-waiting",
    "questions",
]


@pytest.fixture(scope="module", autouse=True)
def _runs(url: str) -> None:
    """Leave a run of each kind."""
    for workflow, handler_id, fields in [
        ("flaky", "still-failed", {"failures": 3}),
        ("agent", "still-asking", {}),
        ("conversation", "still-talking", {}),
        ("approval", "still-waiting", {"purpose": "A train", "amount": 2}),
        ("pipeline", "still-done", {}),
    ]:
        body = {"handler_id": handler_id, "start_event": fields}
        httpx.post(f"{url}/workflows/{workflow}/run-nowait", json=body)


def shift_of(ui: Ui) -> float:
    """Return by how much things moved that nobody had touched."""
    expect(ui.page.locator("main .loading")).to_have_count(0)
    ui.page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    shift: float = ui.page.evaluate("shifts.reduce((sum, shift) => sum + shift, 0)")
    return shift


@pytest.mark.parametrize("path", PAGES)
def test_a_page_keeps_its_places_while_it_loads(ui: Ui, path: str) -> None:
    ui.page.add_init_script(OBSERVE)
    ui.open(*path.split("/"))
    expect(
        ui.page.locator(".graph-frame svg, table.runs, .cards svg, .question").first
    ).to_be_visible()
    assert shift_of(ui) < HARDLY_SEEN


def test_a_run_keeps_its_places_from_its_begin_to_its_end(ui: Ui) -> None:
    ui.page.add_init_script(OBSERVE)
    ui.start("tokens", delay="0.02")
    ui.expect_status("completed")
    expect(ui.panel("Result")).to_contain_text("tokens")
    assert shift_of(ui) < HARDLY_SEEN
