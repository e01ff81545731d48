"""A clone of the repository, and what is built from it."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.packaging.wheel import ROOT, run
from tests.support.documents import require

# What a clone does not hold.
MADE = (
    *(".git", ".venv*", ".editable", "*_cache", "__pycache__"),
    *("node_modules", "ui_dist", "build", "dist"),
)


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
