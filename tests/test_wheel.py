"""The wheel serves on its own: built, installed into an empty environment, used elsewhere."""

import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.support.command import run_command, serving, write_echo

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Install the wheel with its locked dependencies into an empty environment."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder)
    pip = (folder / "bin" / "pip", "--disable-pip-version-check", "--quiet", "install")
    run(*pip, "--require-hashes", "-r", ROOT / "requirements.lock")
    run(*pip, "--no-deps", wheel)
    run(folder / "bin" / "pip", "check")
    return str(folder / "bin" / "workflow-server")


def run(*command: str | Path) -> None:
    """Run a command to its end, which must be a good one."""
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_wheel_holds_the_four_packages_whole(wheel: Path) -> None:
    packages = ("app", "routers", "schemas", "stores")
    source = {
        str(file.relative_to(ROOT))
        for package in packages
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == source


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
