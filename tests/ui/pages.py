"""What people do in the web UI, in the words of the page."""

from urllib.parse import quote

from playwright.sync_api import Locator, Page, expect


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
