"""Runs that other servers of a shared store have, or alone can go on with."""

from collections.abc import Container

from workflow_server.app.engine.misfits import newer_format
from workflow_server.app.engine.served import ServedWorkflow
from workflow_server.app.errors import RunElsewhere
from workflow_server.app.reads import Reads
from workflow_server.schemas.records import RunRecord

ELSEWHERE = "Another server has just taken the run; ask again in a moment."
FITS_ELSEWHERE = "Another server has code for the run and cannot be reached now; nothing was done."


async def check_elsewhere(reads: Reads, run_id: str) -> None:
    """Raise `RunElsewhere` where another server has a run."""
    if (
        reads.store.peers is not None
        and await reads.ask(reads.store.find_owner(run_id)) is not None
    ):
        raise RunElsewhere(ELSEWHERE)


async def check_fits(reads: Reads, record: RunRecord, workflows: Container[str]) -> None:
    """Raise `RunElsewhere` where another server may fit a run, and this one is known not to.

    `workflows` are those that this one serves.
    """
    if reads.store.peers is None:
        return
    versions, is_served = reads.store.peers.versions, record.workflow_name in workflows
    other = await reads.ask(versions.find_other(record.run_id, is_served=is_served))
    if other is not None:
        raise RunElsewhere(FITS_ELSEWHERE, owner=other)


async def check_format(reads: Reads, record: RunRecord) -> None:
    """Raise `Misfit` for a run that is stored in a format which only later releases read."""
    if reads.store.peers is None:
        return
    newer = await reads.ask(reads.store.peers.versions.list_newer([record.run_id]))
    if newer:
        raise newer_format()


async def pass_on(reads: Reads, record: RunRecord, workflow: ServedWorkflow | None) -> None:
    """Raise `RunElsewhere` where a run that this server has, and does not fit, goes on elsewhere.

    It belongs to nobody then. Each version of code that serves the `workflow` tries a run once.
    """
    if reads.store.peers is None or workflow is None:
        return
    other = await reads.ask(reads.store.peers.versions.pass_on(record.run_id))
    if other is not None:
        raise RunElsewhere(FITS_ELSEWHERE, owner=other)
