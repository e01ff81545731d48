"""Unit and contract tests with the oldest packages that pyproject.toml allows.

`python -m tests.packaging.oldest FOLDER` makes an environment of them there. Further arguments are
pytest's.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.packaging.wheel import ROOT, lend_tools, run

# Without the search for inputs, and without what waits for a deadline.
SUITE = (
    *("tests/engine", "tests/runs", "tests/streams", "tests/scheduling", "tests/telemetry"),
    "tests/routers",
    "--deselect=tests/routers/test_health.py::test_a_server_is_ready_while_it_resumes",
    *("tests/access/test_tokens.py", "tests/app/test_settings.py", "tests/app/test_options.py"),
)


def main() -> int:
    """Run the suite, and return pytest's status."""
    folder, *options = sys.argv[1:]
    environment = Path(folder).resolve()
    os.environ["WORKFLOW_SERVER_BUILD_UI"] = "no"
    uv = str(Path(sys.executable).with_name("uv"))
    python = environment / "bin" / "python"
    run(uv, "venv", "--clear", "--python", sys.executable, environment)
    install = (uv, "pip", "install", "--resolution", "lowest-direct", "--python", python)
    run(*install, "--editable", f"{ROOT}[jwt,otel]")
    lend_tools(python)
    command = (str(python), "-m", "pytest", "-q", *SUITE, *options)
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
