"""The description of a server, written into its store for others to read."""

import asyncio
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version

from workflow_server.app.telemetry.logs import get_logger
from workflow_server.schemas.records import ServerRecord
from workflow_server.stores.base import Store, StoreError

logger = get_logger(__name__)

CHECK_TIMEOUT = 3.0  # seconds in which a store that can be reached says so


class Description:
    """Writes what others may know of this server, where that has changed."""

    def __init__(self, store: Store, workflows: Iterable[str]) -> None:
        self._store = store
        self._workflows = workflows
        self._written: ServerRecord | None = None

    def forget(self) -> None:
        """Write it anew the next time: the store has not got it."""
        self._written = None

    async def write(self, address: str | None, *, is_draining: bool) -> None:
        """Write it, where it has changed and can be written; else the next call tries again."""
        server = ServerRecord(
            address=address,
            version=_release(),
            workflows=tuple(sorted(self._workflows)),
            state="draining" if is_draining else "serving",
        )
        if server == self._written:
            return
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                await self._store.describe(server)
        except (StoreError, TimeoutError) as error:
            # A store that is lost is found by the look for that.
            logger.info("what this server is cannot be written now", error=str(error))
        else:
            self._written = server


@cache
def _release() -> str:
    return version("workflow-server")
