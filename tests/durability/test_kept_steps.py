"""What a run did is shown after its process was killed: steps of before and of after."""

from pathlib import Path
from typing import Any

import pytest

from tests.durability.supervised import SupervisedServer
from tests.support.backends import DURABLE, FRESH_URLS
from tests.support.calls import start
from tests.support.waiting import until

COUNTS = """
import asyncio
from pathlib import Path

from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class Count(Event):
    number: int
    text: str


class Counts(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> Count:
        return Count(number=1, text="x" * 1_000)

    @step
    async def count(self, ev: Count) -> Count | StopEvent:
        if ev.number == 150:
            while not Path({file!r}).exists():
                await asyncio.sleep(0.01)
        if ev.number == 160:
            raise ValueError("enough")
        return Count(number=ev.number + 1, text=ev.text)


workflow = Counts(timeout=None)
"""


@pytest.mark.parametrize("kind", DURABLE)
async def test_steps_of_before_and_after_a_kill_are_shown(kind: str, tmp_path: Path) -> None:
    served, gate = tmp_path / "counts.py", tmp_path / "gate"
    served.write_text(COUNTS.replace("{file!r}", repr(str(gate))))
    async with FRESH_URLS[kind](tmp_path) as url:
        server = SupervisedServer(served, url)
        async with server.running():
            await start(server.client, "workflow", "h")
            before: list[dict[str, Any]] = []

            async def has_come_to_the_gate() -> bool:
                before[:] = await list_steps(server)
                return len(before) == 150

            await until(has_come_to_the_gate)
            server.kill()
            await server.wait_starts(2)
            await server.wait_healthy()
            going_on = await list_steps(server)
            gate.touch()
            await server.wait_ended("h")
            after = await list_steps(server)
    assert going_on == before
    assert after[:150] == before
    assert [step["input"]["value"]["number"] for step in after[1:]] == list(range(1, 161))
    assert [step["attempt"] for step in after] == [1] * 161
    assert after[-1]["error"]["message"] == "enough"
    assert 'raise ValueError("enough")' in after[-1]["error"]["traceback"]


async def list_steps(server: SupervisedServer) -> list[dict[str, Any]]:
    """Return the steps of the run, page by page; it goes on meanwhile."""
    steps: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        response = await server.client.get("/handlers/h/steps", params={"limit": 40, **cursor})
        assert response.status_code == 200, response.text
        page = response.json()
        assert page["dropped"] is False
        steps += page["steps"]
        if page["next_cursor"] is None:
            return steps
        cursor = {"cursor": page["next_cursor"]}
