"""What the samples tell: medians, spreads, and ratios where the machine lets them be told."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.samples import Sample

MAX_RATIO_SPREAD = 0.2


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of some rounds, and how far the rounds are apart.

    `spread` is the range of the middle half of the rounds over their median, and None where there
    was one round only.
    """

    median: float
    spread: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        """Return the figure of at least one value."""
        if len(values) == 1:
            return cls(values[0], None)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, (high - low) / median if median else 0.0)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast one subject is as another, told by the rounds one by one.

    Neighbouring turns share the state of the machine, so what drifts from round to round drops out.
    """

    figure: Figure

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> "Ratio":
        """Return the ratio of the rates of two subjects that took turns.

        A subject that is too slow takes fewer turns; only rounds that both took count.
        """
        pairs = zip(ours, theirs, strict=False)
        return cls(Figure.of([our / their for our, their in pairs]))

    @property
    def tells(self) -> bool:
        """Whether the rounds agree well enough to state the ratio."""
        return self.figure.spread is not None and self.figure.spread <= MAX_RATIO_SPREAD


def percentile(samples: Sequence[Sample], rank: int) -> float:
    """Return a percentile of the latencies of all rounds, in seconds."""
    latencies = sorted(latency for sample in samples for latency in sample.latencies)
    return latencies[min(len(latencies) * rank // 100, len(latencies) - 1)]


def cpu_per_run(samples: Sequence[Sample]) -> float | None:
    """Return the processor time that a run cost the subject, in seconds."""
    used = [sample.cpu for sample in samples if sample.cpu is not None]
    if len(used) < len(samples):
        return None
    return sum(used) / sum(len(sample.latencies) for sample in samples)


def client_load(samples: Sequence[Sample]) -> float:
    """Return how busy the measuring process was, as a part of one core."""
    return sum(sample.client_cpu for sample in samples) / sum(sample.seconds for sample in samples)
