"""Records as a store has them, made up for tests."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from workflow_server.schemas.records import Batch, EndedHandler, RunRecord
from workflow_server.stores.base import Store

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


def make_record(run_id: str = "r", **changes: Any) -> RunRecord:
    """Return a run that was accepted and has not begun, of a handler with the run's id."""
    record = RunRecord(
        run_id=run_id,
        handler_id=run_id,
        handler_created_at=NOON,
        workflow_name="it",
        started_at=NOON,
        updated_at=NOON,
        start_event=b'{"value":{},"type":"StartEvent","types":null,'
        b'"qualified_name":"workflows.events.StartEvent"}',
    )
    return replace(record, **changes)


def batch_of(*records: RunRecord) -> Batch:
    """Return a batch of runs."""
    return Batch(runs={record.run_id: record for record in records})


def ended_of(record: RunRecord) -> EndedHandler:
    """Return the handler of a run, as it is while that run is its current one."""
    return EndedHandler(record.key, record.run_id)


async def claim_runs(store: Store, *run_ids: str) -> list[RunRecord]:
    """Claim runs, and return those that were claimed, as they are then."""
    claimed = [await store.get_run(run_id) for run_id in await store.claim(run_ids)]
    return [record for record in claimed if record is not None]
