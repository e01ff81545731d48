"""Run, watch, fail, cancel, run again, continue, purge."""

import re

import httpx
from playwright.sync_api import expect

from tests.ui.pages import Ui


def test_every_workflow_has_a_card_with_what_it_does(ui: Ui) -> None:
    ui.open("workflows")
    expect(ui.page.get_by_role("link", name="approval")).to_contain_text("asks a person")


def test_a_workflow_with_an_event_that_cannot_be_described_is_shown_and_run(ui: Ui) -> None:
    ui.open("workflows", "worker")
    expect(ui.page.locator("p.lead")).to_have_text("")
    ui.node("Handover").click()
    expect(ui.page.locator(".graph-facts")).to_have_text("Handover event")
    ui.press("Run")
    ui.expect_status("completed")


def test_a_run_is_started_with_the_form_and_watched_to_its_end(ui: Ui) -> None:
    ui.start("greeting", name="Ada")
    ui.expect_status("completed")
    expect(ui.panel("Result")).to_contain_text("Hello, Ada!")
    expect(ui.node("greet")).to_have_attribute("data-state", "done")
    expect(ui.connection()).to_have_attribute("data-connection", "ended")


def test_a_step_lights_up_while_it_runs(ui: Ui) -> None:
    ui.start("tokens")
    expect(ui.node("recite")).to_have_attribute("data-state", "running")
    expect(ui.connection()).to_have_attribute("data-connection", "live")
    ui.expect_status("completed")
    expect(ui.node("recite")).to_have_attribute("data-state", "done")
    expect(ui.panel("Timeline")).to_contain_text(re.compile(r"recite\d+"))


def test_retries_are_counted_in_the_timeline(ui: Ui) -> None:
    ui.start("flaky")
    ui.expect_status("completed")
    expect(ui.panel("Timeline")).to_contain_text("2 retries")


def test_a_failed_run_says_why_and_where(ui: Ui) -> None:
    ui.start("flaky", failures="3")
    ui.expect_status("failed")
    why = ui.panel("Why it failed")
    expect(why).to_contain_text("the service is down")
    expect(why).to_contain_text("ConnectionError in the step call after 3 attempts.")
    expect(ui.node("call")).to_have_attribute("data-state", "failed")


def test_an_ended_run_tells_the_same_story_from_its_stored_events(
    ui: Ui, api: httpx.Client
) -> None:
    handler = api.post("/workflows/pipeline/run", json={"start_event": {"text": "a\nb\nc"}}).json()
    ui.open("runs", handler["handler_id"])
    expect(ui.node("Counted")).to_have_attribute("data-state", "done")
    expect(ui.node("count")).to_have_accessible_name("count: step, done, 3 times")
    expect(ui.panel("Timeline")).to_contain_text(re.compile(r"×3 · longest \d+(\.\d+)? (µs|ms)"))
    expect(ui.panel("Events")).to_contain_text("Progress")


def test_a_running_run_is_cancelled_after_a_question(ui: Ui) -> None:
    ui.start("ticker", count="1000", pause="0.05")
    ui.press("Cancel")
    ui.press("Keep it")
    ui.expect_status("working")
    ui.press("Cancel")
    ui.press("Cancel the run")
    ui.expect_status("cancelled")
    expect(ui.node("tick")).to_have_attribute("data-state", "stopped")


def test_a_handler_is_purged_after_a_question(ui: Ui, api: httpx.Client) -> None:
    api.post("/workflows/greeting/run", json={"start_event": {"name": "A"}, "handler_id": "purge"})
    ui.open("runs", "purge")
    ui.press("Purge")
    ui.page.get_by_role("dialog").get_by_role("button", name="Purge", exact=True).click()
    expect(ui.page.get_by_role("heading", level=1)).to_have_text("Runs")
    assert api.get("/handlers/purge").status_code == 404


def test_a_run_that_another_client_started_is_run_again_with_the_same_input(
    ui: Ui, api: httpx.Client
) -> None:
    body = {"start_event": {"name": "Grace"}, "handler_id": "elsewhere"}
    api.post("/workflows/greeting/run", json=body)
    ui.open("runs", "elsewhere")
    expect(ui.panel("Input")).to_contain_text("Grace")
    first = ui.page.url
    ui.press("Run again")
    ui.page.wait_for_url(lambda url: url != first)
    expect(ui.panel("Result")).to_contain_text("Hello, Grace!")


def test_the_input_of_a_run_is_edited_and_run(ui: Ui, api: httpx.Client) -> None:
    body = {"start_event": {"text": "one two", "delay": 0.01}, "handler_id": "edited"}
    api.post("/workflows/tokens/run", json=body)
    ui.open("runs", "edited")
    ui.page.get_by_role("link", name="Edit and run").click()
    expect(ui.field("delay")).to_have_value("0.01")
    expect(ui.field("text")).to_have_value("one two")
    ui.field("text").fill("three")
    ui.press("Run")
    expect(ui.panel("Events")).to_contain_text('{"text":"three"}')


def test_durations_are_known_after_the_page_was_loaded_anew(ui: Ui) -> None:
    ui.start("flaky")
    ui.expect_status("completed")
    facts = ui.panel("Timeline").locator(".lane-facts")
    expect(facts).to_contain_text("longest")
    told = facts.inner_text()
    ui.page.reload()
    expect(facts).to_have_text(told)


def test_a_handler_is_continued_from_its_state(ui: Ui) -> None:
    ui.start("conversation", message="I am Ada.")
    ui.expect_status("completed")
    ui.page.get_by_role("link", name="Continue").click()
    ui.field("message").fill("Who am I?")
    ui.press("Continue")
    expect(ui.panel("Result")).to_contain_text("I am Ada.")


def test_an_earlier_run_of_a_handler_can_be_linked(ui: Ui, api: httpx.Client) -> None:
    body = {"start_event": {"message": "one"}, "handler_id": "talk"}
    first = api.post("/workflows/conversation/run", json=body).json()
    api.post("/workflows/conversation/run", json=body)
    ui.open("runs", "talk", query=f"?run={first['run_id']}")
    expect(ui.panel("Result")).to_contain_text("turn: 1")
    ui.page.get_by_role("link", name="Show its newest run").click()
    expect(ui.panel("Result")).to_contain_text("turn: 2")


def test_the_runs_of_a_handler_are_listed_and_link_to_each(ui: Ui, api: httpx.Client) -> None:
    body = {"start_event": {"message": "again"}, "handler_id": "chat"}
    ids = [api.post("/workflows/conversation/run", json=body).json()["run_id"] for _ in range(12)]
    ui.open("runs", "chat")
    runs = ui.panel("Runs of this handler")
    expect(runs.locator("tbody tr")).to_have_count(10)
    expect(runs.get_by_role("link", name=ids[-1])).to_have_attribute("aria-current", "page")
    ui.press("Show older runs")
    runs.get_by_role("link", name=ids[0]).click()
    expect(ui.panel("Result")).to_contain_text("turn: 1")
    expect(ui.page.get_by_role("link", name="Show its newest run")).to_be_visible()
    assert ui.page.evaluate("window.scrollY") == 0


def test_a_handler_with_one_run_has_no_list_of_them(ui: Ui, api: httpx.Client) -> None:
    api.post("/workflows/greeting/run", json={"start_event": {"name": "A"}, "handler_id": "single"})
    with ui.page.expect_response("**/handlers/single/runs*"):
        ui.open("runs", "single")
    expect(ui.panel("Result")).to_be_visible()
    expect(ui.panel("Runs of this handler")).to_have_count(0)


def test_an_unknown_run_says_what_to_do(ui: Ui) -> None:
    ui.open("runs", "nobody")
    expect(ui.page.get_by_role("link", name="All runs")).to_be_visible()
