"""Forms from JSON Schemas, and where their faults stand."""

import httpx
from playwright.sync_api import Locator, expect

from tests.ui.pages import Ui


def fault_of(ui: Ui, name: str) -> Locator:
    """Find the fault that is told at a field."""
    return ui.page.locator(f"[id='{ui.field(name).get_attribute('id')}-fault']")


def test_the_form_makes_an_event_of_every_kind_of_field(ui: Ui) -> None:
    ui.open("workflows", "orders")
    ui.field("customer").fill("Ada")
    ui.field("street").fill("Broad Street 1")
    ui.field("copies").fill("3")
    ui.field("colour").select_option("blue")
    ui.press("Add to tags")
    ui.page.get_by_label("Item 1", exact=True).fill("urgent")
    ui.page.locator(".field").filter(has_text="gift").get_by_text("yes", exact=True).click()
    ui.press("Run")
    ui.expect_status("completed")
    result = ui.panel("Result")
    for text in ('customer: "Ada"', "copies: 3", '"blue"', '"urgent"', "gift: true", "note: null"):
        expect(result).to_contain_text(text)


def test_faults_are_found_before_anything_is_sent(ui: Ui, api: httpx.Client) -> None:
    ui.open("workflows", "orders")
    ui.field("copies").fill("10")
    ui.press("Run")
    expect(fault_of(ui, "customer")).to_have_text("A value is required.")
    expect(fault_of(ui, "copies")).to_have_text("At most 9.")
    expect(ui.field("customer")).to_be_focused()
    ui.field("copies").fill("9")
    expect(fault_of(ui, "copies")).to_have_count(0)


def test_the_servers_faults_stand_at_their_fields(ui: Ui) -> None:
    ui.open("workflows", "orders")
    ui.field("customer").fill("Nobody")
    ui.field("street").fill("x")
    ui.press("Run")
    expect(fault_of(ui, "customer")).to_have_text("Nobody cannot order")


def test_raw_json_is_a_way_out_and_back(ui: Ui) -> None:
    ui.open("workflows", "orders")
    ui.field("customer").fill("Ada")
    ui.press("JSON")
    raw = ui.page.get_by_label("The event's fields as JSON")
    raw.fill('{"customer": "Grace", "address": {"street": "y"}}')
    ui.press("Form")
    expect(ui.field("customer")).to_have_value("Grace")
    ui.press("Run")
    expect(ui.panel("Result")).to_contain_text('street: "y"')


def test_json_that_is_none_is_not_sent(ui: Ui) -> None:
    ui.open("workflows", "orders")
    ui.press("JSON")
    ui.page.get_by_label("The event's fields as JSON").fill("{")
    ui.press("Run")
    expect(ui.page.get_by_text("This is not a JSON object.")).to_be_visible()


def test_an_example_fills_the_form(ui: Ui) -> None:
    ui.open("workflows", "approval")
    ui.press("Fill in an example")
    expect(ui.field("amount")).to_have_value("240.5")


def test_the_curl_of_a_form_does_what_the_form_does(ui: Ui, api: httpx.Client) -> None:
    ui.page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=ui.url)
    ui.open("workflows", "greeting")
    ui.field("name").fill("O'Hara")
    ui.page.get_by_role("button", name="Copy the curl command: Run").click()
    expect(ui.page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
    copied = ui.page.evaluate("navigator.clipboard.readText()")
    assert copied == (
        f"curl -X POST '{ui.url}/workflows/greeting/run-nowait'"
        " -H 'Content-Type: application/json'"
        """ -d '{"start_event":{"name":"O'\\''Hara"}}'"""
    )
