"""Builders of images and runners of containers: podman, docker, buildah."""

import json
import os
import secrets
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.documents import ROOT

# What a build needs here and nowhere else, such as bases: `--build-arg BASE=localhost/python`.
BUILD_OPTIONS = shlex.split(os.environ.get("IMAGE_BUILD_OPTIONS", ""))
HARDENED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs=/tmp")
GRACE = 10
DEADLINE = 60.0
PAUSE = 0.1


def find_builder() -> str:
    """Return a program that builds images; fail where there is none."""
    return _find("podman", "docker", "buildah")


def find_runner() -> str:
    """Return a program that runs containers; fail where there is none."""
    return _find("podman", "docker")


def find_composer() -> list[str]:
    """Return the command that runs compose files; fail where there is none."""
    for command in (["podman-compose"], ["docker", "compose"]):
        if shutil.which(command[0]) and _call(*command, "version").returncode == 0:
            return command
    pytest.fail("Neither podman-compose nor docker compose works here. Install one of them.")


def _find(*programs: str) -> str:
    for program in programs:
        # A docker without its daemon is of no use.
        if shutil.which(program) and _call(program, "info").returncode == 0:
            return program
    pytest.fail(f"None of these works here: {', '.join(programs)}. Install one of them.")


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)


def build(tag: str, context: Path = ROOT, *options: str) -> str:
    """Build the image of a folder under a tag, and return the tag."""
    builder = find_builder()
    # The format of OCI has no health checks.
    layered = {"podman": ["--format=docker"], "buildah": ["--format=docker", "--layers"]}
    command = [builder, "build", *layered.get(builder, []), *BUILD_OPTIONS, *options]
    result = _call(*command, "--tag", tag, str(context))
    assert result.returncode == 0, f"{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
    return tag


def build_revision(tag: str, revision: str, folder: Path) -> str:
    """Build the image of a commit of this repository under a tag, and return the tag."""
    archive = folder / "source.tar"
    subprocess.run(["git", "archive", "-o", archive, revision], cwd=ROOT, check=True)
    shutil.unpack_archive(archive, folder / "source", filter="data")
    return build(tag, folder / "source")


def inspect(image: str) -> dict[str, Any]:
    """Return what the engine knows about an image."""
    found: list[dict[str, Any]] = json.loads(_call(find_runner(), "image", "inspect", image).stdout)
    return found[0]


def run_once(image: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in place of the server, hardened and without a network."""
    entrypoint, *arguments = command
    runner = [find_runner(), "run", "--rm", "--network=none", *HARDENED]
    return _call(*runner, f"--entrypoint={entrypoint}", image, *arguments)


@dataclass(frozen=True)
class Container:
    """A server in a container, which listens on a port of this machine's loopback."""

    runner: str
    name: str
    url: str

    def call(self, command: str, *arguments: str) -> str:
        """Carry out a command of the engine on the container, and return what it printed."""
        result = _call(self.runner, command, *arguments, self.name)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside the server."""
        return _call(self.runner, "exec", self.name, *command)

    def stop(self) -> int:
        """Stop the container and return its exit code: 137 where its grace period was too short."""
        self.call("stop", "--time", str(GRACE))
        return int(self.call("inspect", "--format", "{{.State.ExitCode}}"))

    def logs(self) -> str:
        """Return what the server has written to either output."""
        result = _call(self.runner, "logs", self.name)
        return result.stdout + result.stderr

    def wait_ready(self) -> None:
        """Return once the server takes runs; releases without a /readyz are waited for too."""
        until(lambda: is_ready(self.url), self.logs)


def is_ready(url: str) -> bool:
    """Whether a server answers that it is healthy."""
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def running(image: str, port: int, *options: str) -> Iterator[Container]:
    """Run an image, hardened, from the time when it takes runs to the end of the block.

    It shares this machine's network, so that no network of the engine's has to work.
    """
    with started(image, *on_port(port), *options) as name:
        container = Container(find_runner(), name, f"http://127.0.0.1:{port}")
        container.wait_ready()
        yield container


@contextmanager
def running_alone(image: str, *options: str) -> Iterator[Container]:
    """Run an image, hardened, with all its defaults and no network; it may not listen yet."""
    with started(image, "--network=none", *options) as name:
        yield Container(find_runner(), name, "http://127.0.0.1:8000")


@contextmanager
def composed(url: str, **variables: str) -> Iterator[Callable[..., None]]:
    """Bring up compose.yaml, which serves at an address, and remove all of it at the end.

    Yields a function that carries out a command such as `stop`. The image must be there already.
    """
    compose = [*find_composer(), "--project-name", f"image-test-{secrets.token_hex(4)}"]

    def call(*command: str) -> None:
        result = subprocess.run(
            [*compose, *command],
            cwd=ROOT,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        if command[0] in ("up", "start"):
            until(lambda: is_ready(url), lambda: result.stdout + result.stderr)

    try:
        call("up", "--detach", "--no-build")
        yield call
    finally:
        call("down", "--volumes")


def on_port(port: int) -> tuple[str, ...]:
    """Return the options that make a container listen on this machine's loopback only."""
    listen = ("--env=WORKFLOW_SERVER_HOST=127.0.0.1", f"--env=WORKFLOW_SERVER_PORT={port}")
    return ("--network=host", *listen)


@contextmanager
def started(image: str, *options: str) -> Iterator[str]:
    """Start a container, hardened, and remove it at the end; yield its name."""
    runner = find_runner()
    name = f"image-test-{secrets.token_hex(4)}"
    result = _call(runner, "run", "--detach", f"--name={name}", *HARDENED, *options, image)
    try:
        assert result.returncode == 0, result.stderr
        yield name
    finally:
        _call(runner, "rm", "--force", "--volumes", name)


@contextmanager
def volume() -> Iterator[str]:
    """Make a volume, and remove it at the end; yield the option that mounts it at /data."""
    runner = find_runner()
    name = f"image-test-{secrets.token_hex(4)}"
    _call(runner, "volume", "create", name)
    try:
        yield f"--volume={name}:/data"
    finally:
        _call(runner, "volume", "rm", "--force", name)


def until(condition: Callable[[], bool], explain: Callable[[], str]) -> None:
    """Return once the condition holds; fail with an explanation when it does not in time."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, explain()
        time.sleep(PAUSE)
