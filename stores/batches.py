"""Batches to the rows that SQL stores write and remove.

What one batch would write and remove at once is left out, so the rows that are written and those
that are removed have nothing in common, and it does not matter which come first.
"""

from dataclasses import dataclass
from typing import Any

from schemas.records import Batch
from stores.packs import pack_events
from stores.rows import run_to_row

Row = tuple[Any, ...]

TABLES_OF_RUN = ("events", "ticks", "states", "snapshots", "inbox")  # all that have a run_id
TABLES_OF_UNFINISHED = ("ticks", "snapshots", "inbox")  # what nobody needs of a finished run


@dataclass(frozen=True, slots=True)
class BatchRows:
    """Rows to write, by table; then what is to be removed.

    `trimmed` has runs and the sequences before which their ticks go, `taken` runs and the numbers
    up to which their inboxes go.
    """

    runs: list[Row]
    events: list[Row]
    ticks: list[Row]
    states: list[Row]
    snapshots: list[Row]
    inbox: list[Row]
    trimmed: list[tuple[str, int]]
    taken: list[tuple[str, int]]
    finished: list[str]


def batch_to_rows(batch: Batch) -> BatchRows:
    """Return what a batch writes and removes, but for the handlers that it purges."""
    finished, taken = batch.finished, batch.taken
    snapshots = [s for s in batch.snapshots.values() if s.run_id not in finished]
    first = {s.run_id: s.tick_sequence for s in snapshots}
    return BatchRows(
        runs=[run_to_row(run) for run in batch.runs.values()],
        events=pack_events(batch.events),
        ticks=[
            (t.run_id, t.sequence, t.tick)
            for t in batch.ticks
            if t.run_id not in finished and t.sequence >= first.get(t.run_id, 0)
        ],
        states=[(s.run_id, s.state) for s in batch.states.values()],
        snapshots=[(s.run_id, s.tick_sequence, s.snapshot) for s in snapshots],
        inbox=[
            (i.run_id, i.number, i.delivery)
            for i in batch.inbox
            if i.run_id not in finished and i.number > taken.get(i.run_id, -1)
        ],
        trimmed=[(s.run_id, s.tick_sequence) for s in snapshots],
        taken=[(run_id, number) for run_id, number in taken.items() if run_id not in finished],
        finished=sorted(finished),
    )
