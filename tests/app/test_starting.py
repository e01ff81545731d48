"""A start imports what it needs, which is most of the time and memory that it takes."""

from pathlib import Path

import httpx
import pytest

from tests.support.command import serving, write

WORKFLOW = """
import sys

from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

class Listing(Workflow):
    @step
    async def list_modules(self, event: StartEvent) -> StopEvent:
        return StopEvent(result=sorted(sys.modules))

listing = Listing()
"""

OF_OTHER_SERVERS = {
    *("asyncpg", "workflow_server.stores.postgres"),
    *(
        "workflow_server.app.access.keys",
        "workflow_server.app.access.tokens",
        "jwt",
        "cryptography",
    ),
    *("opentelemetry.sdk", "opentelemetry.exporter"),
    *("h11", "websockets", "yaml", "watchfiles"),
}
OF_THE_ENVIRONMENT = {"email_validator", "greenlet", "pygments", "rich", "structlog", "typer"}
OF_LATER = {
    "workflow_server.app.commands.openapi",
    "ctypes",
    "workflow_server.routers.typed_operations",
}
OF_SQLITE = {"filelock", "sqlite3", "workflow_server.stores.sqlite"}


def list_modules(folder: Path, *flags: str) -> set[str]:
    """Return the modules that a server has imported when it has carried out a run."""
    write(folder / "flows.py", WORKFLOW)
    with serving(folder, "flows.py", *flags) as server:
        answer = httpx.post(f"{server.url}/workflows/listing/run", json={})
    return set(answer.json()["result"]["value"]["result"])


@pytest.mark.parametrize(
    ("flags", "useless"),
    [
        ((), OF_OTHER_SERVERS | OF_THE_ENVIRONMENT | OF_LATER),
        (("--store", "memory:"), OF_OTHER_SERVERS | OF_THE_ENVIRONMENT | OF_LATER | OF_SQLITE),
    ],
)
def test_a_server_imports_nothing_that_it_has_no_use_for(
    flags: tuple[str, ...], useless: set[str], tmp_path: Path
) -> None:
    modules = list_modules(tmp_path, *flags)
    assert modules >= {"fastapi", "uvicorn", "workflows"}
    assert modules & useless == set()
