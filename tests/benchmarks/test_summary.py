"""What the rounds tell, and when they tell nothing."""

import pytest

from benchmarks.samples import Sample
from benchmarks.summary import Figure, Ratio, percentile


def test_one_disturbed_round_moves_neither_median_nor_spread() -> None:
    assert Figure.of([100, 100, 100, 100, 7]) == Figure(median=100, spread=0)


def test_a_ratio_is_told_by_the_rounds_one_by_one() -> None:
    ratio = Ratio.of([200, 100, 50], [100, 50, 25])
    assert (ratio.figure, ratio.tells) == (Figure(median=2, spread=0), True)


def test_a_ratio_is_not_told_when_the_rounds_disagree() -> None:
    assert not Ratio.of([200, 100, 50], [100, 100, 100]).tells


def test_one_round_tells_a_figure_without_a_spread_and_no_ratio() -> None:
    ratio = Ratio.of([200, 100], [100])
    assert (ratio.figure, ratio.tells) == (Figure(median=2, spread=None), False)


@pytest.mark.parametrize(("rank", "latency"), [(50, 0.51), (99, 1.0)])
def test_a_percentile_is_taken_over_all_rounds(rank: int, latency: float) -> None:
    latencies = [(index + 1) / 100 for index in range(100)]
    samples = [Sample(1.0, latencies[:50]), Sample(1.0, latencies[50:])]
    assert percentile(samples, rank) == latency
