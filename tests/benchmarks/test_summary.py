"""What the rounds tell, and when they tell nothing."""

import pytest

from benchmarks.summary import Figure, percentile


def test_one_disturbed_round_moves_neither_median_nor_spread() -> None:
    assert Figure.of([100, 100, 100, 100, 7]) == Figure(median=100, spread=0)


def test_a_ratio_is_told_by_the_rounds_one_by_one() -> None:
    ratio = Figure.of_ratio([200, 100, 50], [100, 50, 25])
    assert (ratio, ratio.tells) == (Figure(median=2, spread=0), True)


def test_a_ratio_is_not_told_when_the_rounds_disagree() -> None:
    assert not Figure.of_ratio([200, 100, 50], [100, 100, 100]).tells


def test_one_round_tells_a_figure_without_a_spread_and_no_ratio() -> None:
    ratio = Figure.of_ratio([200, 100], [100])
    assert (ratio, ratio.tells) == (Figure(median=2, spread=None), False)


@pytest.mark.parametrize(("rank", "latency"), [(50, 0.51), (99, 1.0)])
def test_a_percentile_is_taken_over_all_rounds(rank: int, latency: float) -> None:
    latencies = [(index + 1) / 100 for index in range(100)]
    assert percentile([latencies[:50], latencies[50:]], rank) == latency
