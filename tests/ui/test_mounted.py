"""The whole UI below a path of another application."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.command import make_environment
from tests.ui.conftest import ROOT
from tests.ui.pages import Ui

PROGRAM = """
import sys, uvicorn
from fastapi import FastAPI
from tests.support.examples import make_example_server
outer = FastAPI()
outer.mount("/some/where", make_example_server().app)
uvicorn.run(outer, port=int(sys.argv[1]), log_level="error")
"""


@pytest.fixture
def mounted(free_port: int, tmp_path: Path) -> Iterator[str]:
    """Serve the examples below a path, and yield the address of that."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = make_environment(PYTHONPATH=str(ROOT))
    with subprocess.Popen([sys.executable, program, str(free_port)], env=environment) as process:
        url = f"http://127.0.0.1:{free_port}/some/where"
        transport = httpx.HTTPTransport(retries=8)
        with httpx.Client(transport=transport, timeout=30) as client:
            client.get(f"{url}/health").raise_for_status()
        yield url
        process.kill()


def test_a_run_is_started_and_watched_below_a_path(page: Page, mounted: str) -> None:
    ui = Ui(page, mounted)
    ui.start("greeting", name="Ada")
    expect(ui.panel("Result")).to_contain_text("Hello, Ada!")
    page.reload()
    expect(ui.panel("Result")).to_contain_text("Hello, Ada!")
