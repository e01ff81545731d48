"""Runs that other servers of a shared store have, or alone can go on with."""

from workflow_server.app.errors import RunElsewhere
from workflow_server.app.reads import Reads

ELSEWHERE = "Another server has just taken the run; ask again in a moment."
SERVED_ELSEWHERE = "Another server serves the workflow and cannot be reached now; nothing was done."


async def check_elsewhere(reads: Reads, run_id: str) -> None:
    """Raise `RunElsewhere` where another server has a run."""
    if (
        reads.store.peers is not None
        and await reads.ask(reads.store.find_owner(run_id)) is not None
    ):
        raise RunElsewhere(ELSEWHERE)


async def check_served(reads: Reads, workflow_name: str) -> None:
    """Raise `RunElsewhere` where another server serves a workflow, which this one does not."""
    peers = reads.store.peers
    other = await reads.ask(peers.find_serving(workflow_name)) if peers is not None else None
    if other is not None:
        raise RunElsewhere(SERVED_ELSEWHERE, owner=other)
