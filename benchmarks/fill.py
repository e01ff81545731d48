"""Fills a store: `python -m benchmarks.fill URL WHAT COUNT [TICKS]`, in our environment.

`handlers` are ended ones; `journals` are runs that were cut off in their last step, copied from
runs that are really made here, `whole-journals` the same without their snapshots.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from app.loader import load_sources
from app.server import WorkflowServer
from benchmarks.client import Connection
from benchmarks.servers import WORKFLOWS, Server
from benchmarks.workflows import HOLD
from schemas.records import (
    Batch,
    EventRecord,
    RunRecord,
    SnapshotRecord,
    StateRecord,
    Status,
    TickRecord,
)
from stores.backends import open_store
from stores.base import Store
from stores.memory import MemoryStore

HANDLERS_A_COMMIT = 2_000
RUNS_A_COMMIT = 10
LENGTHS = 20  # so many journals are really made
SPREAD = 100  # and their lengths differ by so many ticks
TICKS_A_STEP = 2
POLL = 0.02
RESULT = b'{"value":{"result":"done"},"type":"StopEvent","types":null,"qualified_name":null}'


class RecordingStore(MemoryStore):
    """Keeps all ticks, those before a snapshot too."""

    def __init__(self) -> None:
        super().__init__()
        self.all_ticks: list[TickRecord] = []

    async def commit(self, batch: Batch) -> None:
        """Write a batch, and note its ticks."""
        await super().commit(batch)
        self.all_ticks += batch.ticks


@dataclass(frozen=True, slots=True)
class Journal:
    """What a run that was cut off has left."""

    record: RunRecord
    events: Sequence[EventRecord]
    ticks: Sequence[TickRecord]
    snapshot: SnapshotRecord | None
    state: bytes | None

    def copy_to(self, batch: Batch, run_id: str, handler_id: str) -> None:
        """Put a copy under other ids into a batch."""
        batch.runs[run_id] = replace(self.record, run_id=run_id, handler_id=handler_id)
        batch.events += [replace(event, run_id=run_id) for event in self.events]
        batch.ticks += [replace(tick, run_id=run_id) for tick in self.ticks]
        if self.snapshot is not None:
            batch.snapshots[run_id] = replace(self.snapshot, run_id=run_id)
        if self.state is not None:
            batch.states[run_id] = StateRecord(run_id, self.state)


async def fill_handlers(store: Store, count: int) -> None:
    """Write ended handlers, each a second younger than the one before."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    for first in range(0, count, HANDLERS_A_COMMIT):
        batch = Batch()
        for number in range(first, min(first + HANDLERS_A_COMMIT, count)):
            run_id, then = f"run-{number}", begin + timedelta(seconds=number)
            batch.runs[run_id] = RunRecord(
                run_id=run_id,
                handler_id=f"handler-{number}",
                handler_created_at=then,
                workflow_name="one_step",
                status=Status.COMPLETED,
                started_at=then,
                updated_at=then,
                completed_at=then,
                result=RESULT,
                event_count=1,
            )
            batch.events.append(EventRecord(run_id, 0, RESULT, internal=False))
        await store.commit(batch)


async def fill_journals(store: Store, count: int, *, ticks: int, whole: bool) -> None:
    """Write runs that were cut off in their last step; `whole` journals have no snapshots."""
    journals = await _record_journals(ticks, whole=whole)
    for first in range(0, count, RUNS_A_COMMIT):
        batch = Batch()
        for number in range(first, min(first + RUNS_A_COMMIT, count)):
            steps, journal = journals[number % len(journals)]
            journal.copy_to(batch, f"run-{number}", f"march-{number}-{steps}")
        await store.commit(batch)


async def _record_journals(ticks: int, *, whole: bool) -> list[tuple[int, Journal]]:
    """Make runs of about so many ticks, and return their steps and journals."""
    os.environ[HOLD] = "1"
    store = RecordingStore()
    server = WorkflowServer(workflow_store=store)
    for item in load_sources([str(WORKFLOWS)]).workflows:
        server.add_workflow(item.name, item.workflow)
    port = _free_port()
    serving = asyncio.create_task(server.serve("127.0.0.1", port, {"log_level": "critical"}))
    client = Server("recording", port, os.getpid(), 0)
    connection = await _connect(port)
    journals = []
    for number in range(LENGTHS):
        length = ticks - SPREAD // 2 + number * SPREAD // LENGTHS
        steps = length // TICKS_A_STEP - 1
        handler_id = await client.start_run("march", connection, steps=steps)
        journals.append((steps, await _record(store, handler_id, steps, whole=whole)))
    connection.close()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    return journals


async def _record(store: RecordingStore, handler_id: str, steps: int, *, whole: bool) -> Journal:
    """Return the journal of a march once its last step hangs."""
    reached = f'"index":{steps},'.encode()
    while True:
        record = await store.get_handler(handler_id)
        assert record is not None
        events: list[EventRecord] = []
        while page := await store.read_events(
            record.run_id, after=len(events) - 1, limit=HANDLERS_A_COMMIT
        ):
            events += page
        if events and reached in events[-1].envelope:
            break
        await asyncio.sleep(POLL)
    snapshot = None if whole else await store.get_snapshot(record.run_id)
    first = snapshot.tick_sequence if snapshot else 0
    ticks = [
        tick for tick in store.all_ticks if tick.run_id == record.run_id and tick.sequence >= first
    ]
    return Journal(record, events, ticks, snapshot, await store.get_state(record.run_id))


async def _connect(port: int) -> Connection:
    while True:
        try:
            return await Connection.open(port)
        except OSError:
            await asyncio.sleep(POLL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def main(url: str, what: str, count: str, ticks: str = "0") -> None:
    """Fill the store."""
    store = open_store(url)
    await store.start()
    try:
        if what == "handlers":
            await fill_handlers(store, int(count))
        else:
            whole = what == "whole-journals"
            await fill_journals(store, int(count), ticks=int(ticks), whole=whole)
    finally:
        await store.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
