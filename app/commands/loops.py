"""The event loop, which a library may have patched while the sources were imported."""

import asyncio
from collections.abc import Callable

from workflow_server.app.commands.errors import UsageError
from workflow_server.app.engine.loops import REMEDY
from workflow_server.app.settings import Loop
from workflow_server.app.telemetry.logs import get_logger

logger = get_logger(__name__)

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def choose_loop(loop: Loop) -> LoopFactory:
    """Return what makes the event loop; `UsageError` where it is not installed."""
    patched = _is_patched()
    if loop == "asyncio" or (loop == "auto" and patched):
        if patched:
            logger.info("asyncio is patched", by=asyncio.run.__module__, loop="asyncio")
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError as error:  # there is none for Windows
        if loop == "uvloop":
            raise UsageError("uvloop is not installed: leave out --loop uvloop.") from error
        return asyncio.new_event_loop
    if patched:
        logger.warning(
            "asyncio is patched, and uvloop is not", by=asyncio.run.__module__, remedy=REMEDY
        )
    return uvloop.new_event_loop


def _is_patched() -> bool:
    """Return whether a library has put a function of its own in the place of asyncio's."""
    return not asyncio.run.__module__.startswith("asyncio")
