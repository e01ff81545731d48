"""Rows, the turns that are taken at them, and the bounds that are to hold."""

from pathlib import Path

import pytest

from benchmarks import replicas
from benchmarks.__main__ import check_out, order_turns, read_rows
from benchmarks.rows import ROWS, Hold
from benchmarks.subjects import Subject
from benchmarks.summary import Figure


def test_no_two_rows_have_one_name() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_rows_are_chosen_by_their_names() -> None:
    assert [row.name for row in read_rows("stream,one-step")] == ["stream", "one-step"]


def test_an_unknown_row_is_refused() -> None:
    with pytest.raises(ValueError, match="no-row"):
        read_rows("one-step,no-row")


def test_servers_of_one_schema_have_a_row_of_their_own() -> None:
    subjects = [Subject("ours, postgres", "postgres"), *replicas.SUBJECTS]
    having = {row.name: [each.name for each in subjects if row.has(each)] for row in ROWS}
    assert having.pop("replicas") == [replicas.ALONE, replicas.SHARING, replicas.TWO]
    assert set().union(*having.values()) == {"ours, postgres"}


def test_the_first_of_a_round_is_the_last_of_the_next() -> None:
    new, old = Subject("ours, sqlite", "sqlite"), Subject("base, sqlite", "sqlite")
    assert list(order_turns([new, old], 2)) == [(1, new), (1, old), (2, old), (2, new)]


def test_a_folder_with_code_is_compared_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    with check_out(str(tmp_path)) as code:
        assert code == tmp_path


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (Figure(0.95, 0.04), "pass"),
        (Figure(0.9, 0.02), "miss"),
        (Figure(0.93, 0.04), "pass?"),
        (Figure(0.91, 0.04), "miss?"),
        (Figure(2.0, None), "pass?"),
    ],
    ids=["above", "below", "above for some rounds", "below for some rounds", "one round"],
)
def test_a_bound_holds_where_the_rounds_agree_that_it_does(ratio: Figure, verdict: str) -> None:
    assert Hold("base, sqlite", 0.92).judge(ratio, quiet=True) == verdict


def test_an_upper_bound_is_missed_above_it() -> None:
    hold = Hold("yardstick", 1.2, "MiB then", at_most=True)
    assert [hold.judge(Figure(ratio, 0.0), quiet=True) for ratio in (1.1, 1.3)] == ["pass", "miss"]


def test_nothing_is_certain_on_a_noisy_machine() -> None:
    assert Hold("base, sqlite", 0.92).judge(Figure(1.0, 0.0), quiet=False) == "pass?"
