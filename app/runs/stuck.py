"""Stuck runs: those that wait, and that nothing can make go on."""

from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.schemas.records import Phase, RunRecord

STUCK = (
    "The run can never go on: no step of it is at work, it waits for no event, and it has no timer."
    " Cancel it."
)


def is_stuck(record: RunRecord, workflow: ServedWorkflow) -> bool:
    """Return whether nothing can make a run go on.

    A run whose record does not say what it waits for is given the benefit of the doubt.
    """
    if record.phase is not Phase.WAITING or record.awaits or record.awaits is None:
        return False
    return record.due_at is None and not workflow.awaitable.outside
