"""The clocks of a server: the wall clock, which people read, and the one by which runs wait."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from workflow_server.schemas.records import ClockRecord, Idle
from workflow_server.schemas.times import from_micros, to_micros

Clock = Callable[[], datetime]

WRITE_PAUSE = 0.25  # seconds after which a batch takes the clock along again
SHIFT = 1.0  # seconds by which the wall clock is set at least, and is not just corrected
MICROS = 1_000_000


def utc_now() -> datetime:
    """Return the time, aware, in UTC."""
    return datetime.now(UTC)


class StoreClock:
    """The clock by which the runs of a store wait; a call returns its time.

    While a server runs it goes on evenly, whatever the wall clock is set to, and is written down
    with what the wall clock says. A start adds what has passed since by the wall clock, which is
    nothing where that was set back. So the time never goes back, and all points in time that the
    store has are on one line.
    """

    def __init__(
        self, *, wall: Clock = utc_now, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._started = asyncio.Event()
        self.last_life: ClockRecord | None = None
        self._is_written = False
        self._base = to_micros(wall())
        self._uptime = 0
        self._shift = timedelta()
        self._zero = self._written = monotonic()
        self._is_shared = False
        self._latest = 0

    def reset(self) -> None:
        """Forget an earlier life of the server; the clock stands nowhere until `start`."""
        self._started.clear()
        self._is_written = self._is_shared = False

    def start(self, stored: ClockRecord | None) -> None:
        """Go on from the clock that was written last."""
        wall = to_micros(self._wall())
        self.last_life = stored
        self._base, self._uptime = wall, 0
        if stored is not None:
            self._base = stored.time + max(wall - stored.wall, 0)
            self._uptime = stored.uptime
        self._zero = self._monotonic()
        self._written = self._zero - WRITE_PAUSE
        self._started.set()

    def follow(self, time: int, uptime: int, *, at: float) -> None:
        """Go by the clock that many servers share, which stood there at or after a moment.

        It is written by their heartbeats, and `at` is when this one was begun, on the monotonic
        clock. A heartbeat that takes long says little: the clock moves only as far as it must.
        Where this server was ahead, it stands still here until it is reached.
        """
        ran = int((at - self._zero) * MICROS)
        passed = self._ran - ran
        base, counted = time - ran, uptime - ran
        if self._is_shared:
            base = min(max(self._base, base - passed), base)
            counted = min(max(self._uptime, counted - passed), counted)
        self._base, self._uptime = base, counted
        self._is_shared = True
        self._started.set()

    def keep(self) -> None:
        """Let the clock be written: all that was at work has taken in the server's last life."""
        self._is_written = True

    async def wait_started(self) -> None:
        """Return when the clock goes."""
        await self._started.wait()

    def __call__(self) -> datetime:
        return from_micros(self.micros)

    @property
    def micros(self) -> int:
        """The time, in whole microseconds since the epoch."""
        micros = self._base + self._ran
        if self._is_shared:
            micros = self._latest = max(micros, self._latest)
        return micros

    @property
    def began_at(self) -> datetime:
        """The time at which this server began to count."""
        return from_micros(self._base)

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return self.micros / MICROS

    def show(self, time: datetime) -> datetime:
        """Return a time of this clock as the wall clock will tell it, unless that is set.

        What is shown of one time stays the same while the wall clock is only corrected.
        """
        shift = self._wall() - self()
        if abs(shift - self._shift).total_seconds() > SHIFT:
            self._shift = shift
        return time + self._shift

    def find_time(self, uptime: int) -> datetime:
        """Return when this clock had an uptime, or would have with a server running ever since."""
        return from_micros(self._base - self._uptime + uptime)

    @property
    def uptime(self) -> int:
        """The microseconds in which a server has run over this store, as far as is known."""
        return self._uptime + self._ran

    def measure_wait(self, idle: Idle) -> float:
        """Return the seconds since a run began to wait in which a server ran."""
        now = self()
        if idle.uptime is not None:
            return max(self.uptime - idle.uptime, 0) / MICROS
        return (now - min(max(idle.since, self.began_at), now)).total_seconds()

    def write(self) -> ClockRecord | None:
        """Return the clock to be written down; None before `keep`."""
        if not self._is_written:
            return None
        self._written = self._monotonic()
        return ClockRecord(
            time=self.micros, wall=to_micros(self._wall()), uptime=self.uptime, began=self._base
        )

    def write_seldom(self) -> ClockRecord | None:
        """Return the clock to be written down, or None where it was a moment ago."""
        is_due = self._monotonic() - self._written >= WRITE_PAUSE
        return self.write() if is_due else None

    @property
    def _ran(self) -> int:
        return int((self._monotonic() - self._zero) * MICROS)
