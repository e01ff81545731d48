"""Units of a journal: what is committed together."""

from dataclasses import dataclass, field, replace

from workflow_server.schemas.records import (
    Batch,
    EventRecord,
    HistoryRecord,
    InboxRecord,
    PayloadRecord,
    RunRecord,
    SnapshotRecord,
    StateChangeRecord,
    StateRecord,
    TickRecord,
)


@dataclass(slots=True)
class Unit:
    """Records that are committed together, and where the run stands after them."""

    run: RunRecord | None = None
    superseded: RunRecord | None = None
    events: list[EventRecord] = field(default_factory=list)
    ticks: list[TickRecord] = field(default_factory=list)
    state: StateRecord | None = None
    changes: list[StateChangeRecord] = field(default_factory=list)
    snapshot: SnapshotRecord | None = None
    inbox: list[InboxRecord] = field(default_factory=list)
    payloads: list[PayloadRecord] = field(default_factory=list)
    histories: list[HistoryRecord] = field(default_factory=list)
    forgotten: int = 0
    dropped: list[tuple[str, int]] = field(default_factory=list)
    cleared: bool = False
    taken: int | None = None
    completed: bool = False
    released: bool = False
    size: int = 0

    def put_beside(self, line: bytes) -> None:
        """Let a line stand beside the last tick; there is none where the run cannot be resumed."""
        if line and self.ticks:
            tick = self.ticks[-1]
            lines = b"\n".join((tick.beside, line)) if tick.beside else line
            self.ticks[-1] = replace(tick, beside=lines)
            self.size += len(line)

    def followed_by(self, later: "Unit") -> "Unit":
        """Return both units as one; they are not to be used any more."""
        if self.is_empty:
            return later
        if later.run is not None:
            self.run, self.released = later.run, later.released
        self.superseded = later.superseded or self.superseded
        self.events += later.events
        self.ticks += later.ticks
        if later.state is not None:
            self.state, self.changes = later.state, []
        self.changes += later.changes
        self.snapshot = later.snapshot or self.snapshot
        self.inbox += later.inbox
        self.payloads += later.payloads
        self.histories += later.histories
        self.forgotten = max(self.forgotten, later.forgotten)
        self.dropped += later.dropped
        self.cleared = self.cleared or later.cleared
        self.taken = later.taken if later.taken is not None else self.taken
        self.completed = self.completed or later.completed
        self.size += later.size
        return self

    @property
    def is_empty(self) -> bool:
        """Return whether the unit holds nothing."""
        records = (self.run, self.events, self.ticks, self.snapshot, self.inbox, self.histories)
        return not (any(records) or self.state or self.changes)

    def add_to(self, batch: Batch) -> None:
        """Write the records into a batch."""
        for run in (self.superseded, self.run):
            if run is not None:
                batch.runs[run.run_id] = run
        batch.events += self.events
        batch.ticks += self.ticks
        if self.state is not None:
            batch.states[self.state.run_id] = self.state
        batch.changes += self.changes
        if self.snapshot is not None:
            batch.snapshots[self.snapshot.run_id] = self.snapshot
        batch.inbox += self.inbox
        batch.payloads += self.payloads
        batch.histories += self.histories
        if self.forgotten:
            batch.forgotten[self.histories[-1].run_id] = self.forgotten
        batch.dropped += self.dropped
        if self.run is None:
            return
        # Where events of an inbox are taken, or a run completes, its record is written too.
        if self.taken is not None:
            batch.taken[self.run.run_id] = self.taken
        if self.completed:
            batch.finished.add(self.run.run_id)
        if self.released:
            batch.released.add(self.run.run_id)
        if self.cleared:
            batch.cleared.add(self.run.run_id)
        if self.superseded is not None:
            batch.superseded.add(self.superseded.run_id)
