"""Runs that wait for a person."""

import json

import httpx
from playwright.sync_api import Locator, Route, expect

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


def test_a_handler_that_runs_again_is_answered_again_and_each_answer_names_its_run(
    ui: Ui, api: httpx.Client
) -> None:
    for _ in range(2):
        ask(api, "again")
        ui.open("questions")
        run_id = api.get("/handlers/again").json()["run_id"]
        with ui.page.expect_request(lambda request: request.method == "POST") as sent:
            card(ui, "again").get_by_role("button", name="approved: no").click()
        assert json.loads(sent.value.post_data or "")["run_id"] == run_id
        expect(card(ui, "again")).to_have_count(0)


def test_all_waiting_runs_are_on_one_page(ui: Ui, api: httpx.Client) -> None:
    ask(api, "here-1")
    ask(api, "here-2")
    ui.open("questions")
    expect(card(ui, "here-1")).to_contain_text("Approve 2.00 €")
    card(ui, "here-2").get_by_role("button", name="approved: no").click()
    expect(card(ui, "here-2")).to_have_count(0)
    expect(card(ui, "here-1")).to_be_visible()


def test_a_card_is_shown_when_those_above_it_have_their_heights(ui: Ui, api: httpx.Client) -> None:
    ask(api, "lower")
    ask(api, "upper")
    held: list[Route] = []
    ui.page.route("**/handlers/upper?*", lambda route: held.append(route))
    ui.open("questions")
    expect(card(ui, "lower").locator(".question")).to_be_attached()
    expect(card(ui, "upper")).to_be_visible()
    expect(card(ui, "lower")).to_be_hidden()
    held.pop().continue_()
    expect(card(ui, "upper").locator(".question")).to_be_visible()
    expect(card(ui, "lower").locator(".question")).to_be_visible()
    assert held == []


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


def test_a_wait_for_a_plain_answer_has_its_form_and_events_between_steps_have_none(
    ui: Ui, api: httpx.Client
) -> None:
    api.post("/workflows/interview/run-nowait", json={"handler_id": "interviewed"})
    ui.open("runs", "interviewed")
    question = ui.panel("The run waits for an answer")
    expect(question.locator(".question-sentence")).to_have_text("How old are you?")
    expect(question).to_contain_text("Answer with HumanResponseEvent")
    expect(question).not_to_contain_text("_data")
    ui.field("response").fill("nine")
    ui.press("Send the answer")
    expect(ui.page.locator(".question-sentence").last).to_have_text("Which food?")
    api.post("/handlers/interviewed/cancel")


def test_what_is_required_of_an_answer_is_filled_in(ui: Ui) -> None:
    ui.start("gate")
    waits = ui.panel("The run waits for an event")
    expect(waits).to_contain_text("The step wait waits for Permit")
    expect(waits).to_contain_text("then the wait times out")
    expect(ui.field("user")).to_have_value("ada")
    ui.press("granted: yes")
    expect(ui.panel("Result")).to_contain_text("ada: True")


def test_a_run_that_can_never_go_on_says_so(ui: Ui) -> None:
    ui.start("swallower")
    expect(ui.note("This run is stuck.")).to_contain_text("can never go on")


def test_what_is_typed_stays_while_the_page_asks_again(ui: Ui) -> None:
    ui.start("gate")
    ui.field("user").fill("somebody else")
    with ui.page.expect_response("**/runs?limit=1"), ui.page.expect_response("**/runs?limit=1"):
        pass
    expect(ui.field("user")).to_have_value("somebody else")
