"""The ticks of a run as its journal has them, and the snapshots that take their place.

A snapshot is taken when the ticks since the last one are many enough to take a while to replay, and
large enough to be worth it: what all snapshots hold stays below what all ticks hold. It is also
taken when large values are many that may have gone through the run since, and are held no more: so
a journal is at most about `WORTH` + 1 times as large as what the run holds, and `HEAVY`.
"""

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from workflows.runtime.types.internal_state import BrokerState
from workflows.runtime.types.ticks import TickAddEvent, TickStepResult, WorkflowTick

from workflow_server.app.engine.attempt import MAX_KEPT_BYTES, Attempt, encode_brief
from workflow_server.app.engine.codec import NotSerializable
from workflow_server.app.engine.heavy import LARGE
from workflow_server.app.engine.payloads import Payloads, Stripped
from workflow_server.app.engine.prepared import PreparedEvent
from workflow_server.app.engine.snapshots import Timer, take_snapshot
from workflow_server.app.engine.ticks import encode_tick, encode_without_event, put_event
from workflow_server.app.engine.values.codec import Codec

SNAPSHOT_TICKS = 100  # in which no snapshot is due
MAX_TICKS = 1_000  # after which one is due, large as it may be
HEAVY = 16 << 20  # bytes of payloads since the last snapshot, in which none is due
WORTH = 2  # times the size of the last snapshot, that the ticks since must have before


class Journal(Protocol):
    """The part of the run's journal that keeps ticks and snapshots.

    `keeps_history` is whether ticks are kept after they were carried out.
    """

    @property
    def keeps_history(self) -> bool: ...

    def add_tick(self, tick: bytes) -> None:
        """Write down a tick."""

    def keep_tick(self, tick: bytes) -> None:
        """Keep the tick that is written down next, as a whole, in the run's history."""

    @property
    def is_base_due(self) -> bool:
        """Return whether the next snapshot is to be kept in the history, and the state with it."""

    def keep_base(self, snapshot: bytes, encode_state: Callable[[], bytes | None]) -> None:
        """Keep the engine's state as a whole, and that of the run, in the run's history."""

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


@dataclass(slots=True)
class EncodedTick:
    """A tick as it is written: `stripped` into the journal, and what is `kept` in the history.

    `size` is that of its JSON; `fault` says why it has none.
    """

    size: int = 0
    stripped: Stripped | None = None
    kept: bytes | None = None
    fault: NotSerializable | None = None


EncodeState = Callable[[], bytes | None]


@dataclass(frozen=True, slots=True)
class EncodedSnapshot:
    """The engine's state, as a whole and without its large values, and the run's own state.

    `state` is None where it was not asked for, or cannot be stored.
    """

    whole: bytes
    stripped: Stripped
    state: bytes | None


def encode_snapshot(
    broker: BrokerState,
    codec: Codec,
    timers: Sequence[Timer],
    payloads: Payloads,
    encode_state: EncodeState | None,
) -> EncodedSnapshot | None:
    """Return the engine's state; None while it cannot be kept whole."""
    snapshot = take_snapshot(broker, codec, timers)
    if snapshot is None:
        return None
    state = encode_state() if encode_state is not None else None
    return EncodedSnapshot(snapshot, payloads.strip(snapshot), state)


class TickLog:
    """Writes the ticks and snapshots of a run into its journal."""

    def __init__(self, journal: Journal, codec: Codec, payloads: Payloads | None = None) -> None:
        self._journal = journal
        self._codec = codec
        self._payloads = payloads or Payloads()
        self._ticks = 0
        self._due_ticks = SNAPSHOT_TICKS
        self._bytes = 0
        self._snapshot_bytes = 0
        self._kept_bytes = 0  # of payloads, after the last look at what a snapshot holds
        self._has_all = True
        self._is_closed = False
        self._prepared: dict[int, PreparedEvent] = {}

    def close(self) -> None:
        """Write down nothing more: the run cannot go on from it."""
        self._is_closed = True

    @property
    def is_closed(self) -> bool:
        """Return whether nothing more is written down."""
        return self._is_closed

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
    def is_whole(self) -> bool:
        """Return whether the journal has no ticks since the last snapshot."""
        return self._ticks == 0

    @property
    def is_snapshot_due(self) -> bool:
        """Return whether it is time for a snapshot."""
        is_worth_it = self._bytes >= WORTH * self._snapshot_bytes or self._ticks >= MAX_TICKS
        is_due = is_worth_it and self._ticks >= self._due_ticks
        return (is_due or self._is_heavy) and not self._is_closed

    @property
    def _is_heavy(self) -> bool:
        """Return whether most of the payloads may be held by nothing any more."""
        added = self._payloads.bytes - self._kept_bytes
        return added >= max(HEAVY, WORTH * self._kept_bytes)

    def add(self, tick: WorkflowTick, attempt: Attempt | None = None) -> int:
        """Write down a tick, and return its size as JSON; `NotSerializable` where it has none.

        `attempt` is that of the step whose result the tick is.
        """
        return self.put(self.encode(tick, attempt))

    def encode(self, tick: WorkflowTick, attempt: Attempt | None = None) -> EncodedTick:
        """Return the tick that is to be put next; nothing in that needs the event loop."""
        encoded = EncodedTick()
        try:
            prepared = self._find_prepared(tick) if self._prepared else None
            if prepared is None:
                self._encode(tick, attempt, encoded)
            else:
                self._encode_prepared(tick, attempt, prepared, encoded)
        except NotSerializable as fault:
            encoded.fault = fault
            encoded.kept = self._brief(tick, attempt)
        return encoded

    def put(self, encoded: EncodedTick) -> int:
        """Write down a tick that is encoded; as `add` else."""
        self._has_all = False
        self._ticks += 1
        if encoded.kept is not None:
            self._journal.keep_tick(encoded.kept)
        if encoded.fault is not None:
            raise encoded.fault
        if encoded.stripped is not None:
            self._bytes += len(encoded.stripped.document)
            self._journal.add_payloads(encoded.stripped.added)
            self._journal.add_tick(encoded.stripped.document)
        return encoded.size

    def _brief(self, tick: WorkflowTick, attempt: Attempt | None) -> bytes | None:
        return encode_brief(tick, attempt) if self._journal.keeps_history else None

    def _encode(self, tick: WorkflowTick, attempt: Attempt | None, encoded: EncodedTick) -> None:
        document = encode_tick(tick, self._codec, attempt)
        encoded.size = len(document)
        if self._journal.keeps_history:
            is_large = encoded.size > MAX_KEPT_BYTES
            encoded.kept = encode_brief(tick, attempt) if is_large else document
        if not self._is_closed:
            encoded.stripped = self._payloads.strip(document)

    def use(self, prepared: PreparedEvent) -> None:
        """Write an event as it was prepared, in all ticks that have it, until it changes."""
        event = prepared.event()
        if event is not None:
            self._prepared[id(event)] = prepared
            weakref.finalize(event, self._prepared.pop, id(event), None).atexit = False

    def _find_prepared(self, tick: WorkflowTick) -> PreparedEvent | None:
        """Return the event of a tick as it was prepared, or None."""
        if not isinstance(tick, TickAddEvent | TickStepResult):
            return None
        prepared = self._prepared.get(id(tick.event))
        if prepared is None:
            return None
        payload = prepared.payload
        is_there = not prepared.is_used or payload is None or self._payloads.has(payload)
        if is_there and prepared.is_true():
            return prepared
        del self._prepared[id(tick.event)]
        return None

    def _encode_prepared(
        self,
        tick: WorkflowTick,
        attempt: Attempt | None,
        prepared: PreparedEvent,
        encoded: EncodedTick,
    ) -> None:
        """Do what `_encode` does for a tick whose event is written already."""
        assert isinstance(tick, TickAddEvent | TickStepResult)
        if prepared.fault is not None:
            raise prepared.fault.with_traceback(None)
        rest = encode_without_event(tick, self._codec, attempt)
        encoded.size = len(rest) + prepared.size
        if self._journal.keeps_history:
            if encoded.size > MAX_KEPT_BYTES or prepared.encoded is None:
                encoded.kept = encode_brief(tick, attempt)
            else:
                encoded.kept = put_event(rest, prepared.encoded)
        if not self._is_closed:
            encoded.stripped = self._strip_prepared(tick, attempt, prepared, rest)
        prepared.be_used()

    def _strip_prepared(
        self,
        tick: TickAddEvent | TickStepResult,
        attempt: Attempt | None,
        prepared: PreparedEvent,
        rest: bytes,
    ) -> Stripped:
        """Return a tick that refers to its event, if it can; `rest` is the tick without that."""
        if prepared.payload is not None:
            try:
                return self._payloads.strip_beside(rest, "event", prepared.payload)
            except ValueError:
                return self._payloads.strip(encode_tick(tick, self._codec, attempt))
        assert prepared.encoded is not None
        return Stripped(put_event(rest, prepared.encoded))

    @property
    def is_heavy(self) -> bool:
        """Return whether a snapshot is likely to be large."""
        return self._payloads.bytes + self._snapshot_bytes >= LARGE

    def encode_snapshot(
        self, broker: BrokerState, timers: Sequence[Timer], encode_state: EncodeState
    ) -> EncodedSnapshot | None:
        """Return the engine's state whole, to be put next, or None while that cannot be done.

        Nothing in that needs the event loop. The run's own state is encoded where the history is to
        have both.
        """
        encode = encode_state if self._journal.is_base_due else None
        return encode_snapshot(broker, self._codec, timers, self._payloads, encode)

    def put_snapshot(self, encoded: EncodedSnapshot | None) -> bool:
        """Write down a snapshot that is encoded; return false where there is none."""
        if encoded is None:
            # It may never succeed, and costs as much as one that does.
            self._due_ticks = max(2 * self._ticks, SNAPSHOT_TICKS)
            self._kept_bytes = self._payloads.bytes
            return False
        if self._journal.is_base_due:
            self._journal.keep_base(encoded.whole, lambda: encoded.state)
        stripped = encoded.stripped
        self._journal.add_payloads(stripped.added)
        self._journal.set_snapshot(stripped.document)
        self._journal.drop_payloads(self._payloads.keep_only(stripped.numbers))
        self._kept_bytes = self._payloads.bytes
        self._ticks, self._bytes, self._snapshot_bytes = 0, 0, len(stripped.document)
        self._due_ticks = SNAPSHOT_TICKS
        self._has_all = True
        return True
