"""The wheel serves on its own: built, installed into an empty environment, used elsewhere."""

import zipfile
from pathlib import Path

import httpx
import pytest

from tests.packaging.wheel import PACKAGES, ROOT, build_wheel, install_wheel
from tests.support.command import run_command, serving, write_echo

FACADE = ROOT / "app" / "packaging" / "facade"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Install the wheel with its locked dependencies into an empty environment."""
    programs = install_wheel(wheel, tmp_path_factory.mktemp("environment"))
    return str(programs / "workflow-server")


def test_the_wheel_holds_the_four_packages_whole_below_one_name(wheel: Path) -> None:
    source = {
        f"workflow_server/{file.relative_to(ROOT)}"
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and not {"__pycache__", "packaging"} & set(file.parts)
    }
    facade = {f"workflow_server/{file.name}" for file in FACADE.iterdir() if file.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == source | facade
    assert facade > {"workflow_server/__init__.py", "workflow_server/py.typed"}


def test_the_installed_command_serves_a_folder_elsewhere(command: str, tmp_path: Path) -> None:
    write_echo(tmp_path / "flows" / "app.py", "echo = Echo()")
    with serving(tmp_path, "flows", command=command) as server:
        url = f"{server.url}/workflows/echo/run"
        handler = httpx.post(url, json={"start_event": {"words": "from the wheel"}}).json()
        pages = [httpx.get(server.url + path).status_code for path in ("/docs", "/redoc")]
    assert (handler["status"], handler["result"]["value"]) == (
        "completed",
        {"words": "from the wheel"},
    )
    assert pages == [200, 200]


def test_the_installed_command_writes_the_openapi_document(command: str, tmp_path: Path) -> None:
    result = run_command(tmp_path, "openapi", "--output", "openapi.json", command=command)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert (tmp_path / "openapi.json").is_file()


def test_the_installed_command_serves_a_file_with_a_former_name(
    command: str, tmp_path: Path
) -> None:
    lines = (
        "from app.server import WorkflowServer",
        "import workflow_server",
        "assert WorkflowServer is workflow_server.WorkflowServer",
        "mine = WorkflowServer()",
        "mine.add_workflow('echo', Echo())",
    )
    write_echo(tmp_path / "app.py", *lines)
    write_echo(tmp_path / "flows.py", "from stores.base import Store", "other = Echo()")
    result = run_command(tmp_path, "openapi", "app.py", "flows.py", command=command)
    assert (result.returncode, result.stderr) == (0, "")
    assert "/workflows/echo/run" in result.stdout
    assert "/workflows/other/run" in result.stdout
