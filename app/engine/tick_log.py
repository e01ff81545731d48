"""The ticks of a run as its journal has them, and the snapshots that take their place.

A snapshot is taken when the ticks since the last one are many enough to take a while to replay, and
large enough to be worth it: what all snapshots hold stays below what all ticks hold.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.ticks import WorkflowTick

from workflow_server.app.engine.payloads import SMALL_DOCUMENT, Payloads
from workflow_server.app.engine.snapshots import Timer, take_snapshot
from workflow_server.app.engine.ticks import encode_tick
from workflow_server.app.engine.values.codec import Codec

SNAPSHOT_TICKS = 100  # in which no snapshot is due
MAX_TICKS = 1_000  # after which one is due, large as it may be
WORTH = 2  # times the size of the last snapshot, that the ticks since must have before


class Journal(Protocol):
    """The part of the run's journal that keeps ticks and snapshots."""

    def add_tick(self, tick: bytes) -> None:
        """Write down a tick."""

    def set_snapshot(self, snapshot: bytes) -> None:
        """Write down the engine's state before the next tick."""

    def add_payloads(self, payloads: Iterable[tuple[int, bytes]]) -> None:
        """Write down large values to which ticks and snapshots refer, with their numbers."""

    def drop_payloads(self, numbers: Sequence[int]) -> None:
        """Write down that nothing refers to these any more."""


@dataclass(frozen=True, slots=True)
class Written:
    """The extent of a journal: its payloads, the size of its last snapshot, and the ticks since."""

    payloads: Payloads = field(default_factory=Payloads)
    snapshot_bytes: int = 0
    ticks: int = 0
    tick_bytes: int = 0


class TickLog:
    """Writes the ticks and snapshots of a run into its journal."""

    def __init__(self, journal: Journal, codec: Codec) -> None:
        self._journal = journal
        self._codec = codec
        self._payloads = Payloads()
        self._ticks = 0
        self._bytes = 0
        self._snapshot_bytes = 0
        self._has_all = True
        self._is_closed = False

    def close(self) -> None:
        """Write down nothing more: the run cannot go on from it."""
        self._is_closed = True

    def restore(self, written: Written) -> None:
        """Go on where a journal ends."""
        self._payloads = written.payloads
        self._snapshot_bytes = written.snapshot_bytes
        self._ticks, self._bytes = written.ticks, written.tick_bytes

    @property
    def is_in_snapshot(self) -> bool:
        """Return whether nothing was done since the last snapshot, or since the run came back."""
        return self._has_all

    @property
    def is_snapshot_due(self) -> bool:
        """Return whether it is time for a snapshot."""
        is_worth_it = self._bytes >= WORTH * self._snapshot_bytes or self._ticks >= MAX_TICKS
        return is_worth_it and self._ticks >= SNAPSHOT_TICKS and not self._is_closed

    def add(self, tick: WorkflowTick) -> int:
        """Write down a tick, and return its size as JSON; `NotSerializable` where it has none."""
        self._has_all = False
        self._ticks += 1
        encoded = encode_tick(tick, self._codec)
        if self._is_closed:
            return len(encoded)
        if len(encoded) < SMALL_DOCUMENT:
            self._bytes += len(encoded)
            self._journal.add_tick(encoded)
        else:
            stripped = self._payloads.strip(encoded)
            self._bytes += len(stripped.document)
            self._journal.add_payloads(stripped.added)
            self._journal.add_tick(stripped.document)
        return len(encoded)

    def write_snapshot(self, broker: BrokerState, timers: Sequence[Timer]) -> bool:
        """Write down the engine's state whole; return false while that cannot be done."""
        snapshot = take_snapshot(broker, self._codec, timers)
        if snapshot is None:
            return False
        stripped = self._payloads.strip(snapshot)
        self._journal.add_payloads(stripped.added)
        self._journal.set_snapshot(stripped.document)
        self._journal.drop_payloads(self._payloads.keep_only(stripped.numbers))
        self._ticks, self._bytes, self._snapshot_bytes = 0, 0, len(stripped.document)
        self._has_all = True
        return True
