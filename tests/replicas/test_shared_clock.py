"""The clock that servers share, as one of them follows it by its heartbeats."""

import pytest

from workflow_server.app.clocks import StoreClock

SECOND = 1_000_000  # microseconds


class Monotonic:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def monotonic() -> Monotonic:
    return Monotonic()


@pytest.fixture
def clock(monotonic: Monotonic) -> StoreClock:
    """Return a clock that a heartbeat has put to ten seconds, when the monotonic one was at 100."""
    clock = StoreClock(monotonic=monotonic)
    clock.start(None)
    clock.follow(10 * SECOND, 5 * SECOND, at=100.0)
    return clock


@pytest.mark.parametrize("carried_out", [0.0, 1.5, 3.0], ids=["at once", "on the way", "at last"])
def test_a_heartbeat_that_takes_long_does_not_move_a_clock_that_is_right(
    clock: StoreClock, monotonic: Monotonic, carried_out: float
) -> None:
    monotonic.seconds = 104.0  # it was begun at 101, and carried out so much later
    time = int((11 + carried_out) * SECOND)
    clock.follow(time, time - 5 * SECOND, at=101.0)
    assert (clock.micros, clock.uptime) == (14 * SECOND, 9 * SECOND)


def test_a_clock_that_is_behind_the_answer_goes_on_to_it(
    clock: StoreClock, monotonic: Monotonic
) -> None:
    monotonic.seconds = 102.0
    clock.follow(20 * SECOND, 15 * SECOND, at=101.0)
    assert (clock.micros, clock.uptime) == (20 * SECOND, 15 * SECOND)


def test_a_clock_that_is_ahead_stands_still_until_it_is_reached(
    clock: StoreClock, monotonic: Monotonic
) -> None:
    monotonic.seconds = 104.0
    assert clock.micros == 14 * SECOND
    clock.follow(10 * SECOND, 5 * SECOND, at=103.0)
    assert clock.micros == 14 * SECOND
    monotonic.seconds = 107.0
    assert clock.micros == 14 * SECOND
    monotonic.seconds = 108.0
    assert clock.micros == 15 * SECOND
