"""A store that knows how much was written."""

from collections.abc import Collection

from workflow_server.schemas.records import Batch, RunRecord
from workflow_server.stores.memory import MemoryStore


class Weighing(MemoryStore):
    """Counts the bytes of all that is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    async def commit(self, batch: Batch) -> Collection[str]:
        """Count a batch, and commit it."""
        self.written += sum(map(size_of, batch.runs.values()))
        self.written += sum(len(event.envelope) for event in batch.events)
        self.written += sum(len(tick.tick) for tick in batch.ticks)
        self.written += sum(len(state.state) for state in batch.states.values())
        self.written += sum(len(change.change) for change in batch.changes)
        self.written += sum(len(snapshot.snapshot) for snapshot in batch.snapshots.values())
        self.written += sum(len(payload.payload) for payload in batch.payloads)
        return await super().commit(batch)


def size_of(record: RunRecord) -> int:
    """Return the bytes of the events in a record."""
    return len(record.start_event or b"") + len(record.result or b"")
