"""What a scenario is: one turn of one server, from its start to its end, and what it tells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.servers import Contender

Reading = Mapping[str, float]

KIB, MIB = 1024, 1 << 20


@dataclass(frozen=True, slots=True)
class Scale:
    """How much work a turn is; `slow` is for servers that would take ten times as long."""

    rounds: int
    pace_seconds: float
    streams: int
    quiet_seconds: float
    waiting_runs: int
    handlers_a_page: int
    read_events: int
    resumed_runs: int
    grown_events: int
    grown_steps: int
    slow: int = 10


FULL = Scale(
    rounds=2,
    pace_seconds=4,
    streams=5_000,
    quiet_seconds=26,  # longer than the pause between two heartbeats
    waiting_runs=10_000,
    handlers_a_page=1_000,
    read_events=10_000,
    resumed_runs=1_000,
    grown_events=100_000,
    grown_steps=100_000,
)
QUICK = Scale(
    rounds=1,
    pace_seconds=1.5,
    streams=1_000,
    quiet_seconds=3,
    waiting_runs=500,
    handlers_a_page=200,
    read_events=5_000,
    resumed_runs=50,
    grown_events=50_000,
    grown_steps=3_000,
)


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a reading, as the table shows it: `key` times `factor`."""

    key: str
    title: str
    digits: int = 1
    factor: float = 1.0


class Scenario(Protocol):
    """A row of the benchmark that needs a server of its own for each turn."""

    @property
    def name(self) -> str:
        """The name on the command line."""

    @property
    def title(self) -> str:
        """What the table says."""

    @property
    def columns(self) -> Sequence[Column]:
        """What the table shows of a reading."""

    @property
    def compared(self) -> str | None:
        """The key of which ratios to the peer's memory server are told, if any."""

    @property
    def more(self) -> bool:
        """Whether more of what is compared is better."""

    @property
    def repeated(self) -> bool:
        """Whether there are rounds; one is enough for what takes long."""

    async def measure(self, contender: Contender, scale: Scale) -> Reading | None:
        """Take a turn and check its answers; None where the server cannot do it."""


def rank(values: Sequence[float], percent: float) -> float:
    """Return a percentile of some values."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def delays(seconds: Sequence[float]) -> dict[str, float]:
    """Return the two percentiles of delays that the tables show."""
    return {"p50": rank(seconds, 50), "p99": rank(seconds, 99)}


DELAY_COLUMNS = (Column("p50", "p50 ms", factor=1e3), Column("p99", "p99 ms", factor=1e3))
