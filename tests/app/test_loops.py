"""The event loop of `serve`, and what becomes of libraries that patch it."""

import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.command import RunningServer, run_command, serving, write

HEAD = """
import asyncio
import nest_asyncio
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent
"""
TELLS = """
class Tells(Workflow):
    @step
    async def tell(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=type(asyncio.get_running_loop()).__module__.partition(".")[0])

tells = Tells()
"""
NESTS = """
async def inner():
    await asyncio.sleep(0)
    return "nested"

class Nests(Workflow):
    @step
    async def nest(self, ev: StartEvent) -> StopEvent:
        return StopEvent(result=asyncio.run(inner()))

nests = Nests()
"""
PATCHES = "nest_asyncio.apply()"
PATCHES_LATER = NESTS.replace("return StopEvent", f"{PATCHES}; return StopEvent")
REMEDY = "A library patches the event loop, and uvloop takes no patch: serve with --loop asyncio."


def carry_out(server: RunningServer, workflow: str) -> Any:
    """Return the result of a run, or what its failure says and what helps against it."""
    handler = httpx.post(f"{server.url}/workflows/{workflow}/run", json={}).json()
    if handler["failure"] is not None:
        return handler["error"], handler["failure"]["remedy"]
    return handler["result"]["value"]["result"]


@pytest.mark.parametrize(
    ("flags", "loop"),
    [
        ((), "uvloop"),
        (("--loop", "auto"), "uvloop"),
        (("--loop", "uvloop"), "uvloop"),
        (("--loop", "asyncio"), "asyncio"),
    ],
)
def test_the_loop_is_the_one_that_is_asked_for(
    flags: tuple[str, ...], loop: str, tmp_path: Path
) -> None:
    write(tmp_path / "flows.py", HEAD, TELLS)
    with serving(tmp_path, "flows.py", *flags) as server:
        assert carry_out(server, "tells") == loop


def test_a_variable_says_it_too(tmp_path: Path) -> None:
    write(tmp_path / "flows.py", HEAD, TELLS)
    with serving(tmp_path, "flows.py", WORKFLOW_SERVER_LOOP="asyncio") as server:
        assert carry_out(server, "tells") == "asyncio"


def test_another_loop_is_none(tmp_path: Path) -> None:
    write(tmp_path / "flows.py", HEAD, TELLS)
    ended = run_command(tmp_path, "serve", "flows.py", "--loop", "trio")
    assert ended.returncode == 2
    assert "--loop cannot be 'trio'" in ended.stderr


def test_a_file_that_patches_asyncio_gets_the_loop_that_is_patched(tmp_path: Path) -> None:
    write(tmp_path / "flows.py", HEAD, PATCHES, NESTS, TELLS)
    with serving(tmp_path, "flows.py") as server:
        assert [carry_out(server, "nests") for _ in range(3)] == ["nested"] * 3
        assert carry_out(server, "tells") == "asyncio"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0


def test_a_step_that_patches_the_loop_fails_with_the_flag_that_helps(tmp_path: Path) -> None:
    write(tmp_path / "flows.py", HEAD, PATCHES_LATER, TELLS)
    with serving(tmp_path, "flows.py") as server:
        message = "Can't patch loop of type <class 'uvloop.Loop'>"
        assert carry_out(server, "nests") == (message, REMEDY)
        assert carry_out(server, "tells") == "uvloop"


def test_a_step_may_patch_asyncio_s_own_loop(tmp_path: Path) -> None:
    write(tmp_path / "flows.py", HEAD, PATCHES_LATER, TELLS)
    with serving(tmp_path, "flows.py", "--loop", "asyncio") as server:
        assert [carry_out(server, "nests") for _ in range(3)] == ["nested"] * 3
        assert carry_out(server, "tells") == "asyncio"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0


def test_uvloop_beside_a_patched_asyncio_is_warned_of(tmp_path: Path) -> None:
    write(tmp_path / "flows.py", HEAD, PATCHES, NESTS)
    with serving(tmp_path, "flows.py", "--loop", "uvloop") as server:
        assert any("asyncio is patched" in line for line in server.lines)
        assert any(REMEDY in line for line in server.lines)
        message = "this event loop is already running."
        assert carry_out(server, "nests") == (message, REMEDY)
