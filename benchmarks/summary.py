"""What the rounds tell: medians, spreads, ratios, and tables of them."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

ABSENT = "-"
MAX_RATIO_SPREAD = 0.2
HOPELESS_MACHINE = 0.3  # a spread of the probes, beyond which no ratio is told


@dataclass(slots=True)
class Sample:
    """What one turn of one subject measured: figures by title, and latencies in seconds."""

    figures: dict[str, float]
    latencies: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of some rounds; its `spread`, None for one, is the range of their middle half."""

    median: float
    spread: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        """Return the figure of at least one value."""
        if len(values) == 1:
            return cls(values[0], None)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, (high - low) / median if median else 0.0)

    @classmethod
    def of_ratio(cls, ours: Sequence[float], theirs: Sequence[float]) -> "Figure":
        """Return the ratio of two subjects, by rounds, so that drift of the machine drops out."""
        return cls.of([our / their for our, their in zip(ours, theirs, strict=False)])

    @property
    def tells(self) -> bool:
        """Whether the rounds agree well enough to state a ratio."""
        return self.spread is not None and self.spread <= MAX_RATIO_SPREAD


def percentile(latencies: Sequence[Sequence[float]], rank: int) -> float:
    """Return a percentile of the latencies of all rounds."""
    ordered = sorted(latency for each in latencies for latency in each)
    return ordered[min(len(ordered) * rank // 100, len(ordered) - 1)]


def gather(samples: Sequence[Sample]) -> dict[str, list[float]]:
    """Return the figures of all rounds by title, and percentiles over the latencies of all."""
    latencies = [sample.latencies for sample in samples if sample.latencies]
    ranks = {f"p{rank} ms": [percentile(latencies, rank) * 1e3] for rank in (50, 99) if latencies}
    titles = samples[0].figures if samples else ()
    return {title: [sample.figures[title] for sample in samples] for title in titles} | ranks


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column is the subjects."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def text(self) -> Iterator[str]:
        """Yield the lines of the table, its columns aligned."""
        yield self.title
        cells = [("", *self.columns), *self.rows]
        widths = [max(map(len, column)) for column in zip_longest(*cells, fillvalue="")]
        for first, *rest in cells:
            aligned = map(str.rjust, rest, widths[1:])
            yield "  ".join([first.ljust(widths[0]), *aligned]).rstrip()
        if self.note:
            yield f"  ({self.note})"

    def markdown(self) -> Iterator[str]:
        """Yield the lines of the table in Markdown."""
        yield f"**{self.title[:1].upper()}{self.title[1:]}**"
        yield ""
        yield f"| | {' | '.join(self.columns)} |"
        yield f"|---|{'---:|' * len(self.columns)}"
        for row in self.rows:
            yield f"| {' | '.join(row)} |"
        if self.note:
            yield from ("", f"({self.note})")


def number(value: float) -> str:
    """Return a figure with three digits or all before the point."""
    if math.isnan(value):
        return ABSENT
    digits = 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def percent(part: float | None) -> str:
    """Return a part of a whole in percent."""
    return ABSENT if part is None else f"{part:.0%}"


def ratio_cell(ours: Sequence[float], theirs: Sequence[float], *, quiet: bool) -> str:
    """Return a ratio, and `?` where the rounds do not tell it or the machine was not quiet."""
    ratio = Figure.of_ratio(ours, theirs)
    return f"{ratio.median:.2f}" if quiet and ratio.tells else "?"
