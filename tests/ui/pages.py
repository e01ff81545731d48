"""What people do in the web UI, in the words of the page."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Locator, Page, expect

from tests.support.waiting import DEADLINE

PATIENCE = 3 * DEADLINE * 1_000  # milliseconds; the scripts of some pages are large
AXE = Path(__file__).parents[2] / "ui" / "node_modules" / "axe-core" / "axe.min.js"
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


class Ui:
    """The web UI of one server, in one page of a browser."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url

    def open(self, *parts: str, query: str = "") -> None:
        """Open a page of the UI by its deep link."""
        path = "/".join(quote(part, safe="") for part in parts)
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/#/{path}{query}")
        expect(self.page.get_by_role("heading", level=1)).to_be_visible()

    def start(self, workflow: str, **fields: str) -> None:
        """Fill in a workflow's form, run it, and arrive at the run."""
        self.open("workflows", workflow)
        for name, value in fields.items():
            self.field(name).fill(value)
        self.press("Run")
        expect(self.page.get_by_role("heading", name="Events", exact=True)).to_be_visible()

    def field(self, name: str) -> Locator:
        """Find a field of a form by its label."""
        role = self.page.get_by_role
        return role("textbox", name=name, exact=True).or_(role("combobox", name=name, exact=True))

    def press(self, name: str) -> None:
        """Press a button."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def expect_status(self, status: str) -> None:
        """Wait until the run says that it is so."""
        expect(self.page.locator(".run-head .status")).to_have_text(status)

    def panel(self, name: str) -> Locator:
        """Find a part of the page by its heading."""
        heading = self.page.get_by_role("heading", name=name, exact=True)
        return self.page.locator("section.panel").filter(has=heading)

    def node(self, name: str) -> Locator:
        """Find a node of the graph."""
        return self.page.locator(f'[data-node="{name}"]')

    def connection(self) -> Locator:
        """Find what is said of the event stream."""
        return self.page.locator("[data-connection]")

    def row(self, handler_id: str) -> Locator:
        """Find a run in a list."""
        link = self.page.get_by_role("link", name=handler_id, exact=True)
        return self.page.locator("table.runs tbody tr").filter(has=link)

    def note(self, begin: str) -> Locator:
        """Find a note by how it begins."""
        return self.page.locator("p.note").filter(has_text=begin)

    @property
    def width(self) -> int:
        """How wide the page is, in pixels."""
        width: int = self.page.evaluate("document.documentElement.scrollWidth")
        return width

    def find_violations(self) -> list[str]:
        """Return what axe finds, each with the element that it found first."""
        self.page.evaluate(AXE.read_text())
        found: dict[str, Any] = self.page.evaluate("rules => axe.run({runOnly: rules})", WCAG)
        return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found["violations"]]
