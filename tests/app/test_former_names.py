"""One name is installed, `workflow_server`; what our packages were called before is the user's."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.command import run_command, serving, write, write_echo
from tests.support.documents import ROOT, run

OURS = ("app", "routers", "schemas", "stores")
MODULES = ("app.handlers.registry", "app.server", "routers", "schemas.events", "stores.base")
COMPARE = """
import sys
from importlib import import_module
for name in sys.argv[1:]:
    assert import_module(name) is import_module(f"workflow_server.{name}"), name
"""
SHOW = "from {} import HandlerRegistry; print(HandlerRegistry.__module__)"
FIND = "import sys; from importlib.util import find_spec; print([*map(find_spec, sys.argv[1:])])"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the folder of a project whose packages are called as ours were."""
    for name in OURS:
        write(tmp_path / name / "inner/words.py", f"WORDS = {name!r}")
    write_echo(
        tmp_path / "app/agents/flow.py",
        "from app.inner.words import WORDS as app",
        "from routers.inner.words import WORDS as routers",
        "from schemas.inner.words import WORDS as schemas",
        "from stores.inner.words import WORDS as stores",
        "assert (app, routers, schemas, stores) == ('app', 'routers', 'schemas', 'stores')",
        "greet = Echo()",
    )
    write(
        tmp_path / "app/main.py",
        "from fastapi import FastAPI",
        "from workflow_server import WorkflowServer",
        "from app.agents.flow import greet",
        "server = WorkflowServer()",
        "server.add_workflow('greet', greet)",
        "site = FastAPI()",
        "site.mount('/flows', server.app)",
    )
    return tmp_path


@pytest.mark.parametrize("source", ["app.agents.flow:greet", "app.main:server"])
def test_a_module_of_a_project_called_app_is_served(project: Path, source: str) -> None:
    request = {"start_event": {"words": "a"}}
    with serving(project, source) as server:
        answer = httpx.post(f"{server.url}/workflows/greet/run", json=request)
    assert answer.json()["result"]["value"] == {"words": "a"}


@pytest.mark.parametrize("source", ["app/agents/flow.py", "app/agents", "{}/app/agents/flow.py"])
def test_a_file_of_a_project_called_app_is_served(
    project: Path, tmp_path_factory: pytest.TempPathFactory, source: str
) -> None:
    write_echo(
        project / "app/agents/flow.py", "from app.inner.words import WORDS", "greet = Echo()"
    )
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    folder = elsewhere if source.startswith("{}") else project
    result = run_command(folder, "openapi", source.format(project))
    assert (result.returncode, result.stderr) == (0, "")
    assert "/workflows/greet/run" in result.stdout


def test_a_project_called_app_embeds_the_server(project: Path) -> None:
    program = "from app.main import site; print(site.routes[-1].path)"
    result = run("python", "-c", program, folder=project)
    assert (result.stdout, result.stderr) == ("/flows\n", "")


def test_nothing_else_is_installed(tmp_path: Path) -> None:
    result = run("python", "-c", FIND, *OURS, folder=tmp_path)
    assert result.stdout == "[None, None, None, None]\n"


@pytest.mark.parametrize("names", [MODULES, MODULES[::-1]])
def test_a_clone_has_one_module_by_either_name(names: tuple[str, ...]) -> None:
    subprocess.run([sys.executable, "-c", COMPARE, *names], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", ["app.handlers.registry", "workflow_server.app.handlers.registry"])
def test_a_class_has_one_name(name: str) -> None:
    shown = subprocess.check_output([sys.executable, "-c", SHOW.format(name)], cwd=ROOT, text=True)
    assert shown == "workflow_server.app.handlers.registry\n"


def test_the_package_is_the_command(tmp_path: Path) -> None:
    result = run("python", "-m", "workflow_server", "--help", folder=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == run_command(tmp_path, "--help").stdout
