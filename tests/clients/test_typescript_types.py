"""TypeScript types that `openapi-typescript` makes of the document: what they allow, and refuse."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.examples import make_example_server

PROGRAMS = Path(__file__).with_name("typescript-types")
INSTALL = ("npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund")
# By default a field that has a default is one that must be given.
GENERATE = ("openapi-typescript", "openapi.json", "-o", "api.d.ts", "--default-non-nullable=false")
REPORTED = re.compile(r"(\S+)\((\d+),\d+\): error (TS\d+)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the programs, and the types of a server of all examples."""
    missing = [tool for tool in ("node", "npm") if shutil.which(tool) is None]
    if missing and os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"{' and '.join(missing)} cannot be found")
    if missing:
        pytest.skip(f"{' and '.join(missing)} cannot be found")
    folder = tmp_path_factory.mktemp("typescript-types") / "programs"
    shutil.copytree(PROGRAMS, folder, ignore=shutil.ignore_patterns("node_modules"))
    document = json.dumps(make_example_server().openapi_schema())
    (folder / "openapi.json").write_text(document, encoding="utf-8")
    for command in (INSTALL, ("npx", "--no-install", *GENERATE)):
        done = execute(folder, *command)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def execute(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_program_is_checked_against_the_types(folder: Path) -> None:
    wrong = (folder / "wrong.ts").read_text(encoding="utf-8").splitlines()
    marked = [(number, line.split()[-1]) for number, line in enumerate(wrong, 1) if "// TS" in line]
    reported = REPORTED.findall(execute(folder, "npx", "--no-install", "tsc").stdout)
    assert [(file, int(line), error) for file, line, error in reported] == [
        ("wrong.ts", line, error) for line, error in marked
    ]
