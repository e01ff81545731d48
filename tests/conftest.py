"""Fixtures that every test may use: servers on loopback, over real HTTP."""

import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from hypothesis import settings

from tests.support.canary import Canary, plant_canary
from tests.support.live import open_client
from tests.support.seeds import SEED
from tests.support.waiting import DEADLINE
from tests.support.workflows import add_all
from workflow_server.app.server import WorkflowServer

# The same examples in every run, and none that fails because the machine is busy.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

# A client that says nothing of it waits for five seconds, which a busy machine may need.
patience: httpx.Timeout = inspect.signature(httpx.get).parameters["timeout"].default
patience.connect = patience.read = patience.write = patience.pool = DEADLINE


def pytest_report_header() -> str:
    """Return the line of the header that says how to make the same requests again."""
    return f"schemathesis: SCHEMATHESIS_SEED={SEED}"


@pytest.fixture
def anyio_backend() -> str:
    """Return the one event loop that the service runs on."""
    return "asyncio"


@pytest.fixture
async def server() -> WorkflowServer:
    """Return a server with the test workflows, not started."""
    server = WorkflowServer()
    add_all(server)
    return server


@pytest.fixture
async def client(server: WorkflowServer) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the live server."""
    async with open_client(server) as client:
        yield client


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Canary:
    """Return an importable module that nothing may import."""
    return plant_canary(tmp_path, monkeypatch)
