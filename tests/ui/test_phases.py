"""Runs that are queued, work, wait, are held, or cannot be resumed say so."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.command import serving
from tests.ui.conftest import FLOWS, ROOT
from tests.ui.pages import Ui

LONG = {"count": 1000, "pause": 0.05}
GREETING = str(ROOT / "examples" / "greeting.py")


def start(url: str, handler_id: str, workflow: str = "ticker") -> None:
    """Start a run, by default one that goes on for a while."""
    fields = LONG if workflow == "ticker" else {}
    body = {"handler_id": handler_id, "start_event": fields}
    httpx.post(f"{url}/workflows/{workflow}/run-nowait", json=body).raise_for_status()


@pytest.fixture
def narrow(page: Page, tmp_path: Path) -> Iterator[Ui]:
    """Yield the UI of a server with one slot, for which a second run waits."""
    with serving(tmp_path, FLOWS, "--store", "memory:", "--max-runs", "1") as server:
        start(server.url, "first")
        start(server.url, "second")
        yield Ui(page, server.url)


@pytest.fixture(scope="module")
def held_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a store whose unfinished runs are of a workflow that is not served any more."""
    folder = tmp_path_factory.mktemp("held")
    store = ("--store", "sqlite:///runs.db")
    with serving(folder, FLOWS, *store) as server:
        for handler_id in ("held", "given-up"):
            start(server.url, handler_id)
    with serving(folder, GREETING, *store) as server:
        yield server.url


@pytest.fixture
def held(page: Page, held_url: str) -> Ui:
    """Return the UI of the server that holds runs."""
    return Ui(page, held_url)


def test_a_queued_run_says_so_until_it_gets_its_slot(narrow: Ui) -> None:
    narrow.open("runs", "second")
    narrow.expect_status("queued")
    httpx.post(f"{narrow.url}/handlers/first/cancel")
    narrow.expect_status("working")


def test_a_queued_run_is_cancelled(narrow: Ui) -> None:
    narrow.open("runs", "second")
    narrow.press("Cancel")
    expect(narrow.page.get_by_role("dialog")).to_contain_text("It does not begin.")
    narrow.press("Cancel the run")
    narrow.expect_status("cancelled")


def test_the_list_is_filtered_by_phase(narrow: Ui) -> None:
    narrow.open("runs", query="?phase=queued")
    expect(narrow.row("second")).to_contain_text("queued")
    expect(narrow.row("first")).to_have_count(0)
    narrow.press("working")
    expect(narrow.row("first")).to_contain_text("working")
    expect(narrow.row("second")).to_have_count(0)
    narrow.press("held")
    expect(narrow.page.get_by_text("No run is like that.")).to_be_visible()


def test_a_status_takes_the_place_of_a_phase_and_a_phase_is_let_go_of(narrow: Ui) -> None:
    narrow.open("runs", query="?phase=queued&workflow=ticker")
    narrow.press("running")
    expect(narrow.page).to_have_url(f"{narrow.url}/#/runs?status=running&workflow=ticker")
    narrow.press("queued")
    expect(narrow.page).to_have_url(f"{narrow.url}/#/runs?phase=queued&workflow=ticker")
    narrow.press("queued")
    expect(narrow.page).to_have_url(f"{narrow.url}/#/runs?workflow=ticker")


def test_a_waiting_run_is_listed_as_waiting_for_an_answer(ui: Ui) -> None:
    start(ui.url, "asks", "plain-asker")
    ui.open("runs", query="?phase=waiting")
    expect(ui.row("asks").locator(".status")).to_have_text("waiting")
    expect(ui.row("asks")).to_contain_text("needs an answer")


def test_a_held_run_says_why(held: Ui) -> None:
    reason = httpx.get(f"{held.url}/handlers/held").json()["held_because"]
    held.open("runs", "held")
    held.expect_status("held")
    expect(held.note("This run is held.")).to_contain_text(reason, ignore_case=True)
    expect(held.panel("Timeline")).to_contain_text("stopped")
    held.open("runs", query="?phase=held")
    expect(held.row("held")).to_contain_text(reason, ignore_case=True)


def test_a_held_run_is_cancelled(held: Ui) -> None:
    held.open("runs", "given-up")
    held.press("Cancel")
    expect(held.page.get_by_role("dialog")).to_contain_text("It is not tried again.")
    held.press("Cancel the run")
    held.expect_status("cancelled")
    expect(held.note("This run is held.")).to_have_count(0)


def test_a_run_that_cannot_be_resumed_says_why_until_it_has_ended(ui: Ui) -> None:
    start(ui.url, "fragile", "fragile")
    ui.open("runs", "fragile")
    ui.expect_status("waiting")
    reason = httpx.get(f"{ui.url}/handlers/fragile").json()["not_resumable_because"]
    expect(ui.note("This run cannot be resumed.")).to_contain_text(reason, ignore_case=True)
    ui.field("response").fill("yes")
    ui.press("Send the answer")
    ui.expect_status("completed")
    expect(ui.note("This run cannot be resumed.")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["runs?phase=held", "runs/held"])
def test_axe_finds_nothing_where_runs_are_held_and_no_page_is_wider_than_a_phone(
    held: Ui, path: str, scheme: Any
) -> None:
    held.page.set_viewport_size({"width": 390, "height": 844})
    held.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    held.page.goto(f"{held.url}/#/{path}")
    expect(held.page.locator("main h1")).to_be_visible()
    expect(held.page.locator("main .loading")).to_have_count(0)
    assert (held.find_violations(), held.width) == ([], 390)
