"""What one turn of one subject measured."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Sample:
    """The runs of one turn; all times are in seconds.

    `cpu` is what the subject used of the processor, and None where the system does not tell.
    `client_cpu` is what the measuring process used.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    cpu: float | None = None
    client_cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Runs a second."""
        return len(self.latencies) / self.seconds


async def repeat(
    run: Callable[[], Awaitable[T]], *, until: float, latencies: list[float]
) -> list[T]:
    """Carry out runs, one after the other and at least one, until a time of `time.perf_counter`.

    Returns what they returned. A run that has begun by then is carried to its end: it counts, and
    so does its time.
    """
    results: list[T] = []
    begun = time.perf_counter()
    while not results or begun < until:
        results.append(await run())
        ended = time.perf_counter()
        latencies.append(ended - begun)
        begun = ended
    return results
