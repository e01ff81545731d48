"""The heart of a server: when it is heard, when it stops, and whom it removes."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.waiting import until
from workflow_server.app.clocks import StoreClock
from workflow_server.app.replicas import membership as module
from workflow_server.app.replicas.membership import Membership
from workflow_server.app.telemetry.replicas import ServerState, read_state
from workflow_server.stores.base import StoreFenced, StoreUnavailable
from workflow_server.stores.replicas import Beat, Pulse, Replicas

REPLICAS = Replicas(heartbeat=0.01, stale_after=5.0)


class ScriptedPulse(Pulse):
    """Answers each beat as it is told, and counts prunes."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.beats = self.prunes = 0
        self.hints: list[tuple[bool, bool]] = []
        self.is_one_cut = False

    async def beat(self) -> Beat:
        self.beats += 1
        if self.error is not None:
            raise self.error
        return Beat((1, 2), ("serving", None), 1_000_000 * self.beats, self.beats, self.is_one_cut)

    async def prune(self, *, takes_stale: bool = True, takes_hints: bool = False) -> None:
        self.prunes += takes_stale
        self.hints.append((takes_stale, takes_hints))

    async def close(self) -> None:
        pass


class Told:
    """Counts what a membership tells, and its time, which goes on where it is set on."""

    def __init__(self) -> None:
        self.fenced = self.changed = 0
        self.skipped = 0.0

    def fence(self) -> None:
        """Note that the server is dead to the others."""
        self.fenced += 1

    def change(self) -> None:
        """Note that others have come or gone."""
        self.changed += 1

    def now(self) -> float:
        """Return the time in seconds."""
        return time.monotonic() + self.skipped


@asynccontextmanager
async def beating(
    pulse: Pulse, told: Told, replicas: Replicas = REPLICAS
) -> AsyncIterator[Membership]:
    """Yield a membership that beats."""
    membership = Membership(
        replicas,
        StoreClock(),
        on_fenced=told.fence,
        on_changed=told.change,
        monotonic=told.now,
    )
    await membership.start(pulse)
    try:
        yield membership
    finally:
        await membership.stop()


def doubts(membership: Membership) -> bool:
    """Return whether a server may be dead to the others."""
    return membership.is_in_doubt


def has_heart() -> bool:
    """Return whether a heart beats in this process."""
    return any(thread.name == "heartbeat" for thread in threading.enumerate())


async def beats_on(pulse: ScriptedPulse) -> None:
    """Return after two more beats."""
    beats = pulse.beats
    await until(lambda: pulse.beats >= beats + 2)


async def test_a_heart_beats_while_the_event_loop_is_blocked() -> None:
    pulse = ScriptedPulse()
    async with beating(pulse, Told()):
        beats, deadline = pulse.beats, time.monotonic() + 60
        while pulse.beats < beats + 3 and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251  # this is the block
        assert pulse.beats >= beats + 3


async def test_a_heart_stops_when_the_event_loop_is_blocked_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LONGEST_BLOCK", -1.0)
    pulse = ScriptedPulse()
    async with beating(pulse, Told()):
        await asyncio.sleep(20 * REPLICAS.heartbeat)  # in which it would beat
        assert (pulse.beats, has_heart()) == (1, True)


async def test_a_server_that_is_not_heard_is_in_doubt_until_it_is_heard_again() -> None:
    pulse, told = ScriptedPulse(), Told()
    async with beating(pulse, told) as membership:
        pulse.error = StoreUnavailable("It is away.")
        await beats_on(pulse)
        assert not doubts(membership)
        told.skipped += 0.6 * REPLICAS.stale_after
        assert doubts(membership)
        waiting = asyncio.create_task(membership.wait_certain())
        await beats_on(pulse)
        assert not waiting.done()
        pulse.error = None
        await waiting
        assert told.fenced == 0


async def test_nobody_is_removed_before_beats_were_on_time_for_a_whole_stale_period() -> None:
    pulse, told = ScriptedPulse(), Told()
    async with beating(pulse, told):
        await beats_on(pulse)
        assert pulse.prunes == 0
        # Not late enough to be stale, and late enough to begin to count anew.
        told.skipped += 0.7 * REPLICAS.stale_after
        await beats_on(pulse)
        told.skipped += 0.5 * REPLICAS.stale_after
        await beats_on(pulse)
        assert pulse.prunes == 0
        told.skipped += 0.55 * REPLICAS.stale_after
        await until(lambda: pulse.prunes > 0)


async def test_a_server_that_is_dead_to_the_others_is_told_once_and_beats_no_more() -> None:
    pulse, told = ScriptedPulse(), Told()
    async with beating(pulse, told) as membership:
        pulse.error = StoreFenced("It is dead.")
        await until(lambda: told.fenced == 1)
        assert doubts(membership)
        await until(lambda: not has_heart())
        beats = pulse.beats
        await membership.stop()
        pulse.error = None
        await membership.start(pulse)
        assert (pulse.beats > beats, told.fenced) == (True, 1)


async def test_servers_are_counted_by_what_they_have_written_of_themselves() -> None:
    async with beating(ScriptedPulse(), Told()) as membership:
        counted = {state.value: membership.count_servers(state) for state in ServerState}
        assert counted == {"joining": 1, "serving": 1, "draining": 0, "other": 0}


def test_a_state_of_a_later_release_is_another() -> None:
    assert read_state("hibernating") is ServerState.OTHER


async def test_a_hint_is_taken_at_once_and_removes_no_stale_server() -> None:
    pulse = ScriptedPulse()
    async with beating(pulse, Told(), Replicas(heartbeat=0.4, stale_after=600.0)):
        await beats_on(pulse)
        assert pulse.hints == []
        pulse.is_one_cut = True
        await until(lambda: bool(pulse.hints))
        assert pulse.hints[0] == (False, True)


async def test_a_server_beats_seldom_whose_event_loop_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As one whose heartbeats are a minute apart, and more.
    monkeypatch.setattr("workflow_server.app.replicas.membership.LONGEST_BLOCK", 0.0)
    pulse = ScriptedPulse()
    async with beating(pulse, Told(), Replicas(heartbeat=0.2, stale_after=600.0)):
        for _ in range(3):
            await beats_on(pulse)
