"""The contract suite against the installed wheel: `python -m tests.packaging.contract FOLDER`.

It runs in a folder with packages of its own that are called as ours were, and with the clone out of
reach: what is tested is what is shipped. Further arguments are pytest's.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.packaging.wheel import PACKAGES, ROOT, build_wheel, install_wheel, lend_tools
from tests.support.command import write

SUITE = (
    "tests/routers",
    *("tests/app/test_cli.py", "tests/app/test_server.py", "tests/app/test_starting.py"),
    "tests/packaging/test_facade.py",
)
LOCATE = "import workflow_server.app; print(workflow_server.app.__file__)"
COPIED = ("tests", "examples", "pyproject.toml")


def lay_out(folder: Path) -> None:
    """Put the tests into a folder, beside packages that nobody may import."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    for name in PACKAGES:
        write(folder / name / "__init__.py", f"raise AssertionError('{name} is the user\\'s own')")


def main() -> int:
    """Run the suite, and return pytest's status."""
    folder, *options = sys.argv[1:]
    place = Path(folder).resolve()
    lay_out(place / "project")
    programs = install_wheel(build_wheel(place / "wheel"), place / "environment")
    lend_tools(programs / "python")
    python, project = str(programs / "python"), place / "project"
    tested = subprocess.check_output([python, "-c", LOCATE], cwd=project, text=True)
    assert Path(tested.strip()).is_relative_to(programs.parent), tested
    command = (python, "-m", "pytest", "-q", *SUITE, *options)
    return subprocess.run(command, cwd=project, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
