"""Draining beside other servers: what need not end here is given up at once."""

import asyncio

from workflow_server.app.runs.run import LiveRun
from workflow_server.app.scheduling.eviction import Eviction
from workflow_server.app.scheduling.live import LiveRuns
from workflow_server.schemas.records import Phase


async def give_up_runs(live: LiveRuns, eviction: Eviction) -> None:
    """Let the runs that wait, or are queued, belong to nobody: another server goes on with them.

    Whoever reads or waits for them is sent away. Those that cannot be resumed stay.
    """
    waiting = [run for run in live.list_runs() if run.is_quiet]
    queued = [run for run in live.list_runs() if run.slot.is_pending]
    for run in (*waiting, *queued):
        run.dismiss()
    await asyncio.sleep(0)  # in which those who wait for their ends leave
    await asyncio.gather(
        *(eviction.evict(run.key) for run in waiting), *(_hand_over(run, live) for run in queued)
    )


async def _hand_over(run: LiveRun, live: LiveRuns) -> None:
    journal, record = run.journal, run.journal.record
    if record.phase is not Phase.QUEUED or record.not_resumable_because is not None:
        return
    journal.release()
    await journal.wait_committed()
    if journal.is_committed and run.slot.is_pending and not journal.is_failed:
        live.evict(run)
