"""The real command, started in a folder, and files for it to serve."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from tests.support.waiting import DEADLINE

COMMAND = str(Path(sys.executable).with_name("workflow-server"))

# The last thing that the command says when it listens, as text and as JSON; and a program that has
# a server of its own.
ANNOUNCED = re.compile(r'Runs are kept |\{.*"event": "serving"')
LOG_SIZE = 1 << 20  # bytes that a server can print while nobody reads them
READY = "Uvicorn running on "

ECHO = dedent("""
    from __future__ import annotations

    from workflows import Workflow, step
    from workflows.events import StartEvent, StopEvent

    class Asked(StartEvent):
        words: str = "none"

    class Answered(StopEvent):
        words: str

    class Echo(Workflow):
        @step
        async def echo(self, asked: Asked) -> Answered:
            return Answered(words=asked.words)
    """)


@dataclass(frozen=True)
class RunningServer:
    """A server that listens; `lines` is what it printed before it did."""

    process: subprocess.Popen[str]
    lines: tuple[str, ...]

    @property
    def url(self) -> str:
        """Return the base URL that the server printed."""
        told = re.compile(r'Serving .* on (\S+)|\{.*"event": "serving", "url": "([^"]+)"')
        match = next(filter(None, map(told.match, self.lines)))
        return match[1] or match[2]


def write(path: Path, *lines: str) -> Path:
    """Write a file of lines, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_echo(path: Path, *lines: str) -> Path:
    """Write a file that defines the workflow class Echo, and lines below it."""
    return write(path, ECHO, *lines)


def make_environment(**variables: str) -> dict[str, str]:
    """Return this environment with the settings in `variables` and no others."""
    kept = {key: value for key, value in os.environ.items() if "WORKFLOW_SERVER_" not in key}
    return {**kept, **variables}


def run_command(
    folder: Path, *arguments: str, command: str = COMMAND, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [command, *arguments],
        cwd=folder,
        env=make_environment(**variables),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@contextmanager
def serving(
    folder: Path, *arguments: str, command: str = COMMAND, **variables: str
) -> Iterator[RunningServer]:
    """Run `serve` on a free port, from the time when it listens to the end of the block."""
    with running(folder, command, "serve", "--port", "0", *arguments, **variables) as server:
        yield server


@contextmanager
def running(folder: Path, *command: str, **variables: str) -> Iterator[RunningServer]:
    """Run a program that serves, from the time when it listens to the end of the block."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=make_environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pipesize=LOG_SIZE,
    ) as process:
        try:
            yield RunningServer(process, tuple(_read_until_ready(process)))
        finally:
            process.kill()


def _read_until_ready(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        if READY in line:
            return
        if "[info " not in line:
            yield line.rstrip("\n")
        if ANNOUNCED.match(line):
            return
    raise AssertionError(f"The server ended with status {process.wait()} before it listened.")
