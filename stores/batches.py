"""Batches to the rows that SQL stores write and remove.

What one batch would write and remove at once is left out, so the rows that are written and those
that are removed have nothing in common, and it does not matter which come first.
"""

from dataclasses import dataclass
from typing import Any

from workflow_server.schemas.records import Batch
from workflow_server.stores.packs import pack_events
from workflow_server.stores.rows import run_to_row

Row = tuple[Any, ...]

# All that have a run_id.
TABLES_OF_RUN = ("events", "ticks", "states", "snapshots", "inbox", "payloads", "state_changes")
TABLES_OF_UNFINISHED = ("ticks", "snapshots", "inbox")  # what nobody needs of a finished run
TABLES_OF_CURRENT = (
    "states",
    "state_changes",
)  # what nobody needs of a superseded run, beside those


@dataclass(frozen=True, slots=True)
class BatchRows:
    """Rows to write, by table; then what is to be removed.

    `trimmed` has runs and the sequences before which their ticks go, `taken` runs and the numbers
    up to which their inboxes go, `dropped` the numbers of payloads, and `cleared` runs of which
    those all go, and `folded` the numbers before which changes of states go.
    """

    runs: list[Row]
    events: list[Row]
    ticks: list[Row]
    states: list[Row]
    changes: list[Row]
    folded: list[tuple[str, int]]
    snapshots: list[Row]
    inbox: list[Row]
    payloads: list[Row]
    trimmed: list[tuple[str, int]]
    taken: list[tuple[str, int]]
    dropped: dict[str, list[int]]
    cleared: list[str]
    finished: list[str]
    superseded: list[str]


def batch_to_rows(batch: Batch) -> BatchRows:
    """Return what a batch writes and removes, but for the handlers and runs that it purges."""
    superseded, taken = batch.superseded, batch.taken
    finished = batch.finished | superseded
    cleared = batch.cleared | superseded
    dropped: dict[str, list[int]] = {}
    gone = set(batch.dropped)
    for run_id, number in batch.dropped:
        if run_id not in cleared:
            dropped.setdefault(run_id, []).append(number)
    snapshots = [s for s in batch.snapshots.values() if s.run_id not in finished]
    states = [s for s in batch.states.values() if s.run_id not in superseded]
    first_changes = {s.run_id: s.first_change for s in states}
    first = {s.run_id: s.tick_sequence for s in snapshots}
    return BatchRows(
        runs=[run_to_row(run) for run in batch.runs.values()],
        events=pack_events(batch.events),
        ticks=[
            (t.run_id, t.sequence, t.tick)
            for t in batch.ticks
            if t.run_id not in finished and t.sequence >= first.get(t.run_id, 0)
        ],
        states=[(s.run_id, s.state, s.first_change) for s in states],
        changes=[
            (c.run_id, c.number, c.change)
            for c in batch.changes
            if c.run_id not in superseded and c.number >= first_changes.get(c.run_id, 0)
        ],
        folded=[(s.run_id, s.first_change) for s in states if s.replaces_changes],
        snapshots=[(s.run_id, s.tick_sequence, s.snapshot) for s in snapshots],
        inbox=[
            (i.run_id, i.number, i.delivery)
            for i in batch.inbox
            if i.run_id not in finished and i.number > taken.get(i.run_id, -1)
        ],
        payloads=[
            (p.run_id, p.number, p.payload)
            for p in batch.payloads
            if p.run_id not in cleared and (p.run_id, p.number) not in gone
        ],
        trimmed=[(s.run_id, s.tick_sequence) for s in snapshots],
        taken=[(run_id, number) for run_id, number in taken.items() if run_id not in finished],
        dropped=dropped,
        cleared=sorted(cleared),
        finished=sorted(finished),
        superseded=sorted(superseded),
    )
