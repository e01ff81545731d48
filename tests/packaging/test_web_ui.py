"""The build of the web UI, with stand-ins for Node.js and npm."""

import os
from pathlib import Path

import pytest

from tests.support.command import write
from workflow_server.app.packaging.web_ui import build

NPM = (
    "echo $* >>../commands",
    "mkdir -p ../routers/ui_dist",
    "touch ../routers/ui_dist/index.html",
)
COMMANDS = "ci --ignore-scripts --no-audit --no-fund\nrun build\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a source tree without a built UI, beside a Node.js and an npm."""
    put_program(tmp_path, "node", "echo v22.1.0")
    put_program(tmp_path, "npm", *NPM)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    root = tmp_path / "source"
    write(root / "ui" / "package.json")
    write(root / "ui" / "src" / "main.tsx")
    return root


def put_program(folder: Path, name: str, *lines: str) -> None:
    """Write a shell script that is found before any other program of its name."""
    write(folder / "bin" / name, "#!/bin/sh", *lines).chmod(0o755)


def read_commands(root: Path) -> str:
    """Return what npm was called with."""
    file = root / "commands"
    return file.read_text() if file.exists() else ""


def test_a_ui_that_is_not_built_is_built(root: Path) -> None:
    assert build(root) is None
    assert read_commands(root) == COMMANDS


def test_a_ui_that_is_built_is_left_as_it_is(root: Path) -> None:
    build(root)
    assert build(root) is None
    assert read_commands(root) == COMMANDS


def test_a_ui_that_is_older_than_its_source_is_built_again(root: Path) -> None:
    build(root)
    page = root / "routers" / "ui_dist" / "index.html"
    os.utime(root / "ui" / "src" / "main.tsx", (0, page.stat().st_mtime + 1))
    assert build(root) is None
    assert read_commands(root) == 2 * COMMANDS


def test_a_tree_without_the_source_of_the_ui_is_left_as_it_is(tmp_path: Path) -> None:
    assert build(tmp_path) is None


@pytest.mark.parametrize("told", ["echo v20.18.9", "exit 1"])
def test_without_a_new_enough_node_it_is_not_built(root: Path, told: str) -> None:
    put_program(root.parent, "node", told)
    assert build(root) == "there is no Node.js 20.19 or newer"


def test_without_any_node_it_is_not_built(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root))
    assert build(root) == "there is no Node.js 20.19 or newer"


def test_a_build_that_fails_says_what_failed(root: Path) -> None:
    put_program(root.parent, "npm", "echo no network >&2; exit 1")
    assert build(root) == ("`npm ci --ignore-scripts --no-audit --no-fund` failed: no network\n")


def test_a_missing_npm_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root.parent / "bin" / "npm").unlink()
    monkeypatch.setenv("PATH", str(root.parent / "bin"))
    put_program(root.parent, "node", "echo v22.1.0")
    assert build(root) == "[Errno 2] No such file or directory: 'npm'"
