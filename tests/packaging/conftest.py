"""A clone of the repository, and what is built from it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import require

ROOT = Path(__file__).parents[2]
# What a clone does not hold.
MADE = (".git", ".venv*", "*_cache", "__pycache__", "node_modules", "ui_dist", "build", "dist")


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the source tree, without what is built in it."""
    folder = tmp_path_factory.mktemp("clone") / "workflow-server"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*MADE))
    return folder


@pytest.fixture(scope="session")
def distributions(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and the wheel from that, and return their folder."""
    require("node", "npm")
    folder = tmp_path_factory.mktemp("distributions")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, clone)
    return folder


def run(*command: str | Path) -> None:
    """Run a command to its end, which must be a good one."""
    words = [str(word) for word in command]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
