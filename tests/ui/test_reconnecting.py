"""A server that goes away and comes back in mid-stream."""

from pathlib import Path

import httpx
from playwright.sync_api import Page, expect

from tests.support.command import serving
from tests.ui.conftest import FLOWS
from tests.ui.pages import Ui

EVERY_SEQUENCE = """() => {
    const cells = document.querySelectorAll('.log-box .sequence');
    const shown = [...cells].map((cell) => +cell.textContent);
    return shown.every((sequence, at) => at === 0 || sequence > shown[at - 1]);
}"""


def test_the_log_goes_on_after_the_server_was_restarted(
    page: Page, free_port: int, tmp_path: Path
) -> None:
    arguments = (FLOWS, "--store", f"sqlite:///{tmp_path}/runs.db", "--port", str(free_port))
    body = {"start_event": {"count": 40, "pause": 0.05}, "handler_id": "restarted"}
    with serving(tmp_path, *arguments) as server:
        httpx.post(f"{server.url}/workflows/ticker/run-nowait", json=body)
        ui = Ui(page, server.url)
        ui.open("runs", "restarted")
        expect(ui.connection()).to_have_attribute("data-connection", "live")
        expect(ui.panel("Events")).to_contain_text('"number":3}')
    expect(ui.connection()).to_have_attribute("data-connection", "reconnecting")
    expect(ui.connection()).to_contain_text("connection lost")
    with serving(tmp_path, *arguments):
        ui.expect_status("completed")
        expect(ui.connection()).to_have_attribute("data-connection", "ended")
        expect(ui.panel("Events")).to_contain_text("StopEvent")
        assert page.evaluate(EVERY_SEQUENCE) is True
