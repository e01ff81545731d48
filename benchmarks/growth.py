"""Row 10: what the n-th event and the n-th step of one long run cost, and the room they take."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.client import Connection
from benchmarks.following import follow
from benchmarks.readers import Readers, check_emissions
from benchmarks.scenario import Column, Reading, Scale
from benchmarks.servers import Contender, Server
from benchmarks.workflows import BEAT_STEPS

TIMEOUT = 600  # seconds
STEPS, EVENTS = "steps", "events"


@dataclass(frozen=True, slots=True)
class Growth:
    """One long run that is read: are the last of its events, or of its steps, slower?

    Told by the times of emission: what was written down before, and sent to the reader, delays the
    next emission, while arrivals come in batches.
    """

    unit: str
    compared: str | None = None
    more: bool = False
    repeated: bool = False

    @property
    def name(self) -> str:
        """The name on the command line."""
        return f"growth-{self.unit}"

    @property
    def title(self) -> str:
        """What the table says."""
        return f"one run of many {self.unit}: the cost of the first ones and of the last"

    @property
    def columns(self) -> Sequence[Column]:
        """What the table shows."""
        one = self.unit.removesuffix("s")
        return (
            Column("count", self.unit, 0),
            Column("first", f"µs/{one}, second tenth", 1, 1e6),
            Column("last", "last tenth", 1, 1e6),
            Column("growth", "last / second", 2),
            Column("disk", f"bytes on disk/{one}", 0),
        )

    async def measure(self, contender: Contender, scale: Scale) -> Reading | None:
        """Read one long run from its beginning to its end."""
        count = scale.grown_steps if self.unit == STEPS else scale.grown_events
        count //= scale.slow if contender.is_slow else 1
        async with contender.place() as place:
            async with contender.serve(place) as server:
                pass
            disk = await place.size()
            async with contender.serve(place) as server:
                times = await self._read(server, count)
            disk = await place.size() - disk
        first, last = cost_of_tenths(times, count)
        reading = {"count": count, "first": first, "last": last, "growth": last / first}
        return reading | ({"disk": disk / count} if contender.is_durable else {})

    async def _read(self, server: Server, count: int) -> Sequence[float]:
        if self.unit == EVENTS:
            return (await follow(server, readers=1, events=count, timeout=TIMEOUT)).emissions
        connection = await Connection.open(server.port)
        handler_id = await server.start_run("march", connection, steps=count)
        connection.close()
        with Readers() as group:
            await asyncio.to_thread(group.open, server.port, [handler_id], wait_for=b"\r\n\r\n")
            await asyncio.to_thread(group.read, until_ended=1, timeout=TIMEOUT)
            check_emissions(group.all[0].response(), range(count // BEAT_STEPS))
            return list(group.all[0].emissions())


def cost_of_tenths(times: Sequence[float], count: int) -> tuple[float, float]:
    """Return the seconds that one of `count` cost in the second and in the last tenth of a run.

    The first tenth is a warm-up.
    """
    tenth = len(times) // 10
    first, last = times[2 * tenth] - times[tenth], times[-1] - times[-1 - tenth]
    each = count / len(times) * tenth
    return first / each, last / each
