"""When something is due is shown by the wall clock, however that was set."""

from datetime import datetime

import pytest
from workflows import Context, Workflow, step
from workflows.events import HumanResponseEvent, StartEvent, StopEvent

from tests.durability.restarts import OffsetClock, Restarts, restarting
from tests.support.calls import start, wait_phase
from workflow_server.stores.base import Store

WAIT, TIMEOUT = 1_000.0, 5_000.0  # seconds; far more than a test may take
LATE = 120.0  # seconds that a test may take
AWAY = 500.0  # seconds in which no server runs
SET_BY = (3_600.0, -3_600.0, 86_400.0, -86_400.0, 7.0)


class Asks(Workflow):
    """Waits for an event, for a while."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(HumanResponseEvent, timeout=WAIT)
        return StopEvent()


async def read_due(restarts: Restarts, clock: OffsetClock) -> list[float]:
    """Return in how many seconds by the wall clock the wait and the workflow time out."""
    await wait_phase(restarts.client, "h", "waiting")
    awaits = (await restarts.client.get("/handlers/h")).json()["awaits"]
    listed = (await restarts.client.get("/handlers")).json()["handlers"][0]["awaits"]
    assert listed["timers"] == awaits["timers"]
    times = [datetime.fromisoformat(timer["due_at"]) for timer in awaits["timers"]]
    assert awaits["events"][0]["due_at"] == awaits["timers"][0]["due_at"]
    return [(time - clock()).total_seconds() for time in times]


@pytest.mark.parametrize("seconds", SET_BY)
async def test_what_is_due_is_shown_by_a_wall_clock_that_was_set_meanwhile(
    store: Store, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = OffsetClock()
    clock.install(monkeypatch)
    async with restarting(store, asks=Asks(timeout=TIMEOUT)) as restarts:
        await start(restarts.client, "asks", "h")
        before = await read_due(restarts, clock)
        clock.set_by(seconds)
        after = await read_due(restarts, clock)
    for due in (before, after):
        assert WAIT - LATE < due[0] <= WAIT + 1
        assert TIMEOUT - LATE < due[1] <= TIMEOUT + 1


async def test_what_is_due_is_shown_the_same_while_no_clock_is_set(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = OffsetClock()
    clock.install(monkeypatch)
    async with restarting(store, asks=Asks(timeout=TIMEOUT)) as restarts:
        await start(restarts.client, "asks", "h")
        await wait_phase(restarts.client, "h", "waiting")
        shown = [(await restarts.client.get("/handlers/h")).content for _ in range(2)]
        clock.set_by(0.5)  # as a correction does
        shown.append((await restarts.client.get("/handlers/h")).content)
    assert len(set(shown)) == 1


async def test_the_timeout_of_a_workflow_is_shown_without_the_time_in_which_no_server_ran(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = OffsetClock()
    clock.install(monkeypatch)
    async with restarting(store, asks=Asks(timeout=TIMEOUT)) as restarts:
        await start(restarts.client, "asks", "h")
        await read_due(restarts, clock)
        await restarts.stop()
        clock.advance(AWAY)
        await restarts.start()
        due = await read_due(restarts, clock)
    assert WAIT - AWAY - LATE < due[0] <= WAIT - AWAY + 1
    assert TIMEOUT - LATE < due[1] <= TIMEOUT + 1
