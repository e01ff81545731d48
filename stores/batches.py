"""Batches to the rows that SQL stores write and remove.

What one batch would write and remove at once is left out, so the rows that are written and those
that are removed have nothing in common, and it does not matter which come first.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from workflow_server.schemas.records import Batch, Status
from workflow_server.stores.packs import pack_events
from workflow_server.stores.rows import clock_to_row, run_to_row

Row = tuple[Any, ...]

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
    those all go, and `folded` the numbers before which changes of states go. `forgotten` has the
    sizes before which the histories of runs go.
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
    histories: list[Row]
    forgotten: list[tuple[str, int]]
    trimmed: list[tuple[str, int]]
    taken: list[tuple[str, int]]
    dropped: dict[str, list[int]]
    cleared: list[str]
    finished: list[str]
    superseded: list[str]
    clock: list[Row]


def leave_out(batch: Batch, run_ids: Collection[str]) -> Batch:
    """Return a batch without all that belongs to some runs."""
    gone = frozenset(run_ids)
    return Batch(
        runs={run_id: run for run_id, run in batch.runs.items() if run_id not in gone},
        events=[event for event in batch.events if event.run_id not in gone],
        ticks=[tick for tick in batch.ticks if tick.run_id not in gone],
        states={run_id: state for run_id, state in batch.states.items() if run_id not in gone},
        changes=[change for change in batch.changes if change.run_id not in gone],
        snapshots={
            run_id: snapshot for run_id, snapshot in batch.snapshots.items() if run_id not in gone
        },
        inbox=[item for item in batch.inbox if item.run_id not in gone],
        payloads=[payload for payload in batch.payloads if payload.run_id not in gone],
        histories=[pack for pack in batch.histories if pack.run_id not in gone],
        forgotten={run_id: size for run_id, size in batch.forgotten.items() if run_id not in gone},
        dropped=[item for item in batch.dropped if item[0] not in gone],
        cleared=batch.cleared - gone,
        taken={run_id: number for run_id, number in batch.taken.items() if run_id not in gone},
        finished=batch.finished - gone,
        superseded=batch.superseded - gone,
        purged=batch.purged,
        purged_runs=[run_id for run_id in batch.purged_runs if run_id not in gone],
        released=batch.released - gone,
        clock=batch.clock,
    )


def batch_to_rows(batch: Batch, incarnation: int, *, worth: float) -> BatchRows:
    """Return what a batch of an incarnation writes and removes, but for what it purges.

    `worth` is to which part of itself a pack of events must shrink to be compressed.
    """
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
        runs=[
            run_to_row(
                run,
                incarnation
                if run.status is Status.RUNNING and run.run_id not in batch.released
                else None,
            )
            for run in batch.runs.values()
        ],
        events=pack_events(batch.events, worth=worth),
        ticks=[
            (t.run_id, t.sequence, t.tick, t.beside)
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
        histories=[
            (h.run_id, h.first, h.last, h.bytes_until, h.ticks)
            for h in batch.histories
            if h.bytes_until - len(h.ticks) >= batch.forgotten.get(h.run_id, 0)
        ],
        forgotten=list(batch.forgotten.items()),
        trimmed=[(s.run_id, s.tick_sequence) for s in snapshots],
        taken=[(run_id, number) for run_id, number in taken.items() if run_id not in finished],
        dropped=dropped,
        cleared=sorted(cleared),
        finished=sorted(finished),
        superseded=sorted(superseded),
        clock=[clock_to_row(batch.clock)] if batch.clock is not None else [],
    )
