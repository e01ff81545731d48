"""Environments for tests: of the wheel with the locked packages, or with the tools of another."""

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "routers", "schemas", "stores")


def build_wheel(folder: Path) -> Path:
    """Build the wheel into a folder, and return it."""
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    return next(folder.glob("*.whl"))


def install_wheel(wheel: Path, environment: Path) -> Path:
    """Make an environment of the wheel and what is locked, and return its folder of programs."""
    programs = environment / "bin"
    pip = (programs / "pip", "--disable-pip-version-check", "--quiet")
    run(sys.executable, "-m", "venv", "--clear", environment)
    run(*pip, "install", "--require-hashes", "-r", ROOT / "requirements.lock")
    run(*pip, "install", "--no-deps", wheel)
    run(*pip, "check")
    return programs


def lend_tools(python: Path) -> None:
    """Let an environment find pytest and what tests import, behind all that it has itself."""
    show = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.check_output([python, "-c", show], text=True).strip()
    Path(packages, "tools.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")


def run(*command: str | Path) -> None:
    """Run a command to its end, which must be a good one."""
    words = [str(word) for word in command]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
