"""The servers that share a store: listed, drained by a click, and killed while they are shown."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from playwright.sync_api import Locator, Page, expect

from tests.replicas.joining import bury
from tests.support.command import RunningServer, run_command, serving
from tests.support.postgres import temporary_schema
from tests.support.waiting import DEADLINE
from tests.ui.conftest import FLOWS, ROOT
from tests.ui.pages import Ui

# Nobody is dead to the others because the machine is busy; who is to be dead is buried.
STEADY = ("--replicas", "--heartbeat", "0.3", "--stale-after", "120")
# And one that is killed is not missed, though its connection is lost.
SLOW = ("--replicas", "--heartbeat", "60", "--stale-after", "600")
RELEASE = version("workflow-server")
SILENT = re.compile(r"^([3-9]|\d\d) s ago$|min ago")
LONG = {"count": 2, "pause": 3_600}
# What is said for some seconds only.
LISTEN = """
window.said = "";
new MutationObserver(() => { said += document.querySelector(".toasts").textContent; })
    .observe(document.querySelector(".toasts"), { childList: true, subtree: true });
"""
SIZES = [390, 1280, 1920]

Pair = tuple[RunningServer, RunningServer]


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    """Yield an event loop in a thread of its own, as that of this one is Playwright's."""
    with start_blocking_portal() as portal:
        yield portal


@contextmanager
def sharing(
    portal: BlockingPortal, folder: Path, options: tuple[str, ...] = STEADY
) -> Iterator[tuple[str, Pair]]:
    """Yield the URL of a store and the two servers that share it."""
    with portal.wrap_async_context_manager(temporary_schema()) as store:
        arguments = (FLOWS, "--store", store, *options)
        with serving(folder, *arguments) as first, serving(folder, *arguments) as second:
            yield store, (first, second)


@pytest.fixture(scope="module")
def lasting(
    portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """Yield one of two servers that share a store; each has a run, and they stay."""
    with sharing(portal, tmp_path_factory.mktemp("servers")) as (_, (first, second)):
        start(first, "ticker", LONG)
        start(second, "gate")
        yield first


@pytest.fixture
def shown(page: Page, lasting: RunningServer) -> Ui:
    """Return the UI of a server that stays."""
    return Ui(page, lasting.url)


def ask(server: RunningServer, method: str, path: str, json: Any = None) -> Any:
    """Return what a server answers, however busy the machine is."""
    response = httpx.request(method, server.url + path, json=json, timeout=DEADLINE)
    return response.raise_for_status().json()


def start(server: RunningServer, workflow: str, fields: dict[str, Any] | None = None) -> str:
    body = {"start_event": fields or {}}
    return str(ask(server, "POST", f"/workflows/{workflow}/run-nowait", json=body)["handler_id"])


def number_of(server: RunningServer) -> int:
    """Return the number of a server's life."""
    servers = ask(server, "GET", "/servers")["servers"]
    (number,) = (one["id"] for one in servers if one["is_asked"])
    return int(number)


def row(ui: Ui, number: int) -> Locator:
    """Find a server in the list."""
    cell = ui.page.locator("td.server-cell b").get_by_text(str(number), exact=True)
    return ui.page.locator("table.servers tbody tr").filter(has=cell)


def tab(ui: Ui) -> Locator:
    """Find the page among those that the head of each page leads to."""
    pages = ui.page.get_by_role("navigation", name="Pages").first
    return pages.get_by_role("link", name="Servers", exact=True)


def test_all_servers_are_listed_with_what_they_have_to_do(shown: Ui) -> None:
    shown.open("workflows")
    tab(shown).click()
    rows = shown.page.locator("table.servers tbody tr")
    expect(rows).to_have_count(2)
    own, other = rows.nth(0), rows.nth(1)
    expect(own).to_contain_text("1 working")
    expect(other).to_contain_text("1 waiting")
    for one in (own, other):
        expect(one.locator(".status")).to_have_text("serving")
        expect(one).to_contain_text(re.compile(r"\d+ s ago"))
        expect(one).to_contain_text(RELEASE)
        one.get_by_text("10 workflows").click()
        expect(one.get_by_role("link", name="ticker", exact=True)).to_be_visible()
    expect(own).to_contain_text(shown.url)
    expect(own).to_contain_text("answers you")
    expect(other).not_to_contain_text("answers you")
    expect(shown.note("One server takes runs")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_axe_finds_nothing_and_the_page_fits(shown: Ui, width: int, scheme: Any) -> None:
    shown.page.set_viewport_size({"width": width, "height": 844})
    shown.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    shown.open("servers")
    expect(shown.page.locator("table.servers tbody tr")).to_have_count(2)
    expect(tab(shown)).to_be_in_viewport(ratio=1)
    assert (shown.find_violations(), shown.width) == ([], width)
    shown.page.get_by_role("button", name="Drain server").first.click()
    expect(shown.page.get_by_role("dialog")).to_be_visible()
    assert (shown.find_violations(), shown.width) == ([], width)


def test_a_server_is_kept_by_the_keyboard_alone(shown: Ui) -> None:
    shown.open("servers")
    button, keyboard = shown.page.get_by_role("button", name="Drain server").first, shown.page
    button.focus()
    keyboard.keyboard.press("Enter")
    expect(shown.page.get_by_role("button", name="Keep it")).to_be_focused()
    keyboard.keyboard.press("Escape")
    expect(shown.page.get_by_role("dialog")).to_have_count(0)
    expect(button).to_be_focused()
    expect(shown.page.locator("table.servers .status")).to_have_text(["serving", "serving"])


def test_a_server_is_drained_by_a_click_and_then_stopped(
    page: Page, portal: BlockingPortal, tmp_path: Path
) -> None:
    with sharing(portal, tmp_path) as (_, (first, second)):
        at_work = start(second, "ticker", LONG)
        start(second, "gate")
        number, ui = number_of(second), Ui(page, first.url)
        ui.open("servers")
        expect(row(ui, number)).to_contain_text("1 working · 1 waiting")
        ui.press(f"Drain server {number}")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("It takes no runs until it is started again")
        expect(dialog).to_contain_text("Runs at work (1) go on there until you stop it")
        page.evaluate(LISTEN)
        ui.press("Drain")
        page.wait_for_function("number => said.includes(`Server ${number} drains`)", arg=number)
        expect(row(ui, number).locator(".status")).to_have_text("draining")
        expect(page.get_by_text("At no server: 1 waiting run")).to_be_visible()
        expect(ui.note("One server takes runs, and there is no spare")).to_be_visible()
        assert httpx.get(f"{second.url}/readyz", timeout=DEADLINE).status_code == 503
        ask(first, "POST", f"/handlers/{at_work}/cancel")
        expect(row(ui, number).locator(".status")).to_have_text("drained")
        expect(row(ui, number)).to_contain_text("can be stopped")
        second.process.terminate()
        expect(row(ui, number).locator(".status")).to_have_text("gone")
        ask(first, "GET", "/readyz")


def test_a_server_that_is_killed_grows_silent_cannot_be_drained_and_is_gone(
    page: Page, portal: BlockingPortal, tmp_path: Path
) -> None:
    with sharing(portal, tmp_path, SLOW) as (store, (first, second)):
        number, ui = number_of(second), Ui(page, first.url)
        ui.open("servers")
        expect(row(ui, number)).to_be_visible()
        second.process.kill()
        second.process.wait()
        expect(row(ui, number).locator(".heartbeat-cell")).to_have_text(SILENT)
        ui.press(f"Drain server {number}")
        ui.press("Drain")
        expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
        ui.press("Keep it")
        portal.call(bury, store, number)
        expect(row(ui, number).locator(".status")).to_have_text("gone")
        expect(ui.page.get_by_role("button", name=f"Drain server {number}")).to_have_count(0)


def test_the_list_stays_when_the_server_that_answers_is_killed(
    page: Page, portal: BlockingPortal, tmp_path: Path
) -> None:
    with sharing(portal, tmp_path) as (_, (first, second)):
        number, ui = number_of(first), Ui(page, first.url)
        ui.open("servers")
        expect(row(ui, number)).to_be_visible()
        first.process.kill()
        expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")
        expect(row(ui, number_of(second))).to_be_visible()
        expect(row(ui, number).locator(".heartbeat-cell")).to_have_text(SILENT)


def test_a_server_that_has_its_store_for_itself_says_so(ui: Ui) -> None:
    ui.open("workflows")
    expect(tab(ui)).to_have_count(0)
    ui.open("servers")
    expect(ui.page.locator(".empty")).to_contain_text("One server serves all runs")
    expect(ui.page.get_by_role("link", name="servers in the API pages")).to_have_attribute(
        "href", f"{ui.url}/docs#/servers"
    )
    assert ui.find_violations() == []


@pytest.fixture
def make_key(tmp_path: Path) -> Callable[..., str]:
    """Return what makes a key in `keys.json`."""

    def make(*arguments: str) -> str:
        created = run_command(tmp_path, "key", "create", "--file", "keys.json", *arguments)
        assert created.returncode == 0, created.stderr
        return created.stdout.strip()

    return make


def test_an_administrator_with_a_key_sees_all_of_the_navigation_on_a_phone(
    page: Page, make_key: Callable[..., str], tmp_path: Path
) -> None:
    key = make_key("--name", "ada", "--scope", "admin")
    arguments = (str(ROOT / "examples"), "--store", "memory:", "--api-keys", "keys.json")
    with serving(tmp_path, *arguments) as server:
        ui = Ui(page, server.url)
        page.set_viewport_size({"width": 390, "height": 844})
        ui.open("servers")
        ui.field("API key, or token").fill(key)
        ui.press("Go on")
        expect(page.get_by_text("One server serves all runs")).to_be_visible()
        expect(tab(ui)).to_be_in_viewport(ratio=1)
        expect(page.get_by_role("button", name="Forget the key")).to_be_in_viewport(ratio=1)
        assert (ui.find_violations(), ui.width) == ([], 390)


@pytest.mark.parametrize(
    ("scope", "reason"),
    [
        (("--scope", "run"), "of the scope `admin`"),
        (("--scope", "admin", "--tenant", "acme"), "serve all tenants"),
    ],
)
def test_a_key_that_may_not_see_the_servers_reads_a_sentence(
    page: Page, make_key: Callable[..., str], tmp_path: Path, scope: tuple[str, ...], reason: str
) -> None:
    key = make_key("--name", "ada", *scope)
    arguments = (str(ROOT / "examples"), "--store", "memory:", "--api-keys", "keys.json")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.install()
    with serving(tmp_path, *arguments) as server:
        ui = Ui(page, server.url)
        ui.open("servers")
        ui.field("API key, or token").fill(key)
        ui.press("Go on")
        expect(page.locator(".empty")).to_contain_text("Only an administrator sees the servers")
        expect(page.locator(".empty")).to_contain_text(reason)
        expect(page.get_by_role("alert")).to_have_count(0)
        before = asked.count(f"{server.url}/servers")
        page.clock.run_for(60_000)
        assert asked.count(f"{server.url}/servers") == before  # what is forbidden stays so
        ui.open("workflows")
        expect(page.locator(".card").first).to_be_visible()
        expect(tab(ui)).to_have_count(0)
