"""Published packages of other releases, each in a folder of its own outside of the repository.

A folder holds the package alone, as `peers.lock` pins it. What it depends on is that of the
development environment, after it on the path: so an installation takes a second.
"""

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.packaging.wheel import ROOT

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
PEERS = CACHE / "workflow-server" / "peers"
LOCK = Path(__file__).with_name("peers.lock")
# The environment of a process that imports what the development environment holds.
LOCKED = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True)
class Peer:
    """A release of a package on PyPI."""

    package: str
    version: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"

    @property
    def folder(self) -> Path:
        """The folder that the release is installed in."""
        return PEERS / f"{self.package}-{self.version}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process that imports this release in place of the locked one."""
        return {**LOCKED, "PYTHONPATH": os.pathsep.join(map(str, [self.folder, ROOT]))}

    @property
    def source(self) -> Path:
        """The folder that the source of the release is unpacked in, its tests among it."""
        return PEERS / f"{self.package}-{self.version}.source"

    def install(self) -> None:
        """Install the release, where it is not yet; skip the test where there is no way to it."""
        with _make(self.folder) as unfinished:
            if unfinished is not None:
                self._run_pip("install", "--only-binary", ":all:", "--target", unfinished)

    def unpack(self) -> Path:
        """Unpack the source of the release, as `install` does, and return its folder."""
        with _make(self.source) as unfinished:
            if unfinished is not None:
                self._run_pip("download", "--no-binary", ":all:", "--dest", unfinished)
                (packed,) = unfinished.glob("*.tar.gz")
                with tarfile.open(packed) as archive:
                    archive.extractall(unfinished, filter="data")
        (folder,) = (path for path in self.source.iterdir() if path.is_dir())
        return folder

    def _run_pip(self, command: str, *options: str | Path) -> None:
        required = PEERS / f"{self.folder.name}.{os.getpid()}.txt"
        required.write_text(_LOCKED_LINES[self] + "\n", encoding="utf-8")
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", command, "--quiet")
        done = subprocess.run(
            (*pip, "--no-deps", "--require-hashes", *options, "--requirement", required),
            capture_output=True,
            text=True,
            check=False,
        )
        required.unlink()
        if done.returncode:
            if os.environ.get("REQUIRE_ALL") == "1":
                pytest.fail(f"{self} cannot be had: {done.stderr[-2000:]}")
            pytest.skip(f"{self} cannot be had")


@contextmanager
def _make(folder: Path) -> Iterator[Path | None]:
    """Yield a folder that becomes this one when it is filled; none where this one is there."""
    if folder.exists():
        yield None
        return
    PEERS.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=PEERS) as parent:
        unfinished = Path(parent) / "unfinished"
        unfinished.mkdir()
        yield unfinished
        try:
            unfinished.replace(folder)
        except OSError:  # another process was first
            if not folder.exists():
                raise


def _read_lock() -> dict[Peer, str]:
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    return {Peer(*line.split()[0].split("==")): line for line in pinned}


_LOCKED_LINES = _read_lock()
# Of each package, oldest first.
RELEASES = tuple(_LOCKED_LINES)
