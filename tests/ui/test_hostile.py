"""Markup in every string that a workflow can emit is shown as text."""

from urllib.parse import quote

import httpx
from playwright.sync_api import expect

from tests.ui.flows import MARKUP
from tests.ui.pages import Ui

NAME = "<img src=x onerror='window.hacked=1'>"


def test_markup_of_a_workflow_is_text_on_every_page(ui: Ui, api: httpx.Client) -> None:
    ui.open("workflows")
    expect(ui.page.get_by_role("heading", name=NAME)).to_be_visible()
    ui.open("workflows", NAME)
    expect(ui.page.locator("main")).to_contain_text(MARKUP)
    ui.press("Run")
    ui.expect_status("waiting")
    expect(ui.panel("Events")).to_contain_text(MARKUP)
    ui.page.get_by_label("internal events").check()
    for row in ui.page.locator(".event-row").all():
        row.click()
    ui.open("questions")
    expect(ui.page.locator(".question-sentence").filter(has_text=MARKUP).first).to_be_visible()
    handlers = api.get("/handlers", params={"waiting": True, "workflow_name": NAME}).json()
    handler_id = handlers["handlers"][0]["handler_id"]
    answer = {"type": "HostileAnswer", "value": {"text": MARKUP}}
    api.post(f"/events/{handler_id}", json={"event": answer})
    ui.open("runs", handler_id)
    expect(ui.panel("Why it failed")).to_contain_text(MARKUP)
    ui.open("runs")
    expect(ui.page.locator("main")).to_contain_text(MARKUP)
    assert ui.page.locator("main img, main script").count() == 0


def test_markup_that_a_run_started_from_is_text(ui: Ui, api: httpx.Client) -> None:
    body = {"start_event": {MARKUP: MARKUP}, "handler_id": "hostile-input"}
    started = api.post(f"/workflows/{quote(NAME, safe='')}/run-nowait", json=body)
    assert started.status_code == 200
    ui.open("runs", "hostile-input")
    expect(ui.panel("Input")).to_contain_text("<script>window.hacked=1</script>")
    ui.page.get_by_role("link", name="Edit and run").click()
    expect(ui.panel("Start a run").locator(".fields input").first).to_have_value(MARKUP)
    assert ui.page.locator("main img, main script").count() == 0
