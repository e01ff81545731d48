"""Runs that wait for a person."""

import httpx
from playwright.sync_api import Locator, expect

from tests.ui.pages import Ui

EXPENSE = {"purpose": "A train", "amount": 2}


def ask(api: httpx.Client, handler_id: str) -> None:
    """Start a run that waits for a person."""
    body = {"start_event": EXPENSE, "handler_id": handler_id}
    api.post("/workflows/approval/run-nowait", json=body)


def card(ui: Ui, handler_id: str) -> Locator:
    """Find a question in the list of all."""
    return ui.page.locator(".question-list > li").filter(has_text=handler_id)


def test_a_waiting_run_says_so_and_is_answered_with_one_click(ui: Ui) -> None:
    ui.start("approval", purpose="A train", amount="2")
    ui.expect_status("waiting")
    question = ui.panel("The run waits for an answer")
    expect(question).to_contain_text("Approve 2.00 € for: A train?")
    expect(ui.node("external_step")).to_have_attribute("data-state", "waiting")
    ui.field("comment").fill("Second class")
    ui.press("approved: yes")
    ui.expect_status("completed")
    expect(ui.panel("Result")).to_contain_text("Second class")


def test_a_second_answer_is_prevented(ui: Ui, api: httpx.Client) -> None:
    ask(api, "twice")
    ui.open("questions")
    mine = card(ui, "twice")
    expect(mine).to_contain_text("Approve 2.00 €")
    answer = {"event": {"type": "Decision", "value": {"approved": False}}, "reply_to": 2}
    sequence = api.get("/handlers/twice").json()["questions"][0]["sequence"]
    # The list is not asked again before the click.
    ui.page.route("**/handlers?*", lambda route: route.abort())
    assert api.post("/events/twice", json={**answer, "reply_to": sequence}).status_code == 200
    mine.get_by_role("button", name="approved: yes").click()
    expect(mine.get_by_text("already").or_(mine.get_by_text("has ended"))).to_be_visible()
    assert api.get("/handlers/twice").json()["result"]["value"]["outcome"] == "rejected"


def test_all_waiting_runs_are_on_one_page(ui: Ui, api: httpx.Client) -> None:
    ask(api, "here-1")
    ask(api, "here-2")
    ui.open("questions")
    expect(card(ui, "here-1")).to_contain_text("Approve 2.00 €")
    card(ui, "here-2").get_by_role("button", name="approved: no").click()
    expect(card(ui, "here-2")).to_have_count(0)
    expect(card(ui, "here-1")).to_be_visible()


def test_the_second_question_of_a_run_follows_the_first(ui: Ui) -> None:
    ui.start("introduction")
    for which, name in (("first", "Ada"), ("last", "Lovelace")):
        question = ui.panel("The run waits for an answer")
        expect(question).to_contain_text(f"The {which} name?")
        ui.field("name").fill(name)
        ui.press("Send the answer")
    expect(ui.panel("Result")).to_contain_text("Ada Lovelace")


def test_the_engines_own_question_is_answered(ui: Ui) -> None:
    ui.start("plain-asker")
    expect(ui.panel("The run waits for an answer")).to_contain_text("What shall it be?")
    ui.field("response").fill("tea")
    ui.press("Send the answer")
    expect(ui.panel("Result")).to_contain_text("It shall be tea")
