"""Steps side by side on one `ctx.store`: what each wrote is kept once, however one is cut off."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.collect import Collect
from workflows.events import StartEvent, StopEvent

from stores.base import Store
from tests.durability.restarts import restarting
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import result_of, start
from tests.support.streams import read_until
from tests.support.waiting import until
from tests.support.workflows import Part, Squared


class Counted(BaseModel):
    early: int = 0
    late: int = 0


class Parallel(Workflow):
    """Two parts write to one state: the early one first or last, and it ends after the other.

    They count in one field, or each in its own.
    """

    def __init__(self, *, early_writes_first: bool, shares: bool = True) -> None:
        super().__init__(timeout=None)
        self.early_writes_first = early_writes_first
        self.shares = shares
        self.turn = asyncio.Event()
        self.written = asyncio.Event()
        self.reached = asyncio.Event()
        self.gate = asyncio.Event()

    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        return [Part(number=0), Part(number=1)]

    @step(num_workers=2)
    async def work(self, ctx: Context[Counted], ev: Part) -> Squared:
        is_first = (ev.number == 1) is self.early_writes_first
        if not is_first:
            await self.turn.wait()
        async with ctx.store.edit_state() as state:
            if self.shares or ev.number == 1:
                state.early += 1
            else:
                state.late += 1
        (self.turn if is_first else self.written).set()
        await self.written.wait()
        if ev.number == 1:
            self.reached.set()
            await self.gate.wait()
        return Squared(number=ev.number)

    @step
    async def join(
        self, ctx: Context[Counted], evs: Annotated[list[Squared], Collect()]
    ) -> StopEvent:
        state = await ctx.store.get_state()
        return StopEvent(result=[state.early, state.late])


@pytest.fixture(params=FRESH_URLS)
async def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Yield a store of each kind, which outlives its servers."""
    async with FRESH_URLS[request.param](tmp_path) as url, opened_store(url) as store:
        yield store


def is_end_of_work(frame: Any) -> bool:
    """Return whether an event says that one of the parallel steps has ended."""
    return bool(frame.value.get("name") == "work" and frame.value["step_state"] == "not_running")


async def test_what_a_step_wrote_that_goes_on_is_not_kept_with_the_end_of_another(
    any_store: Store,
) -> None:
    workflow = Parallel(early_writes_first=False)
    async with restarting(any_store, it=workflow) as restarts:
        handler_id = await start(restarts.client, "it")
        await workflow.reached.wait()
        await read_until(restarts.client, handler_id, is_end_of_work, include_internal=True)
        await restarts.crash()
        workflow.gate.set()
        await restarts.start()
        assert await result_of(restarts.client, handler_id) == [2, 0]


async def test_a_step_that_wrote_to_another_field_after_one_that_goes_on_is_kept_at_its_end(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.runtime.transcript.HOLD", 3600)
    workflow = Parallel(early_writes_first=True, shares=False)
    async with restarting(any_store, it=workflow) as restarts:
        handler_id = await start(restarts.client, "it")
        await workflow.reached.wait()
        await read_until(restarts.client, handler_id, is_end_of_work, include_internal=True)
        await restarts.crash()
        workflow.gate.set()
        await restarts.start()
        assert await result_of(restarts.client, handler_id) == [1, 1]


async def test_a_step_that_wrote_after_one_that_goes_on_is_kept_with_the_end_of_that(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.runtime.transcript.HOLD", 3600)
    workflow = Parallel(early_writes_first=True)
    async with restarting(any_store, it=workflow) as restarts:
        handler_id = await start(restarts.client, "it")
        await until(lambda: workflow.reached.is_set() and workflow.written.is_set())
        await restarts.crash()
        workflow.gate.set()
        await restarts.start()
        assert await result_of(restarts.client, handler_id) == [2, 0]


async def test_the_end_of_a_step_waits_for_another_one_only_so_long(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.runtime.transcript.HOLD", 0.01)
    workflow = Parallel(early_writes_first=True)
    async with restarting(any_store, it=workflow) as restarts:
        handler_id = await start(restarts.client, "it")
        await read_until(restarts.client, handler_id, is_end_of_work, include_internal=True)
        workflow.gate.set()
        assert await result_of(restarts.client, handler_id) == [2, 0]
