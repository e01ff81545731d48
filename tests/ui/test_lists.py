"""The list of runs, and the log of events, when there are many."""

import httpx
import pytest
from playwright.sync_api import expect

from tests.ui.pages import Ui

MANY = 10_000


@pytest.fixture(scope="module")
def handler_id(url: str) -> str:
    """Run a workflow that writes ten thousand events, and return its handler's id."""
    body = {"start_event": {"count": MANY}}
    handler = httpx.post(f"{url}/workflows/ticker/run", json=body, timeout=60).json()
    return str(handler["handler_id"])


def test_ten_thousand_events_are_listed_with_few_elements(ui: Ui, handler_id: str) -> None:
    ui.open("runs", handler_id)
    expect(ui.page.get_by_role("button", name="Tick 10,000")).to_be_visible()
    expect(ui.connection()).to_have_attribute("data-connection", "ended")
    box = ui.page.locator(".log-box")
    assert box.locator("li").count() < 60
    box.evaluate("box => { box.scrollTop = box.scrollHeight }")
    expect(box).to_contain_text("StopEvent")
    assert box.locator("li").count() < 60


def test_events_are_filtered_by_type_and_by_text(ui: Ui, handler_id: str) -> None:
    ui.open("runs", handler_id)
    box = ui.page.locator(".log-box")
    ui.page.get_by_label("Search in events").fill('"number":9876}')
    expect(box.locator("li")).to_have_count(1)
    ui.page.get_by_label("Search in events").fill("")
    ui.page.get_by_role("button", name="Tick 10,000").click()
    expect(box.locator("li")).to_have_count(1)
    expect(box).to_contain_text("StopEvent")
    ui.page.get_by_label("internal events").check()
    expect(box).to_contain_text("StepStateChanged")


def test_an_event_unfolds_to_its_json(ui: Ui, handler_id: str) -> None:
    ui.open("runs", handler_id)
    row = ui.page.locator(".event-row").first
    row.click()
    expect(ui.page.get_by_role("group", name="Fields of event 1")).to_contain_text("number: 0")
    row.click()
    expect(ui.page.get_by_role("group", name="Fields of event 1")).to_have_count(0)


def test_runs_are_filtered_and_paged_by_deep_links(ui: Ui, api: httpx.Client) -> None:
    for _ in range(60):
        api.post("/workflows/greeting/run", json={"start_event": {"name": "x"}})
    ui.open("runs", query="?status=completed&workflow=greeting")
    rows = ui.page.locator("table.runs tbody tr")
    expect(rows).to_have_count(50)
    first = rows.first.inner_text()
    ui.page.get_by_role("link", name="Older").click()
    expect(rows.first).not_to_have_text(first)
    ui.page.reload()
    expect(rows.first).to_contain_text("greeting")
    ui.page.get_by_role("link", name="Newest").click()
    expect(rows).to_have_count(50)
    ui.press("failed")
    expect(ui.page).to_have_url(f"{ui.url}/#/runs?status=failed&workflow=greeting")


def test_a_run_appears_in_the_list_while_it_is_shown(ui: Ui, api: httpx.Client) -> None:
    ui.open("runs")
    api.post("/workflows/ticker/run-nowait", json={"handler_id": "appears"})
    expect(ui.page.get_by_role("link", name="appears")).to_be_visible()
