"""The list of runs, and the log of events, when there are many."""

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.command import serving
from tests.ui.conftest import FLOWS
from tests.ui.pages import Ui
from workflow_server.schemas.records import Batch, RunRecord, Status
from workflow_server.stores.sqlite import SqliteStore

MANY = 10_000


@pytest.fixture(scope="module")
def handler_id(url: str) -> str:
    """Run a workflow that writes ten thousand events, and return its handler's id."""
    body = {"start_event": {"count": MANY}}
    handler = httpx.post(f"{url}/workflows/ticker/run", json=body, timeout=60).json()
    return str(handler["handler_id"])


@pytest.fixture(scope="module")
def full_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a store of ten thousand handlers, of which every fourth failed."""
    folder = tmp_path_factory.mktemp("full")
    with ThreadPoolExecutor(1) as thread:  # for Playwright's event loop is in this one
        thread.submit(asyncio.run, fill(folder / "runs.db")).result()
    with serving(folder, FLOWS, "--store", "sqlite:///runs.db") as server:
        yield server.url


async def fill(path: Path) -> None:
    store = SqliteStore(path)
    await store.start()
    for first in range(0, MANY, 1_000):
        runs = [make_ended(number) for number in range(first, first + 1_000)]
        await store.commit(Batch(runs={run.run_id: run for run in runs}))
    await store.stop()


def make_ended(number: int) -> RunRecord:
    then = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return RunRecord(
        run_id=f"r{number}",
        handler_id=f"h{number}",
        handler_created_at=then,
        workflow_name="ticker",
        status=Status.COMPLETED if number % 4 else Status.FAILED,
        started_at=then,
        updated_at=then,
        completed_at=then,
        error=None if number % 4 else "It failed.",
    )


def test_ten_thousand_handlers_are_listed_a_page_at_a_time(page: Page, full_url: str) -> None:
    ui, rows = Ui(page, full_url), page.locator("table.runs tbody tr")
    ui.open("runs")
    expect(rows).to_have_count(50)
    expect(rows.first).to_contain_text("h9999")
    page.get_by_role("link", name="Older").click()
    expect(rows.first).to_contain_text("h9949")
    ui.press("failed")
    expect(rows).to_have_count(50)
    expect(rows.first).to_contain_text("h9996")
    expect(rows.last).to_contain_text("h9800")


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


def test_a_field_that_no_class_declares_is_shown_like_any_other(ui: Ui) -> None:
    ui.start("plain-asker")
    row = ui.page.locator(".event-row").first
    expect(row).to_contain_text("prefix")
    row.click()
    expect(ui.page.get_by_role("group", name=re.compile("Fields of event"))).to_contain_text(
        "What shall it be?"
    )
    expect(ui.page.locator(".log-box")).not_to_contain_text("_data")


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
