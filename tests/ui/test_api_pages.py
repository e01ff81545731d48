"""The API pages in Chromium: nothing leaves the origin, and a run is started from the page."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, expect

from tests.support.command import run_command, serving
from tests.ui.pages import PATIENCE

REFUSED = "status of 401"  # as a test provokes
EXAMPLES = str(Path(__file__).parents[2] / "examples")


# The picture is taken of the last.
@pytest.fixture(params=["/behind/a/proxy", ""], ids=["under a root path", "at the root"])
def base_url(request: pytest.FixtureRequest, page: Page, tmp_path: Path) -> Iterator[str]:
    """Serve the examples behind a proxy that takes the root path away, and yield where."""
    options = ("--store", "memory:", "--root-path", request.param)
    with serving(tmp_path, EXAMPLES, *options) as server:
        base_url: str = server.url + request.param
        page.route(
            f"{base_url}/**",
            lambda route: route.continue_(url=route.request.url.replace(base_url, server.url, 1)),
        )
        yield base_url


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Yield a page from which nothing may leave, and which may find no fault with what it gets."""
    page = browser.new_context(viewport={"width": 1280, "height": 1300}).new_page()
    requests: list[Request] = []
    faults: list[str] = []
    said: list[ConsoleMessage] = []
    page.set_default_timeout(PATIENCE)
    page.on("request", lambda request: requests.append(request))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: said.append(message))
    yield page
    left = [request.url for request in requests if request.url.startswith("http")]
    faults += [one.text for one in said if one.type == "error" and REFUSED not in one.text]
    page.context.close()
    assert (faults, {urlsplit(url).hostname for url in left}) == ([], {"127.0.0.1"})


def open_operation(page: Page, base_url: str, operation: str) -> Locator:
    """Unfold an operation of the Swagger page, to be tried out."""
    page.goto(f"{base_url}/docs")
    block = page.locator(f"[id='operations-{operation}']")
    block.locator(".opblock-summary").click()
    block.get_by_role("button", name="Try it out").click()
    return block


def execute(block: Locator) -> Locator:
    """Press the button, and return what the server answered."""
    block.get_by_role("button", name="Execute").click()
    answer = block.locator(".live-responses-table tbody")
    expect(answer).to_be_visible()
    return answer


def test_a_run_is_started_from_the_swagger_page_as_it_is_filled_in(
    page: Page, base_url: str, tmp_path: Path
) -> None:
    block = open_operation(page, base_url, "greeting-run_greeting")
    greet = json.dumps({"start_event": {"name": "Ada"}}, indent=2)
    expect(block.get_by_role("textbox")).to_have_value(greet)
    answer = execute(block)
    expect(answer.locator(".response-col_status").first).to_contain_text("200")
    expect(answer).to_contain_text('"result": "Hello, Ada!"')
    block.evaluate("block => block.scrollIntoView()")
    page.screenshot(path=Path(os.environ.get("SCREENSHOTS", tmp_path)) / "swagger.png")


def test_a_question_is_answered_from_the_swagger_page_as_it_is_filled_in(
    page: Page, base_url: str
) -> None:
    run = open_operation(page, base_url, "agent-run_agent_nowait")
    body = '{"start_event": {"message": "Refund order 7"}, "handler_id": "tea"}'
    run.get_by_role("textbox").fill(body)
    expect(execute(run).locator(".response-col_status").first).to_contain_text("200")
    block = open_operation(page, base_url, "events-send_event")
    block.get_by_placeholder("handler_id").fill("tea")
    sent = {"event": {"type": "Permission", "value": {"granted": True}}}
    expect(block.locator("textarea")).to_have_value(json.dumps(sent, indent=2))
    expect(execute(block)).to_contain_text('"status": "sent"')


def test_a_key_is_given_to_the_swagger_page_once(page: Page, tmp_path: Path) -> None:
    options = ("--name", "ada", "--scope", "run", "--file", "keys.json")
    created = run_command(tmp_path, "key", "create", *options)
    with serving(tmp_path, EXAMPLES, "--store", "memory:", "--api-keys", "keys.json") as server:
        block = open_operation(page, server.url, "greeting-run_greeting")
        status = execute(block).locator(".response-col_status").first
        expect(status).to_contain_text("401")
        page.get_by_role("button", name="Authorize").first.click()
        scheme = page.locator(".auth-container").filter(has_text="api_key")
        scheme.get_by_label("Value:").fill(created.stdout.strip())
        scheme.get_by_role("button", name="Apply credentials").click()
        page.get_by_role("button", name="Close").first.click()
        block.get_by_role("button", name="Execute").click()
        expect(status).to_contain_text("200")


def test_redoc_shows_the_workflows(page: Page, base_url: str) -> None:
    page.goto(f"{base_url}/redoc")
    expect(page.get_by_role("heading", name="Run greeting to its end")).to_be_visible()
    page.wait_for_load_state("networkidle")
