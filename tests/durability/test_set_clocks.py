"""A wall clock that is set, while a server runs or while none does, and runs that wait by it."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.backends import FRESH_URLS
from tests.support.calls import Json, start, wait_ended
from tests.support.command import serving, write
from tests.support.fake_time import FakeWallClock
from tests.support.waiting import DEADLINE, until

SPAN = 5.0  # seconds that each run waits
EARLY = 0.5  # seconds by which what was alive may be written down too late
HOUR, DAY = 3_600, 86_400
WORKFLOWS = f"""
import asyncio
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, StartEvent, StopEvent
from workflows.retry_policy import ConstantDelayRetryPolicy

class Retries(Workflow):
    @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=2, delay={SPAN}))
    async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
        info = ctx.retry_info()
        if info.retry_number == 0:
            raise ValueError("not yet")
        return StopEvent(result=info.elapsed_seconds)

class Waits(Workflow):
    @step
    async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            await ctx.wait_for_event(HumanResponseEvent, timeout={SPAN})
        except TimeoutError:
            return StopEvent(result="over")
        return StopEvent(result="answered")

class IsBusy(Workflow):
    @step
    async def go(self, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(1e6)
        return StopEvent()

class Asks(Workflow):
    @step
    async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(HumanResponseEvent, timeout=None)
        return StopEvent()

retries = Retries(timeout=None)
waits = Waits(timeout=None)
is_busy = IsBusy(timeout={SPAN})
asks = Asks(timeout={SPAN})
"""
PAUSES = ("retries", "waits")  # they go on while no server runs, as the wall clock says
TIMEOUTS = ("is_busy", "asks")  # time in which no server runs does not count
RUNS = (*PAUSES, *TIMEOUTS)


@pytest.fixture
def wall_clock(tmp_path: Path) -> FakeWallClock:
    """Return a wall clock for the servers of the test."""
    return FakeWallClock(tmp_path)


@asynccontextmanager
async def served(
    folder: Path, store: str, clock: FakeWallClock, idle_timeout: float, ends_by: signal.Signals
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the workflows in a process of its own, which a signal ends after the block."""
    write(folder / "app.py", WORKFLOWS)
    options = ["--store", store, "--idle-timeout", str(idle_timeout)]
    options += ["--shutdown-timeout", "1"]  # a step here is never done
    with serving(folder, "app.py", *options, **clock.variables) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE) as client:
            yield client
        server.process.send_signal(ends_by)
        server.process.communicate(timeout=DEADLINE)


async def start_all(client: httpx.AsyncClient) -> None:
    """Start all runs, and return when each of them waits."""
    for name in RUNS:
        await start(client, name, name)

    async def do_wait() -> bool:
        waits = [(await client.get(f"/handlers/{name}")).json()["phase"] for name in RUNS]
        return waits == ["working", "waiting", "working", "waiting"]

    await until(do_wait)


async def wait_over(client: httpx.AsyncClient, name: str) -> Json:
    """Return the handler when its run has come to the end of its wait, and check how it ended."""
    handler = await wait_ended(client, name)
    if name in TIMEOUTS:
        assert handler["error"].startswith(f"Operation timed out after {SPAN} seconds")
    else:
        assert (handler["error"], handler["status"]) == (None, "completed")
    return handler


async def when_over(client: httpx.AsyncClient, name: str) -> float:
    """Return when a run has come to the end of its wait, by the clock of the test."""
    await wait_over(client, name)
    return time.monotonic()


@pytest.fixture
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """Yield the URL of a fresh store of the kind that a case names."""
    async with FRESH_URLS[request.param](tmp_path) as url:
        yield url


# Postgres has a clock of its own, which nobody sets here, and which the servers do not ask.
set_by = pytest.mark.parametrize(
    ("store", "seconds"),
    [
        *(("sqlite", seconds) for seconds in (HOUR, -HOUR, DAY, -DAY)),
        *(("postgres", seconds) for seconds in (DAY, -DAY)),
    ],
    indirect=["store"],
)


@pytest.mark.parametrize("idle_timeout", [0.1, 60.0])
@set_by
async def test_a_clock_that_is_set_while_the_server_runs_moves_no_wait(
    tmp_path: Path, store: str, wall_clock: FakeWallClock, seconds: int, idle_timeout: float
) -> None:
    async with served(tmp_path, store, wall_clock, idle_timeout, signal.SIGTERM) as client:
        began = time.monotonic()
        await start_all(client)
        wall_clock.set_by(seconds)
        ended = await asyncio.gather(*(when_over(client, name) for name in RUNS))
        assert min(ended) - began >= SPAN - 0.1
        retried = await wait_over(client, "retries")
        assert SPAN - 0.1 < retried["result"]["value"]["result"] < SPAN + DEADLINE
        assert (await client.get("/health")).is_success


@pytest.mark.parametrize("ends_by", [signal.SIGTERM, signal.SIGKILL])
@set_by
async def test_a_clock_that_is_set_while_no_server_runs_makes_no_wait_longer(
    tmp_path: Path, store: str, wall_clock: FakeWallClock, seconds: int, ends_by: signal.Signals
) -> None:
    async with served(tmp_path, store, wall_clock, 0.1, ends_by) as client:
        began = time.monotonic()
        await start_all(client)
    alive = time.monotonic() - began
    wall_clock.set_by(seconds)
    began = time.monotonic()
    async with served(tmp_path, store, wall_clock, 0.1, signal.SIGTERM) as client:
        for name in PAUSES:
            await wait_over(client, name)
        for name in TIMEOUTS:
            await wait_over(client, name)
            assert alive + time.monotonic() - began >= SPAN - EARLY
        handlers = (await client.get("/handlers")).json()["handlers"]
        assert [handler["handler_id"] for handler in handlers] == list(RUNS[::-1])
