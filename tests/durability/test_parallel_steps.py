"""Steps side by side on one `ctx.store`: what each wrote is kept once, however one is cut off."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.collect import Collect
from workflows.events import StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

from tests.durability.restarts import Restarts, restarting
from tests.durability.test_idle_runs import wait_released
from tests.support.backends import FRESH_URLS, opened_store
from tests.support.calls import answer, result_of, start, wait_ended
from tests.support.streams import read_until
from tests.support.waiting import until
from tests.support.workflows import Answer, Part, Question, Squared
from workflow_server.stores.base import Store


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
    any_store: Store,
) -> None:
    workflow = Parallel(early_writes_first=True, shares=False)
    async with restarting(any_store, it=workflow) as restarts:
        handler_id = await start(restarts.client, "it")
        await workflow.reached.wait()
        await read_until(restarts.client, handler_id, is_end_of_work, include_internal=True)
        await restarts.crash()
        workflow.gate.set()
        await restarts.start()
        assert await result_of(restarts.client, handler_id) == [1, 1]


async def test_what_the_end_of_a_step_built_upon_is_not_written_again(any_store: Store) -> None:
    workflow = Parallel(early_writes_first=True)
    async with restarting(any_store, it=workflow) as restarts:
        handler_id = await start(restarts.client, "it")
        await workflow.reached.wait()
        await read_until(restarts.client, handler_id, is_end_of_work, include_internal=True)
        await restarts.crash()
        workflow.gate.set()
        await restarts.start()
        assert await result_of(restarts.client, handler_id) == [2, 0]


class Adding(Workflow):
    """Parts side by side, each of which adds its number to one field as often as it is let.

    A part ends when it has added its number twice. The run ends when all have, or one that is 0;
    before that it asks for an answer, or not.
    """

    def __init__(self, *numbers: int, failures: int = 0, asks: bool = False) -> None:
        super().__init__(timeout=None)
        self.numbers = numbers
        self.asks = asks
        self.failures = failures
        self.added: Counter[int] = Counter()
        self.let: dict[int, asyncio.Semaphore] = {n: asyncio.Semaphore(0) for n in numbers}

    async def let_add(self, number: int, times: int) -> None:
        """Let parts of a number add it so many times, and return when they have."""
        goal = self.added[number] + times
        for _ in range(times):
            self.let[number].release()
        await until(lambda: self.added[number] == goal)

    def let_all(self) -> None:
        """Let all parts add their numbers to the end."""
        for semaphore in self.let.values():
            for _ in range(100):
                semaphore.release()

    @step
    async def split(self, ev: StartEvent) -> list[Part]:
        return [Part(number=number) for number in self.numbers]

    @step(num_workers=4, retry_policy=retry_policy(wait=wait_fixed(0), stop=stop_after_attempt(2)))
    async def work(self, ctx: Context[Counted], ev: Part) -> Squared | StopEvent:
        for _ in range(2):
            await self.let[ev.number].acquire()
            async with ctx.store.edit_state() as state:
                state.early += ev.number
            self.added[ev.number] += 1
            if self.failures:
                self.failures -= 1
                await self.let[ev.number].acquire()
                raise ValueError("not this time")
        return Squared(number=ev.number) if ev.number else StopEvent(result="cut short")

    @step
    async def join(
        self, ctx: Context[Counted], evs: Annotated[list[Squared], Collect()]
    ) -> StopEvent:
        if self.asks:
            await ctx.wait_for_event(Answer, waiter_event=Question(prompt="?"))
            await ctx.store.set("late", 1)
        state = await ctx.store.get_state()
        return StopEvent(result=state.early + state.late)


async def read_ends(restarts: Restarts, handler_id: str, count: int) -> None:
    """Return when so many of the parallel steps have ended, and failed ones with them."""
    left = iter(range(count - 1, -1, -1))
    await read_until(
        restarts.client,
        handler_id,
        lambda frame: is_end_of_work(frame) and next(left) == 0,
        include_internal=True,
    )


@pytest.mark.parametrize(("numbers", "total"), [((1, 10, 100), 222), ((1, 1, 1, 100), 206)])
async def test_each_of_several_steps_that_run_again_is_known_by_what_it_wrote(
    any_store: Store, numbers: tuple[int, ...], total: int
) -> None:
    workflow = Adding(*numbers)
    async with restarting(any_store, it=workflow) as restarts:
        handler_id = await start(restarts.client, "it")
        await workflow.let_add(1, 1)
        await workflow.let_add(100, 2)
        await read_ends(restarts, handler_id, 1)
        await restarts.restart(it=(again := Adding(*numbers)))
        again.let_all()
        assert await result_of(restarts.client, handler_id) == total


async def test_what_stands_is_not_written_again_after_several_crashes_in_a_row(
    any_store: Store,
) -> None:
    numbers = (1, 10, 100)
    workflow = Adding(*numbers)
    async with restarting(any_store, it=workflow) as restarts:
        handler_id = await start(restarts.client, "it")
        await workflow.let_add(1, 1)
        await workflow.let_add(100, 2)
        await read_ends(restarts, handler_id, 1)
        await restarts.restart(it=(again := Adding(*numbers)))
        await again.let_add(10, 1)
        await restarts.restart(it=(again := Adding(*numbers)))
        await again.let_add(1, 2)
        await again.let_add(10, 2)
        assert await result_of(restarts.client, handler_id) == 222


async def test_what_was_written_since_stands_too_when_the_next_end_built_upon_it(
    any_store: Store,
) -> None:
    numbers = (1, 10, 100, 1000)
    workflow = Adding(*numbers)
    async with restarting(any_store, it=workflow) as restarts:
        handler_id = await start(restarts.client, "it")
        for _ in range(2):
            await workflow.let_add(1, 1)
            await workflow.let_add(100, 1)
        await read_ends(restarts, handler_id, 1)
        await restarts.restart(it=(again := Adding(*numbers)))
        await again.let_add(10, 1)
        await again.let_add(1000, 2)
        await read_ends(restarts, handler_id, 2)
        await restarts.restart(it=(again := Adding(*numbers)))
        again.let_all()
        assert await result_of(restarts.client, handler_id) == 2222


async def test_an_attempt_after_a_failed_one_writes_again_what_stood_of_that(
    any_store: Store,
) -> None:
    workflow = Adding(1, 10, failures=1)
    async with restarting(any_store, it=workflow) as restarts:
        handler_id = await start(restarts.client, "it")
        await workflow.let_add(1, 1)
        await workflow.let_add(10, 2)
        await read_ends(restarts, handler_id, 1)
        workflow.let[1].release()
        await read_ends(restarts, handler_id, 2)
        await workflow.let_add(1, 1)
        await restarts.restart(it=(again := Adding(1, 10)))
        again.let_all()
        assert await result_of(restarts.client, handler_id) == 23


async def test_the_next_run_of_a_handler_writes_all_that_it_writes(any_store: Store) -> None:
    workflow = Adding(1, 10, 0)
    async with restarting(any_store, it=workflow) as restarts:
        handler_id = await start(restarts.client, "it")
        await workflow.let_add(1, 1)
        await workflow.let_add(10, 2)
        await read_ends(restarts, handler_id, 1)
        await workflow.let_add(0, 2)
        await wait_ended(restarts.client, handler_id)
        await restarts.restart(it=(again := Adding(1, 10)))
        await start(restarts.client, "it", handler_id)
        again.let_all()
        assert await result_of(restarts.client, handler_id) == 43


async def test_what_stood_is_gone_when_a_run_returns_that_was_released_from_memory(
    any_store: Store,
) -> None:
    workflow = Adding(1, 10, asks=True)
    options = {"idle_timeout": 0.0}
    async with restarting(any_store, options=options, it=workflow) as restarts:
        handler_id = await start(restarts.client, "it")
        await workflow.let_add(1, 1)
        await workflow.let_add(10, 2)
        await read_ends(restarts, handler_id, 1)
        await restarts.restart(it=(again := Adding(1, 10, asks=True)))
        again.let_all()
        await wait_released(restarts, handler_id)
        await answer(restarts.client, handler_id, "yes")
        assert await result_of(restarts.client, handler_id) == 23
