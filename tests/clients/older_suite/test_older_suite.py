"""The tests of the server in `llama-index-workflows` 2.11.1 that ask it as a client does."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.peers import LOCKED, Peer

OLDER = Peer("llama-index-workflows", "2.11.1")
ASYNCIO = Peer("pytest-asyncio", "1.5.0")
SUITES = (
    "tests/server/test_server_endpoints.py",
    "tests/server/test_server_live_http.py",
    "tests/client/test_client.py",
)
PLUGINS = ("-p", "plugin", "-p", "pytest_asyncio")
REASONS = tomllib.loads(Path(__file__).with_name("failures.toml").read_text(encoding="utf-8"))
ALWAYS, SOMETIMES = (
    {
        test
        for reason in REASONS["reason"]
        if reason.get("sometimes", False) is sometimes
        for test in reason["tests"]
    }
    for sometimes in (False, True)
)


# Their tests give a run, or a server, a few seconds: on a slow machine one may need a second try.
TRIES = 5

Outcomes = dict[str, bool]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Run the suites where they are unpacked, and return whether each test passed."""
    ASYNCIO.install()
    OLDER.install()
    report = tmp_path_factory.mktemp("older") / "report.xml"
    outcomes = run(SUITES, report)
    for _ in range(TRIES - 1):
        failed = {test for test, passed in outcomes.items() if not passed} - ALWAYS - SOMETIMES
        if failed:
            outcomes.update(run([*map(find_node, failed)], report))
    return outcomes


def run(nodes: Sequence[str], report: Path) -> Outcomes:
    """Run tests of the older server, and return whether each one passed."""
    # Their modules are called `tests`, as ours are: so the plugin is found in its own folder.
    path = os.pathsep.join(map(str, [Path(__file__).parent, ASYNCIO.folder]))
    options = ("-c", "pyproject.toml", "-p", "no:cacheprovider", f"--junit-xml={report}")
    ran = subprocess.run(
        (sys.executable, "-m", "pytest", "-q", *PLUGINS, *options, *nodes),
        cwd=OLDER.unpack(),
        env={**LOCKED, "PYTHONPATH": path, "OLDER_PACKAGE": str(OLDER.folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr  # nothing but failures of tests
    return {
        f"{case.attrib['classname'].rpartition('.')[2]}::{case.attrib['name']}": len(case) == 0
        for case in ElementTree.parse(report).iter("testcase")
    }


def find_node(test: str) -> str:
    """Return the name of a test as pytest takes it."""
    module, _, name = test.partition("::")
    (suite,) = (suite for suite in SUITES if Path(suite).stem == module)
    return f"{suite}::{name}"


def test_the_older_suite_fails_in_what_is_listed(outcomes: Outcomes) -> None:
    failed = {test for test, passed in outcomes.items() if not passed}
    assert failed - SOMETIMES == ALWAYS


def test_the_older_suite_is_run_whole(outcomes: Outcomes) -> None:
    assert len(outcomes) == 72
    assert outcomes.keys() >= ALWAYS | SOMETIMES
