"""The timeout of a workflow counts all the time in which a server ran, over its restarts."""

import asyncio
from functools import partial

import pytest
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, StartEvent, StopEvent

from tests.durability.restarts import OffsetClock, Restarts, restarting
from tests.support.calls import get_status, run, start, wait_ended, wait_phase
from tests.support.inspection import is_claiming
from tests.support.waiting import until
from workflow_server.stores.base import Store

TIMEOUT = 1_000.0  # seconds; far more than a test may take
LIFE = 333.0  # seconds; three of them leave one second
AWAY = 100_000.0  # seconds in which no server runs


class Busy(Workflow):
    """Is at work for ever, and counts how often it has begun."""

    def __init__(self) -> None:
        super().__init__(timeout=TIMEOUT)
        self.begun = 0

    @step
    async def work(self, ev: StartEvent) -> StopEvent:
        self.begun += 1
        await asyncio.Event().wait()
        return StopEvent()


class Waits(Workflow):
    """Waits for ever."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(HumanResponseEvent, timeout=None)
        return StopEvent()


class Quick(Workflow):
    """Ends at once."""

    @step
    async def end(self, ev: StartEvent) -> StopEvent:
        return StopEvent()


async def live_on(restarts: Restarts, clock: OffsetClock, *, crashes: bool) -> None:
    """Let a server live for a while, be away for longer, and live again."""
    clock.advance(LIFE)
    await run(restarts.client, "quick")  # something is written at the end of this life
    await (restarts.crash() if crashes else restarts.stop())
    clock.advance(AWAY)
    await restarts.start()
    await until(lambda: not is_claiming())


@pytest.mark.parametrize("crashes", [True, False])
@pytest.mark.parametrize("idle_timeout", [0.0, 60.0])
async def test_a_wait_is_cut_off_after_the_time_of_all_lives(
    store: Store, clock: OffsetClock, crashes: bool, idle_timeout: float
) -> None:
    options = {"idle_timeout": idle_timeout}
    async with restarting(store, options=options, it=Waits(timeout=TIMEOUT), quick=Quick()) as it:
        handler_id = await start(it.client, "it")
        await wait_phase(it.client, handler_id, "waiting")
        for _ in range(3):
            assert await get_status(it.client, handler_id) == "running"
            await live_on(it, clock, crashes=crashes)
        handler = await wait_ended(it.client, handler_id)
        assert f"timed out after {TIMEOUT}" in handler["error"]


def has_begun(busy: Busy, times: int) -> bool:
    """Return whether the run was at work so often."""
    return busy.begun >= times


@pytest.mark.parametrize("crashes", [True, False])
async def test_a_step_is_cut_off_after_the_time_of_all_lives(
    store: Store, clock: OffsetClock, crashes: bool
) -> None:
    busy = Busy()
    async with restarting(store, it=busy, quick=Quick()) as it:
        handler_id = await start(it.client, "it")
        for life in range(3):
            await until(partial(has_begun, busy, life + 1))
            assert await get_status(it.client, handler_id) == "running"
            await live_on(it, clock, crashes=crashes)
        handler = await wait_ended(it.client, handler_id)
        assert f"timed out after {TIMEOUT}" in handler["error"]


async def test_a_clock_that_is_set_while_a_server_runs_moves_no_wait(
    store: Store, clock: OffsetClock
) -> None:
    options = {"idle_timeout": 0.0}
    async with restarting(store, options=options, it=Waits(timeout=TIMEOUT), quick=Quick()) as it:
        first = await start(it.client, "it", "first")
        await wait_phase(it.client, first, "waiting")
        clock.set_by(86_400)
        second = await start(it.client, "it", "second")
        await wait_phase(it.client, second, "waiting")
        clock.set_by(-2 * 86_400)
        third = await start(it.client, "it", "third")
        await wait_phase(it.client, third, "waiting")
        handlers = (await it.client.get("/handlers")).json()["handlers"]
        assert [handler["handler_id"] for handler in handlers] == [third, second, first]
        clock.advance(TIMEOUT)
        await it.stop()
        await it.start()
        for handler_id in (first, second, third):
            assert "timed out" in (await wait_ended(it.client, handler_id))["error"]


async def test_the_runs_of_a_handler_are_listed_in_order_when_the_clock_is_set_back(
    store: Store, clock: OffsetClock
) -> None:
    async with restarting(store, quick=Quick()) as it:
        ran = []
        for _ in range(3):
            handler_id = await start(it.client, "quick", "h")
            ran.append((await wait_ended(it.client, handler_id))["run_id"])
            clock.set_by(-3_600)
        runs = (await it.client.get("/handlers/h/runs")).json()["runs"]
        assert [listed["run_id"] for listed in runs] == ran[::-1]
