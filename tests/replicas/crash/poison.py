"""A workflow that ends its process."""

import asyncio
import os

from workflows import Workflow, step
from workflows.events import StopEvent

from tests.durability.crash.workloads import Begin

POISONED = 9  # exit status
PAUSE = 0.2  # seconds, in which its start is acknowledged: a lost one would be made again


class Poison(Workflow):
    """Ends its process, a moment after it has begun."""

    @step
    async def end(self, ev: Begin) -> StopEvent:
        await asyncio.sleep(PAUSE)
        os._exit(POISONED)
