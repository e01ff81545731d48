"""What a server holds, as seen from outside and as it says itself, and whether it grows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Protocol

import httpx

from tests.support.postgres import connect, schema_of

MIB = 1 << 20
WARM_UP = 0.4  # of the samples, at the beginning: caches fill, and the first handlers grow old


@dataclass(frozen=True)
class Gauge:
    """Something that is measured; it may grow by a share of itself and an allowance, in units."""

    name: str
    allowance: float
    unit: float = 1
    growth: float = 0.05


GAUGES = (
    Gauge("resident memory, MiB", 3, MIB),
    Gauge("file descriptors", 8),
    Gauge("threads", 2),
    Gauge("tasks", 8),
    # The room of what was removed is used again, but not given back: it has the most that was kept.
    Gauge("store, MiB", 2, MIB, growth=0.25),
)
Sample = tuple[float, ...]


class Disk(Protocol):
    """The room that a store takes."""

    async def measure(self) -> int:
        """Return the bytes."""


@dataclass(frozen=True)
class FileDisk:
    """SQLite's file, with its log and its index."""

    file: Path

    async def measure(self) -> int:
        """Return the bytes of all three."""
        return sum(file.stat().st_size for file in self.file.parent.glob(f"{self.file.name}*"))


@dataclass(frozen=True)
class SchemaDisk:
    """The tables and indexes of a schema of Postgres.

    Vacuumed before it is measured: Postgres comes by once a minute, which is not often in a day
    that lasts minutes.
    """

    url: str

    async def measure(self) -> int:
        """Return the bytes."""
        schema = schema_of(self.url)
        async with connect() as connection:
            tables = await connection.fetch(
                "SELECT tablename FROM pg_tables WHERE schemaname = $1", schema
            )
            for (table,) in tables:
                await connection.execute(f'VACUUM "{schema}"."{table}"')
            size: int = await connection.fetchval(
                """
                SELECT sum(pg_total_relation_size(c.oid))::bigint
                FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                WHERE n.nspname = $1 AND c.relkind = 'r'
                """,
                schema,
            )
        return size


async def take_sample(process: int, client: httpx.AsyncClient, disk: Disk) -> Sample:
    """Return the value of each gauge."""
    folder = Path(f"/proc/{process}")
    status = (folder / "status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    census = await client.post("/workflows/census/run", json={})
    return (
        float(fields["VmRSS"].split()[0]) * 1024,
        len(list((folder / "fd").iterdir())),
        float(fields["Threads"]),
        census.json()["result"]["value"]["result"]["tasks"],
        await disk.measure(),
    )


@dataclass(frozen=True)
class Judgement:
    """Whether a gauge has come to a plateau: its level in the last third beside the third before.

    Levels are medians, so that one sample at a bad moment counts for nothing.
    """

    gauge: Gauge
    first: float
    before: float
    after: float
    most: float

    @property
    def holds(self) -> bool:
        """Whether it has."""
        allowed = self.before * (1 + self.gauge.growth) + self.gauge.allowance * self.gauge.unit
        return self.after <= allowed

    def __str__(self) -> str:
        shown = (self.first, self.before, self.after, self.most)
        first, before, after, most = (f"{value / self.gauge.unit:.1f}" for value in shown)
        verdict = "plateau" if self.holds else "GROWS"
        return (
            f"{self.gauge.name}: {first} at first, {before} in the middle, {after} at last,"
            f" {most} at most: {verdict}"
        )


def judge(samples: Sequence[Sample]) -> list[Judgement]:
    """Return the judgement of each gauge."""
    warm = samples[int(len(samples) * WARM_UP) :]
    half = len(warm) // 2
    return [
        Judgement(gauge, values[0], median(values[:half]), median(values[half:]), max(values))
        for gauge, values in (
            (gauge, [sample[index] for sample in warm]) for index, gauge in enumerate(GAUGES)
        )
    ]
