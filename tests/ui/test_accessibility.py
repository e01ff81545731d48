"""WCAG 2.1 AA, as far as axe can tell, and what the keyboard reaches."""

from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from tests.ui.pages import Ui

PAGES = [
    "workflows",
    "workflows/orders",
    "workflows/approval",
    "runs",
    "runs/axe-failed",
    "runs/axe-waiting",
    "runs/axe-done",
    "runs/nobody",
    "questions",
    "nowhere",
]


@pytest.fixture(scope="module", autouse=True)
def _runs(url: str) -> None:
    """Leave a run of each kind."""
    runs = {
        "flaky": ("axe-failed", {"failures": 3}),
        "approval": ("axe-waiting", {"purpose": "A train", "amount": 2}),
        "pipeline": ("axe-done", {}),
    }
    for workflow, (handler_id, fields) in runs.items():
        body = {"handler_id": handler_id, "start_event": fields}
        httpx.post(f"{url}/workflows/{workflow}/run-nowait", json=body)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing(ui: Ui, path: str, scheme: Any) -> None:
    ui.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    ui.page.goto(f"{ui.url}/#/{path}")
    expect(ui.page.locator("main h1, main .empty-title").first).to_be_visible()
    expect(ui.page.locator("main .loading")).to_have_count(0)
    assert ui.find_violations() == []


def test_axe_finds_nothing_in_what_unfolds(ui: Ui) -> None:
    ui.page.emulate_media(reduced_motion="reduce")
    ui.open("runs", "axe-done")
    ui.page.get_by_label("internal events").check()
    ui.page.locator(".event-row").first.click()
    ui.page.locator(".lane-head").first.click()
    ui.node("split").click()
    ui.press("Purge")
    assert ui.find_violations() == []


def test_axe_finds_nothing_in_a_form_with_faults(ui: Ui) -> None:
    ui.page.emulate_media(reduced_motion="reduce")
    ui.open("workflows", "orders")
    ui.press("Add to tags")
    ui.press("Run")
    expect(ui.page.locator(".fault").first).to_be_visible()
    assert ui.find_violations() == []


def test_a_run_is_started_with_the_keyboard_alone(ui: Ui) -> None:
    ui.open("workflows", "greeting")
    ui.page.keyboard.press("Tab")
    expect(ui.page.get_by_text("Skip to the page")).to_be_focused()
    ui.field("name").focus()
    ui.page.keyboard.type("Ada")
    ui.page.keyboard.press("Enter")
    expect(ui.panel("Result")).to_contain_text("Hello, Ada!")


@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_a_phone(ui: Ui, path: str) -> None:
    ui.page.set_viewport_size({"width": 390, "height": 844})
    ui.page.goto(f"{ui.url}/#/{path}")
    expect(ui.page.locator("main h1, main .empty-title").first).to_be_visible()
    expect(ui.page.locator("main .loading")).to_have_count(0)
    assert ui.width <= 390


def test_the_colours_can_be_chosen_and_are_remembered(ui: Ui) -> None:
    ui.open("workflows")
    ui.page.get_by_role("button", name="Change to light").click()
    ui.page.get_by_role("button", name="Change to dark").click()
    ui.page.reload()
    expect(ui.page.locator("html")).to_have_attribute("data-theme", "dark")
