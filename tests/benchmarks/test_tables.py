"""Tables show the same cells as text and as Markdown, and no ratio that nothing tells."""

from benchmarks.summary import Table, ratio_cell
from benchmarks.turns import cost_of_tenths

TABLE = Table("a row", ("runs/s", "×"), [("ours", "12.0", "?"), ("peer", "-", "")], "a note")


def test_text_is_aligned() -> None:
    assert list(TABLE.text()) == [
        "a row",
        "      runs/s  ×",
        "ours    12.0  ?",
        "peer       -",
        "  (a note)",
    ]


def test_markdown_has_a_line_a_subject() -> None:
    assert list(TABLE.markdown()) == [
        "**A row**",
        "",
        "| | runs/s | × |",
        "|---|---:|---:|",
        "| ours | 12.0 | ? |",
        "| peer | - |  |",
        "",
        "(a note)",
    ]


def test_rounds_that_agree_tell_a_ratio_on_a_quiet_machine_only() -> None:
    rounds = [200.0, 210.0, 190.0], [100.0, 100.0, 100.0]
    assert (ratio_cell(*rounds, quiet=True), ratio_cell(*rounds, quiet=False)) == ("2.00", "?")


def test_growth_compares_the_second_tenth_of_a_run_with_its_last() -> None:
    times = [float(index) for index in range(90)] + [90.0 + 3 * index for index in range(10)]
    first, last = cost_of_tenths(times, count=1_000)
    assert (round(first, 2), round(last, 2)) == (0.1, 0.28)
