"""A server that wants a key."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.support.command import run_command, serving
from tests.ui.conftest import ROOT
from tests.ui.pages import Ui


@pytest.fixture
def key(tmp_path: Path) -> str:
    """Make a key that may run workflows, in `keys.json`."""
    arguments = ("--name", "ada", "--scope", "run", "--file", "keys.json")
    created = run_command(tmp_path, "key", "create", *arguments)
    assert created.returncode == 0, created.stderr
    return created.stdout.strip()


def test_a_key_is_asked_for_and_used_for_everything(page: Page, key: str, tmp_path: Path) -> None:
    arguments = (str(ROOT / "examples"), "--store", "memory:", "--api-keys", "keys.json")
    with serving(tmp_path, *arguments) as server:
        ui = Ui(page, server.url)
        ui.open("workflows", "greeting")
        expect(page.get_by_role("heading", level=1)).to_have_text("This server wants a key")
        ui.field("API key, or token").fill("wrong")
        ui.press("Go on")
        expect(page.get_by_text("not, or no longer, accepted")).to_be_visible()
        ui.field("API key, or token").fill(key)
        ui.press("Go on")
        ui.field("name").fill("Ada")
        ui.press("Run")
        expect(ui.panel("Result")).to_contain_text("Hello, Ada!")
        page.reload()
        expect(ui.panel("Result")).to_contain_text("Hello, Ada!")
        ui.press("Forget the key")
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text("This server wants a key")
