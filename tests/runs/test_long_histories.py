"""A run whose steps pass on much that cannot be compressed goes on, and so does its history."""

import secrets

import pytest
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from tests.support.calls import run
from tests.support.live import serve_workflow

ROUNDS = 40
SIZE = 60_000  # bytes, of which a tick has twice as many: more than a pack


class Random(Event):
    """An event that is another one each time."""

    number: int
    text: str


class Passing(Workflow):
    """A step that passes random events to itself."""

    @step
    async def go_on(self, ev: StartEvent | Random) -> Random | StopEvent:
        number = ev.number + 1 if isinstance(ev, Random) else 0
        if number == ROUNDS:
            return StopEvent(result="passed")
        return Random(number=number, text=secrets.token_hex(SIZE))


async def test_a_run_takes_snapshots_right_after_its_ticks_were_packed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workflow_server.app.engine.tick_log.SNAPSHOT_TICKS", 10)
    async with serve_workflow(Passing()) as client:
        ended = await run(client, "it")
    assert (ended["status"], ended["error"]) == ("completed", None)
