"""Histories with large values: bounded in memory, whoever asks for them."""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.memory.measuring import memory_of
from tests.support.backends import DURABLE, FRESH_URLS
from tests.support.command import serving, write
from tests.support.waiting import until

FLOWS = '''
from typing import Any

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, StartEvent, StopEvent


class Part(Event):
    text: str


class Handed(Event):
    number: int
    held: Any


class Ended(Workflow):
    """Hands on what is small where it is kept, and has many values."""

    @step
    async def begin(self, ev: StartEvent) -> Handed:
        return Handed(number=0, held=[[]] * 50_000)

    @step
    async def go_on(self, ev: Handed) -> Handed | StopEvent:
        return Handed(number=ev.number + 1, held=ev.held) if ev.number < 6 else StopEvent()


class Waiting(Workflow):
    """Hands on one value very often, and waits."""

    @step
    async def begin(self, ev: StartEvent) -> Handed:
        return Handed(number=0, held=[Part(text="x" * 30_000)] * 300)

    @step
    async def end(self, ctx: Context, ev: Handed) -> StopEvent:
        await ctx.wait_for_event(HumanResponseEvent)
        return StopEvent()


ended, waiting = Ended(timeout=None), Waiting(timeout=None)
'''
READERS = 6  # of each
BOUND = 120 << 20  # bytes; it is more than 180 where what a step holds is put together whole


@pytest.mark.parametrize("kind", DURABLE)
async def test_histories_with_large_values_are_bounded_in_memory(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "flows.py", FLOWS)
    async with FRESH_URLS[kind](tmp_path) as url:
        with serving(tmp_path, "flows.py", "--store", url) as server:
            process = server.process.pid
            async with httpx.AsyncClient(base_url=server.url, timeout=300) as client:
                await client.post("/workflows/ended/run", json={"handler_id": "ended"})
                await client.post("/workflows/waiting/run-nowait", json={"handler_id": "waiting"})

                async def is_waiting() -> bool:
                    return bool((await client.get("/handlers/waiting")).json()["awaits"])

                await until(is_waiting, within=300)
                # What the runs took does not count.
                Path(f"/proc/{process}/clear_refs").write_text("5")
                before = memory_of(process, "VmRSS")
                paths = ["/handlers/ended/steps", "/handlers/waiting/steps"] * READERS
                answers = await asyncio.gather(*map(client.get, paths))
                assert {answer.status_code for answer in answers} == {200}
                assert memory_of(process, "VmHWM") - before < BOUND
