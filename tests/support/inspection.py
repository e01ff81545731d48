"""A look into a server that runs in the test's own process: what HTTP does not say.

Tests look inside a server through this module alone.
"""

import asyncio

from workflow_server.app.runs.run import LiveRun
from workflow_server.app.server import WorkflowServer
from workflow_server.schemas.records import HandlerKey, Phase


def key_of(handler_id: str) -> HandlerKey:
    """Return the key of a handler that no tenant owns."""
    return HandlerKey("", handler_id)


def live_run(server: WorkflowServer, handler_id: str) -> LiveRun | None:
    """Return a handler's run where it is in memory."""
    return server.lifecycle.live.get(key_of(handler_id))


def is_in_memory(server: WorkflowServer, handler_id: str) -> bool:
    """Return whether a handler's run is in memory."""
    return live_run(server, handler_id) is not None


def count_in_memory(server: WorkflowServer) -> int:
    """Return how many runs are in memory, whatever they do."""
    live = server.lifecycle.live
    return live.idle + live.at_work + server.lifecycle.queue.pending


def count_phases(server: WorkflowServer) -> dict[Phase, int]:
    """Return how many runs a server counts in each phase, without those in which none is."""
    return {phase: runs for phase, runs in server.lifecycle.live.phases.items() if runs}


def is_committed(server: WorkflowServer) -> bool:
    """Return whether all that runs have done is in the store."""
    return server.lifecycle.live.uncommitted_bytes == 0


def count_tasks() -> int:
    """Return how many tasks the event loop has."""
    return len(asyncio.all_tasks())


def is_claiming() -> bool:
    """Return whether a server of this event loop still goes through its unfinished runs."""
    return any(task.get_name() == "claims" for task in asyncio.all_tasks())


async def is_evicted(server: WorkflowServer, handler_id: str) -> bool:
    """Return whether it is committed that a run waits, and the run is not in memory."""
    record = await server.lifecycle.reads.store.get_handler(key_of(handler_id))
    waits = record is not None and record.idle is not None
    return waits and not is_in_memory(server, handler_id)
