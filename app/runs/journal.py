"""The journal of one run: all that it does, in memory and in order, until it is committed.

There is one writer a run, so sequences are counted here. Records become ready in units: what a
tick caused (the tick, the state that the step left, the events that the engine published, the
status) is one unit, and so part of one batch; an event that a step writes meanwhile is a unit of
its own. `on_failed` is called once if the store fails for good, with the journal still intact, and
`on_refused` if it cannot write what the run has done, all of which is forgotten. `on_lost` is
called once if the run is another server's: nothing is written from then on.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

from workflow_server.app.engine.outcome import Outcome
from workflow_server.app.engine.pace import MAX_AT_ONCE_BYTES
from workflow_server.app.runs import phase
from workflow_server.app.runs.commit_log import CommitLog
from workflow_server.app.runs.history import History
from workflow_server.app.runs.positions import PositionWaiters
from workflow_server.app.runs.unit import Unit
from workflow_server.app.streams.tail import EventTail
from workflow_server.schemas.journals import CHANGED, SNAPSHOT, WHOLE
from workflow_server.schemas.records import (
    Batch,
    EventRecord,
    InboxRecord,
    PayloadRecord,
    Phase,
    RunRecord,
    SnapshotRecord,
    StateChangeRecord,
    StateRecord,
    Status,
    TickRecord,
)
from workflow_server.schemas.times import to_micros

MAX_UNCOMMITTED_BYTES = 1 << 20
RUN_BYTES = 512  # of the record of a run, about, beside its events


class RunJournal:
    """Counts, gathers and shows what one run does.

    `is_open` is whether a unit is open: the engine is carrying out what a tick caused.

    It has one method for each kind of record, and three faces: the run writes, the commit log
    drains, and whoever has to wait waits. All work on one order of records, so it is one class.
    """

    def __init__(
        self,
        record: RunRecord,
        log: CommitLog,
        *,
        tail: EventTail,
        next_tick: int = 0,
        next_delivery: int = 0,
        has_payloads: bool = False,
        on_committed: Callable[[RunRecord | None], None],
        on_failed: Callable[[], None],
        on_refused: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        self.record = record
        self._committed_record = record  # or that with which the run begins
        self.tail = tail
        self.next_sequence = tail.last + 1
        self._next_tick = next_tick
        self._next_delivery = next_delivery
        self.has_payloads = has_payloads
        self._log = log
        self._on_committed = on_committed
        self._on_failed = on_failed
        self._on_refused = on_refused
        self._on_lost = on_lost
        self.is_open = False
        self.next_change = 0
        self.history = History(record.run_id)
        # What is written down goes from the first to the last of these.
        self._latest = Unit()
        self._ready = Unit()
        self._in_flight = Unit()
        self._position = 0
        self._ready_position = 0
        self._drained_position = 0
        self._committed_position = 0
        self._waiters = PositionWaiters()
        self.is_failed = False
        self.is_refused = False
        self._is_forgetting = False  # until the run ends
        self._is_lost = False

    @property
    def run_id(self) -> str:
        """The run whose journal it is."""
        return self.record.run_id

    @property
    def uncommitted_bytes(self) -> int:
        """The size of the uncommitted tail."""
        return self._latest.size + self._ready.size + self._in_flight.size

    @property
    def has_room(self) -> bool:
        """Return whether the uncommitted tail is within its bound, and the server is certain."""
        return self.uncommitted_bytes <= MAX_UNCOMMITTED_BYTES and not self._log.doubt.is_in_doubt

    @property
    def is_full(self) -> bool:
        """Return whether the uncommitted tail is as long as it may be where nobody waits."""
        return self.uncommitted_bytes > MAX_AT_ONCE_BYTES

    @property
    def keeps_history(self) -> bool:
        """Truth of whether ticks are kept after they were carried out."""
        return self.record.keeps_history

    def open_unit(self) -> None:
        """Hold back what follows until `close_unit`."""
        self._make_ready()
        self.is_open = True

    def close_unit(self) -> None:
        """Make everything since `open_unit` ready to be committed, together."""
        if self.history.is_full or self.record.not_resumable_because is not None:
            self.pack_history()  # the ticks of a run that cannot be resumed are nowhere else
        self.is_open = False
        self._touch()

    def add_event(self, envelope: bytes, *, internal: bool, emitted_at: int) -> int:
        """Write down an event, emitted at this time in microseconds; return its sequence."""
        sequence = self.next_sequence
        self.next_sequence += 1
        self._latest.events.append(
            EventRecord(self.record.run_id, sequence, envelope, internal, emitted_at)
        )
        self._grow(len(envelope))
        return sequence

    def add_tick(self, tick: bytes) -> None:
        """Write down a tick."""
        beside = self.history.take_beginning()
        self._latest.ticks.append(TickRecord(self.record.run_id, self._next_tick, tick, beside))
        self._next_tick += 1
        self._grow(len(tick) + len(beside))

    def keep_tick(self, tick: bytes) -> None:
        """Keep a tick in the run's history, as a whole."""
        self.history.add(tick)

    @property
    def is_base_due(self) -> bool:
        """Return whether the next snapshot is to be kept in the history, and the state with it."""
        return self.keeps_history and self.history.is_base_due

    def keep_base(self, snapshot: bytes, encode_state: Callable[[], bytes | None]) -> None:
        """Keep the engine's state in the history, and that of the run, if it can be encoded."""
        if self._keep_beside(SNAPSHOT, snapshot) and (state := encode_state()) is not None:
            self._keep_beside(WHOLE, state)

    def _keep_beside(self, mark: bytes, document: bytes) -> bytes:
        """Keep a line beside the tick that this unit has, and return it; empty where there is none.

        What a run begins with goes with its first tick.
        """
        line = self.history.add_beside(mark, document) if self.keeps_history else b""
        self._latest.put_beside(line)
        return line

    def pack_history(self) -> None:
        """Write down the history since the last time; the oldest of it goes where it is long."""
        for pack in self.history.take_packs():
            self._latest.histories.append(pack)
            self._latest.forgotten = self.history.forget() or self._latest.forgotten
            self._grow(len(pack.ticks))

    def add_delivery(self, delivery: bytes) -> int:
        """Write down an event for a run that has not begun; return its number in the inbox."""
        number = self._next_delivery
        self._next_delivery += 1
        self._latest.inbox.append(InboxRecord(self.record.run_id, number, delivery))
        self._grow(len(delivery))
        return number

    def take_delivery(self, number: int) -> None:
        """Write down that the run has taken the events of its inbox up to this number."""
        self._latest.taken = number
        self.set_record(self.record)

    def set_state(self, state: bytes) -> None:
        """Write down the state that a step left."""
        # Those before it may be in the store, also where a commit of them was said to have failed.
        self._latest.state = StateRecord(
            self.record.run_id, state, self.next_change, replaces_changes=self.next_change > 0
        )
        self._latest.changes = []
        self._keep_beside(WHOLE, state)
        self._grow(len(state))

    def add_state_change(self, change: bytes) -> None:
        """Write down what has changed in the state since."""
        self._latest.changes.append(StateChangeRecord(self.record.run_id, self.next_change, change))
        self.next_change += 1
        self._keep_beside(CHANGED, change)
        self._grow(len(change))

    def set_snapshot(self, snapshot: bytes) -> None:
        """Write down the engine's state before the next tick."""
        self.pack_history()  # for the ticks before it go
        self._latest.snapshot = SnapshotRecord(self.record.run_id, self._next_tick, snapshot)
        self._grow(len(snapshot))

    def add_payloads(self, payloads: Iterable[tuple[int, bytes]]) -> None:
        """Write down large values to which ticks and snapshots refer, with their numbers."""
        for number, payload in payloads:
            self.has_payloads = True
            self._latest.payloads.append(PayloadRecord(self.record.run_id, number, payload))
            self._grow(len(payload))

    def drop_payloads(self, numbers: Iterable[int]) -> None:
        """Write down that nothing refers to these any more; a snapshot says so."""
        self._latest.dropped += [(self.record.run_id, number) for number in numbers]

    def set_record(self, record: RunRecord, *, superseded: RunRecord | None = None) -> None:
        """Write down where the run stands, and that it follows an earlier run of its handler."""
        self.record = record
        self._latest.run, self._latest.released = record, False
        # Kept when the run is written again before it was committed once.
        self._latest.superseded = superseded or self._latest.superseded
        self._grow(RUN_BYTES + record.size)

    def release(self) -> None:
        """Write down that the run leaves memory, and that no server has it then."""
        self.set_record(self.record)
        self._latest.released = True

    def end(self, ended: Outcome, *, now: datetime) -> None:
        """Write down the run's terminal event and final record; nothing may follow.

        Where the store has refused what the run has done, that is all that is written.
        """
        if self.is_refused:
            self._drop_uncommitted()
            self._is_forgetting = False
            self.record, self.next_sequence = self._committed_record, self.tail.last + 1
        else:
            self.pack_history()
        status, envelope = ended.status, ended.envelope
        if status is Status.COMPLETED:
            # Nobody resumes or retries it.
            for unit in (self._ready, self._latest):
                unit.ticks.clear()
                unit.payloads.clear()
                unit.snapshot = None
            self._latest.completed = True
            self._latest.cleared = self.has_payloads
        elif self._next_delivery:
            self._latest.taken = self._next_delivery - 1
        self.add_event(envelope, internal=False, emitted_at=to_micros(now))
        self.set_record(
            phase.end(
                self.record,
                status,
                now=now,
                result=envelope if status is Status.COMPLETED else None,
                error=ended.error,
                failure=ended.failure,
                event_count=self.next_sequence - self.record.first_sequence,
                # Runs from before sequences counted on may have had greater ones.
                next_sequence=max(self.next_sequence, self.record.next_sequence),
            )
        )

    @property
    def is_committed(self) -> bool:
        """Return whether everything written down so far is committed."""
        return self._committed_position >= self._position

    async def wait_committed(self) -> None:
        """Return when everything written down so far is committed.

        A failure of the store does not end the wait: the run then ends, and `on_failed` tells.
        """
        if self.is_committed or self._is_lost:
            return
        await self._waiters.wait(self._position)

    async def wait_for_room(self) -> None:
        """Return when the uncommitted tail is within its bound again."""
        while not (self.has_room or self.is_open or self.is_failed):
            await self._log.doubt.wait_certain()
            await self.wait_committed()

    def drain(self, batch: Batch) -> int:
        """Move everything that is ready into the batch, beside what was drained and not written.

        Returns how many bytes that is, about.
        """
        self._make_ready()
        self._in_flight = self._in_flight.followed_by(self._ready)
        self._ready = Unit()
        self._drained_position = self._ready_position
        self._in_flight.add_to(batch)
        return self._in_flight.size

    def committed(self) -> None:
        """Show what the drained batch held."""
        shown, self._in_flight = self._in_flight, Unit()
        self._committed_position = self._drained_position
        self._committed_record = shown.run or self._committed_record
        self.tail.publish(shown.events)
        self._on_committed(shown.run)
        self._waiters.release(until=self._committed_position)

    @property
    def can_wait(self) -> bool:
        """Return whether the run waits and the drained records change nothing that clients see.

        Such records are a snapshot, that the run leaves memory or has come back, and ticks that
        changed nothing; any other tick of a waiting run comes with a record.
        """
        drained = self._in_flight
        waits = self.record.phase is Phase.WAITING
        moved = drained.run is not None and not phase.waits_on(self._committed_record, drained.run)
        return waits and not (moved or drained.events or drained.state or drained.changes)

    def failed(self) -> None:
        """Keep what was drained for another try, and end the run."""
        if not self.is_failed:
            self._fail()

    def refused(self) -> None:
        """Forget all that is not committed, which cannot be, and end the run.

        Where not even that end can be written, the run fails as if the store were away.
        """
        if self.is_refused:
            self._in_flight = Unit()
            self._fail()
            return
        self.is_failed = self.is_refused = self._is_forgetting = True
        self._drop_uncommitted()
        self._on_refused()
        self._waiters.release()

    def lost(self) -> None:
        """Forget all that is not committed, send everybody away, and write nothing any more."""
        if self._is_lost:
            return
        self._is_lost = self.is_failed = True
        self._in_flight, self._ready, self._latest = Unit(), Unit(), Unit()
        self.tail.close()
        self._on_lost()
        self._waiters.release()

    def cut_off(self, error: Exception) -> None:
        """Fail the waits for a unit that is still open: it is not committed."""
        if self.is_open:
            self._waiters.refuse(error, after=self._ready_position)

    def _fail(self) -> None:
        self.is_failed = True
        self.tail.fail()
        self._on_failed()
        self._waiters.release()

    def _drop_uncommitted(self) -> None:
        """Forget all that is not committed, but that the run follows another one, and its state."""
        dropped = self._in_flight.followed_by(self._ready).followed_by(self._latest)
        self._in_flight, self._ready, self._latest = Unit(), Unit(), Unit()
        if dropped.superseded is not None:
            self._latest.superseded, self._latest.state = dropped.superseded, dropped.state

    def _make_ready(self) -> None:
        """Let all that is written down be drained, unless it belongs to a unit that is open."""
        if not (self.is_open or self._is_forgetting):
            self._ready = self._ready.followed_by(self._latest)
            self._latest = Unit()
            self._ready_position = self._position

    def _grow(self, size: int) -> None:
        self._position += 1
        self._latest.size += size
        if not self.is_open:
            self._touch()

    def _touch(self) -> None:
        if not self._is_lost:
            self._log.touch(self)
