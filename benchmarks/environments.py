"""The virtual environments of the subjects: each as `pip install` leaves it, kept in `.bench/`."""

import hashlib
import json
import subprocess
import sys
import venv
from collections.abc import Iterable
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent
BENCH = CHECKOUT / ".bench"
PEER_REQUIREMENTS = Path(__file__).with_name("peer-requirements.txt")
PICTURE_REQUIREMENTS = Path(__file__).with_name("picture-requirements.txt")
WHEEL_SOURCES = ("app", "routers", "schemas", "stores")
_PIP = ("-m", "pip", "--disable-pip-version-check")


def prepare_ours() -> Path:
    """Return the `bin` folder of an environment with this checkout's wheel, as it is now."""
    sources = [
        file
        for package in WHEEL_SOURCES
        for file in (CHECKOUT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    ]
    return _prepare("ours", [CHECKOUT / "pyproject.toml", *sources], [str(CHECKOUT)])


def prepare_peer() -> Path:
    """Return the `bin` folder of an environment with the published peer."""
    return _prepare("peer", [PEER_REQUIREMENTS], ["--requirement", str(PEER_REQUIREMENTS)])


def prepare_picture() -> Path:
    """Return the `bin` folder of an environment that can draw."""
    return _prepare("picture", [PICTURE_REQUIREMENTS], ["-r", str(PICTURE_REQUIREMENTS)])


def list_packages(bin_folder: Path) -> dict[str, str]:
    """Return the packages of an environment and their versions."""
    listing = subprocess.run(
        [bin_folder / "python", *_PIP, "list", "--format", "json"],
        check=True,
        capture_output=True,
    )
    return {package["name"]: package["version"] for package in json.loads(listing.stdout)}


def _prepare(name: str, sources: Iterable[Path], requirements: list[str]) -> Path:
    """Make the environment afresh unless it was made from the same sources."""
    environment = BENCH / name
    bin_folder = environment / ("Scripts" if sys.platform == "win32" else "bin")
    stamp = environment / "made-from"
    digest = _digest(sources)
    if stamp.is_file() and stamp.read_text() == digest:
        return bin_folder
    sys.stderr.write(f"installing {name} …\n")
    venv.create(environment, clear=True, with_pip=True)
    subprocess.run([bin_folder / "python", *_PIP, "install", "-qq", *requirements], check=True)
    stamp.write_text(digest)
    return bin_folder


def _digest(sources: Iterable[Path]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for file in sorted(sources):
        digest.update(file.relative_to(CHECKOUT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def size_of_wheel(bin_folder: Path, distribution: str) -> int:
    """Return the bytes of the files that a distribution has installed, itself alone."""
    code = (
        "import sys; from importlib.metadata import files;"
        "print(sum(f.size or 0 for f in files(sys.argv[1])))"
    )
    output = subprocess.run(
        [bin_folder / "python", "-c", code, distribution], check=True, capture_output=True
    )
    return int(output.stdout)


def size_of_environment(bin_folder: Path) -> int:
    """Return the bytes of an environment's packages, but for pip and compiled Python."""
    return sum(
        file.stat().st_size
        for file in (bin_folder.parent / "lib").rglob("*")
        if file.is_file()
        and not file.is_symlink()
        and "__pycache__" not in file.parts
        and not any(part == "pip" or part.startswith("pip-") for part in file.parts)
    )
