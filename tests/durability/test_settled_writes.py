"""A real server is killed after a step has ended that built upon the write of one that goes on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.backends import DURABLE, FRESH_URLS
from tests.support.calls import result_of, start
from tests.support.command import serving, write
from tests.support.streams import Frame, read_until
from tests.support.waiting import DEADLINE

SERVED = '''
import asyncio
import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.collect import Collect
from workflows.events import Event, StartEvent, StopEvent

GATE = Path(os.environ["GATE"])


class Counted(BaseModel):
    count: int = 0


class Long(Event):
    pass


class Short(Event):
    pass


class Ended(Event):
    pass


class Seen(Event):
    count: int


class Counter(Workflow):
    """A long step counts twice, and a short one once between."""

    @step
    async def split(self, ctx: Context[Counted], ev: StartEvent) -> list[Long | Short]:
        return [Long(), Short()]

    @step
    async def long(self, ctx: Context[Counted], ev: Long) -> Ended:
        async with ctx.store.edit_state() as state:
            state.count += 1
        ctx.write_event_to_stream(Seen(count=(await ctx.store.get_state()).count))
        while not GATE.exists():
            await asyncio.sleep(0.01)
        async with ctx.store.edit_state() as state:
            state.count += 1
        return Ended()

    @step
    async def short(self, ctx: Context[Counted], ev: Short) -> Ended:
        while not (await ctx.store.get_state()).count:
            await asyncio.sleep(0.01)
        async with ctx.store.edit_state() as state:
            state.count += 1
        return Ended()

    @step
    async def join(
        self, ctx: Context[Counted], evs: Annotated[list[Ended], Collect()]
    ) -> StopEvent:
        return StopEvent(result=(await ctx.store.get_state()).count)


counter = Counter(timeout=None)
'''


def is_end_of_short(frame: Frame) -> bool:
    """Return whether an event says that the short step has ended."""
    changed = frame.value.get("name"), frame.value.get("step_state")
    return changed == ("short", "not_running")


async def read_seen(client: httpx.AsyncClient, handler_id: str, attempts: int) -> int:
    """Return what the long step saw when it had begun for so many times."""
    left = iter(range(attempts - 1, -1, -1))
    frames = await read_until(client, handler_id, lambda f: f.type == "Seen" and next(left) == 0)
    count: int = frames[-1].value["count"]
    return count


@pytest.mark.parametrize("kind", DURABLE)
async def test_a_long_step_counts_once_though_it_is_killed_when_another_had_built_upon_it(
    kind: str, tmp_path: Path
) -> None:
    served, gate = write(tmp_path / "served.py", SERVED), tmp_path / "gate"
    async with FRESH_URLS[kind](tmp_path) as url:

        @asynccontextmanager
        async def killed() -> AsyncIterator[httpx.AsyncClient]:
            arguments = (str(served), "--store", url)
            with serving(tmp_path, *arguments, GATE=str(gate)) as server:
                async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE) as client:
                    yield client

        async with killed() as client:
            handler_id = await start(client, "counter")
            await read_until(client, handler_id, is_end_of_short, include_internal=True)
        async with killed() as client:
            second = await read_seen(client, handler_id, 2)
        async with killed() as client:
            third = await read_seen(client, handler_id, 3)
            gate.touch()
            result = await result_of(client, handler_id)
    assert (second, third, result) == (2, 2, 3)
