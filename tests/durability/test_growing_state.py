"""A state of some size that grows: what each step writes of it, and that it all comes back."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from tests.durability.restarts import restarting
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import result_of, start
from tests.support.inspection import key_of
from tests.support.waiting import until
from tests.support.weighing import Weighing
from workflow_server.stores.base import Store

ROUNDS = 60
SIZE = 4_000  # bytes of a page
PLENTY = 20  # rounds after which the state is not small any more


class Next(Event):
    number: int


class Book(BaseModel):
    pages: list[str] = []


def make_page(number: int) -> str:
    """Return a page."""
    return f"{number} ".ljust(SIZE, "y")


class Gathering(Workflow):
    """Gathers pages, one a step, beside those that were there; waits before a round."""

    def __init__(self, stop_before: int = ROUNDS + 1) -> None:
        super().__init__(timeout=None)
        self.stop_before = stop_before
        self.stopped = asyncio.Event()

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Next:
        await ctx.store.set("pages", await ctx.store.get("pages", default=[]))
        return Next(number=1)

    @step
    async def gather(self, ctx: Context, ev: Next) -> Next | StopEvent:
        if ev.number == self.stop_before:
            self.stopped.set()
            await asyncio.Event().wait()
        await self.add(ctx, make_page(ev.number))
        if ev.number == ROUNDS:
            pages = await ctx.store.get("pages")
            numbers = [int(page.partition(" ")[0]) for page in pages]
            return StopEvent(result=[numbers, {*map(len, pages)} == {SIZE}])
        return Next(number=ev.number + 1)

    async def add(self, ctx: Context, page: str) -> None:
        """Add a page to the state."""
        async with ctx.store.edit_state() as state:
            state["pages"] = [*state["pages"], page]


class Setting(Gathering):
    async def add(self, ctx: Context, page: str) -> None:
        await ctx.store.set("pages", [*await ctx.store.get("pages"), page])


class InPlace(Gathering):
    async def add(self, ctx: Context, page: str) -> None:
        (await ctx.store.get("pages")).append(page)


class Typed(Gathering):
    @step
    async def begin(  # type: ignore[override]  # of another state
        self, ctx: Context[Book], ev: StartEvent
    ) -> Next:
        return Next(number=1)

    async def add(self, ctx: Context[Any], page: str) -> None:
        async with ctx.store.edit_state() as state:
            state.pages.append(page)


SHAPES = [Gathering, Setting, InPlace, Typed]


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_is_written_grows_with_what_steps_change(shape: type[Gathering]) -> None:
    store = Weighing()
    async with restarting(store, it=shape()) as restarts:
        handler_id = await start(restarts.client, "it")
        assert await result_of(restarts.client, handler_id) == [[*range(1, ROUNDS + 1)], True]
    assert store.written < 2 * ROUNDS * SIZE


@pytest.fixture(params=FRESH_URLS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Yield a store of each kind."""
    async with FRESH_URLS[request.param](tmp_path) as url, opened_store(url) as store:
        yield store


async def count_changes(store: Store, handler_id: str) -> int:
    """Return how many changes the state of a handler's current run has in the store."""
    record = await store.get_handler(key_of(handler_id))
    assert record is not None
    state = await store.get_state(record.run_id)
    return len(state.changes) if state is not None else 0


async def has_changes(store: Store, handler_id: str, number: int) -> bool:
    """Return whether the state has so many changes at least."""
    return await count_changes(store, handler_id) >= number


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_state_with_changes_comes_back_after_each_crash(
    store: Store, shape: type[Gathering]
) -> None:
    cut_off = shape(PLENTY)
    async with restarting(store, it=cut_off) as restarts:
        handler_id = await start(restarts.client, "it")
        await cut_off.stopped.wait()
        await until(lambda: has_changes(store, handler_id, PLENTY // 2))
        cut_off = shape(2 * PLENTY)
        await restarts.restart(it=cut_off)
        await cut_off.stopped.wait()
        await until(lambda: has_changes(store, handler_id, PLENTY // 2))
        await restarts.restart(it=shape())
        assert await result_of(restarts.client, handler_id) == [[*range(1, ROUNDS + 1)], True]


async def test_a_run_goes_on_from_a_state_with_changes(store: Store) -> None:
    async with restarting(store, it=Setting()) as restarts:
        handler_id = await start(restarts.client, "it", "h")
        await result_of(restarts.client, handler_id)
        assert await count_changes(store, handler_id) > 0
        first = await store.get_handler(key_of(handler_id))
        await restarts.restart()
        await start(restarts.client, "it", "h")
        numbers = [*range(1, ROUNDS + 1)]
        assert await result_of(restarts.client, handler_id) == [numbers * 2, True]
    assert first is not None
    assert await store.get_state(first.run_id) is None
