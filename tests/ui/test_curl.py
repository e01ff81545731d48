"""Each action can be copied as `curl`, and the copy does the same."""

import json
import subprocess
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.ui.pages import Ui


@pytest.fixture(autouse=True)
def _clipboard(page: Page) -> None:
    """Let the page use the clipboard without asking."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])


def copy_and_run(ui: Ui, what: str, within: Locator | None = None) -> str:
    """Copy the command of an action, carry it out in a shell, and return what it printed."""
    scope = within or ui.page.locator("body")
    scope.get_by_role("button", name=f"Copy the curl command: {what}", exact=True).click()
    command = ui.page.evaluate("navigator.clipboard.readText()")
    return subprocess.check_output(["sh", "-c", f"{command} --silent"], text=True)


def run_copied(ui: Ui, what: str, within: Locator | None = None) -> Any:
    """Do the same, and return the JSON that was printed."""
    return json.loads(copy_and_run(ui, what, within))


def test_a_form_is_copied_as_it_is_filled_in(ui: Ui) -> None:
    ui.open("workflows", "greeting")
    ui.field("name").fill('O\'Hara \\ "$HOME"')
    started = run_copied(ui, "Run")
    ui.open("runs", started["handler_id"])
    ui.panel("Result").get_by_text('Hello, O\'Hara \\ "$HOME"!').wait_for()


def test_the_actions_of_a_run_are_copied(ui: Ui, api: httpx.Client) -> None:
    body = {"start_event": {"name": "Ada"}, "handler_id": "copied"}
    first = api.post("/workflows/greeting/run", json=body).json()
    ui.open("runs", "copied")
    assert run_copied(ui, "Get this handler")["run_id"] == first["run_id"]
    again = run_copied(ui, "Run again")
    assert again["handler_id"] != "copied"
    ui.press("Purge")
    assert run_copied(ui, "Purge", ui.page.get_by_role("dialog")) == {"status": "deleted"}
    assert api.get("/handlers/copied").status_code == 404


def test_a_running_run_is_cancelled_by_a_copy(ui: Ui, api: httpx.Client) -> None:
    body = {"start_event": {"count": 1000, "pause": 0.05}, "handler_id": "to-cancel"}
    api.post("/workflows/ticker/run-nowait", json=body)
    ui.open("runs", "to-cancel")
    ui.press("Cancel")
    assert run_copied(ui, "Cancel the run") == {"status": "cancelled"}
    ui.page.get_by_role("button", name="Keep it").click()
    ui.expect_status("cancelled")


def test_the_listings_are_copied(ui: Ui, api: httpx.Client) -> None:
    ui.open("workflows")
    assert run_copied(ui, "List the workflows") == api.get("/workflows").json()
    ui.open("runs", query="?status=failed")
    listed = run_copied(ui, "List these runs")["handlers"]
    assert {handler["status"] for handler in listed} <= {"failed"}
    ui.open("questions")
    waiting = run_copied(ui, "List the runs that wait for a person")["handlers"]
    assert all(handler["questions"] for handler in waiting)


def test_an_answer_is_copied(ui: Ui, api: httpx.Client) -> None:
    body = {"start_event": {"purpose": "A train", "amount": 2}, "handler_id": "answered"}
    api.post("/workflows/approval/run-nowait", json=body)
    ui.open("runs", "answered")
    ui.field("comment").fill("By the copy")
    assert run_copied(ui, "Send the answer") == {"status": "sent"}
    ui.expect_status("completed")
    expect(ui.panel("Result")).to_contain_text("By the copy")


def test_the_stream_of_an_earlier_run_is_copied(ui: Ui, api: httpx.Client) -> None:
    for message in ("first", "second"):
        body = {"start_event": {"message": message}, "handler_id": "streamed"}
        api.post("/workflows/conversation/run", json=body)
    earlier = api.get("/handlers/streamed/runs").json()["runs"][-1]["run_id"]
    ui.open("runs", "streamed", query=f"?run={earlier}")
    expect(ui.page.get_by_text("has run again since")).to_be_visible()
    printed = copy_and_run(ui, "Follow the events")
    assert '"message":"first"' in printed
    assert '"message":"second"' not in printed
