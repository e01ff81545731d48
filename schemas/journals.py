"""Records of a run's journal: what the run goes on from, and what is kept of it afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass

RUN_FORMAT = 1  # in which runs are stored; what earlier releases cannot read has a higher one

# A line beside a tick in a history begins with a mark, as no tick does. That of a whole state which
# is too large to be kept, or cannot be stored, has nothing behind it.
WHOLE, CHANGED, SNAPSHOT = b"=", b"+", b"*"  # a state, what has changed in it, the engine's state


@dataclass(frozen=True, slots=True)
class TickRecord:
    """A tick that the engine reduced, numbered 0, 1, 2, … in its run.

    `beside` are lines that the run's history has after the tick, without a line break at the end.
    """

    run_id: str
    sequence: int
    tick: bytes
    beside: bytes = b""


@dataclass(frozen=True, slots=True)
class PayloadRecord:
    """A large value to which ticks and the snapshot of a run refer, by its number in the run."""

    run_id: str
    number: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """The engine's state of a run before the tick numbered `tick_sequence`."""

    run_id: str
    tick_sequence: int
    snapshot: bytes


@dataclass(frozen=True, slots=True)
class TickPage:
    """Some ticks of a run in order; `is_last` where there are none after them."""

    ticks: Sequence[TickRecord]
    is_last: bool


@dataclass(frozen=True, slots=True)
class HistoryRecord:
    """A pack of a run's ticks, from `first` to `last`, which is kept until the run is purged.

    `bytes_until` is the size of all the packs of the run up to this one, also of those that were
    removed since. `ticks` are lines, each with those beside it, compressed where that makes them
    smaller.
    """

    run_id: str
    first: int
    last: int
    bytes_until: int
    ticks: bytes


@dataclass(frozen=True, slots=True)
class HistoryExtent:
    """The extent of a run's history: the tick that follows, and the size of all its packs."""

    next_tick: int = 0
    bytes_until: int = 0
