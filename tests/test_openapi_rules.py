"""The OpenAPI document by the rules of spectral and redocly: all that they recommend, no exception.

What they would load from elsewhere (their makers' measurements and notices) is turned off.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

from tests.support.examples import make_example_server
from tests.support.workflows import add_all
from workflow_server.app.access import Access
from workflow_server.app.server import WorkflowServer

ROOT = Path(__file__).parents[1]
RULES = ROOT / "tests/openapi-rules"
INSTALLED = ROOT / "build/openapi-rules/node_modules/.bin"
CONFIGURED = {
    "spectral": ("--quiet", "--ruleset", RULES / ".spectral.yaml"),
    "redocly": ("--config", RULES / "redocly.yaml"),
}
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}


def make_guarded() -> WorkflowServer:
    """Return a server of all test workflows, which asks for credentials, below a path."""
    server = WorkflowServer(access=Access(), root_path="/flows")
    add_all(server)
    return server


def make_silent(*names: str) -> WorkflowServer:
    """Return a server of workflows of these names, without a docstring."""

    class Silent(Workflow):
        @step
        async def end(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    server = WorkflowServer()
    for name in names:
        server.add_workflow(name, Silent())
    return server


SERVERS: dict[str, Callable[[], WorkflowServer]] = {
    "empty": WorkflowServer,
    "examples": make_example_server,
    "guarded": make_guarded,
    "odd": lambda: make_silent("events", "run", "1", "a-b", "a_b", "A.b"),
    "encoded": lambda: make_silent("ein Gruß", "漢字", "a?b#c%41", "a b"),
}
# Spectral looks an operation up by its path without percent-encoding, and so finds nothing of it.
CASES = [
    (linter, name)
    for linter in CONFIGURED
    for name in SERVERS
    if (linter, name) != ("spectral", "encoded")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the documents of all servers."""
    missing = [name for name in CONFIGURED if not (INSTALLED / name).exists()]
    if missing and os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"{' and '.join(missing)} cannot be found: `make linters` installs them")
    if missing:
        pytest.skip(f"{' and '.join(missing)} cannot be found: `make linters` installs them")
    folder = tmp_path_factory.mktemp("openapi-rules")
    write(folder / "faulty.json", faulty())
    for name, make in SERVERS.items():
        write(folder / f"{name}.json", make().openapi_schema())
    return folder


def write(file: Path, document: dict[str, Any]) -> None:
    file.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def faulty() -> dict[str, Any]:
    """Return a document that breaks a rule of either linter."""
    document = WorkflowServer().openapi_schema()
    health = {**document["paths"]["/health"]["get"], "tags": ["unknown"]}
    del health["security"], health["summary"]
    return {**document, "servers": [], "paths": {"/health": {"get": health}}}


def execute(folder: Path, linter: str, document: str) -> Any:
    """Return what a linter prints of a document."""
    command = [INSTALLED / linter, "lint", document, "--format", "json", *CONFIGURED[linter]]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def lint(folder: Path, linter: str, name: str) -> set[str]:
    """Return the rules that a document breaks, each with the place."""
    found = execute(folder, linter, f"{name}.json")
    if linter == "spectral":
        return {f"{fault['code']}: {'.'.join(map(str, fault['path']))}" for fault in found}
    faults = found["problems"]
    return {f"{fault['ruleId']}: {fault['location'][0].get('pointer')}" for fault in faults}


@pytest.mark.parametrize(("linter", "name"), CASES)
def test_a_linter_reports_nothing(folder: Path, linter: str, name: str) -> None:
    assert lint(folder, linter, name) == set()


@pytest.mark.parametrize(
    ("linter", "rule"), [("spectral", "oas3-api-servers"), ("redocly", "security-defined")]
)
def test_a_linter_reports_a_fault(folder: Path, linter: str, rule: str) -> None:
    assert rule in {fault.partition(":")[0] for fault in lint(folder, linter, "faulty")}
