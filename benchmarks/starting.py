"""Row 9: from the command to the first answer; at rest; on disk."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.environments import size_of_environment, size_of_wheel
from benchmarks.scenario import MIB, Column, Reading, Scale
from benchmarks.servers import Contender

REST_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Starting:
    """A server that starts and does nothing."""

    name: str = "start"
    title: str = "start, memory at rest, and size"
    columns: Sequence[Column] = (
        Column("seconds", "s to first answer", 2),
        Column("memory", "MiB at rest", 1, 1 / MIB),
        Column("wheel", "MiB its own files", 2, 1 / MIB),
        Column("environment", "MiB whole environment", 0, 1 / MIB),
    )
    compared: str | None = "seconds"
    more: bool = False
    repeated: bool = True

    async def measure(self, contender: Contender, scale: Scale) -> Reading | None:
        """Start once."""
        async with contender.serve() as server:
            await asyncio.sleep(REST_SECONDS)
            return {
                "seconds": server.first_answer,
                "memory": server.memory,
                "wheel": await asyncio.to_thread(
                    size_of_wheel,
                    contender.bin_folder,
                    "workflow-server" if contender.is_ours else "llama-agents-server",
                ),
                "environment": await asyncio.to_thread(size_of_environment, contender.bin_folder),
            }
