"""A report says what was measured, and of each bound whether it holds."""

import json
from dataclasses import asdict

from benchmarks.report import Report

RATES = {"runs/s": [90.0, 180.0, 95.0]}
REPORT = Report(
    {"cores": 2},
    [1.0, 1.0, 1.0],
    {"one-step": {"base, sqlite": {"runs/s": [100.0, 200.0, 100.0]}, "ours, sqlite": RATES}},
    {"one-step": {"ours, memory": "it failed"}},
)
TEXT = """cores: 2
noise: a fixed computation varied by 0%: steady enough

one-step run, clients: 16
              runs/s  spread
base, sqlite     100     50%
ours, sqlite      95     47%
  (ours, memory: it failed)

what is to hold
                        figure        beside     ×  spread        to hold
one-step: ours, sqlite  runs/s  base, sqlite  0.90      3%  at least 0.92  miss
"""


def test_another_commit_is_compared_round_by_round() -> None:
    assert "\n".join(REPORT.lines(markdown=False)).startswith(TEXT)


def test_a_report_reads_the_same_after_it_was_written() -> None:
    assert Report(**json.loads(json.dumps(asdict(REPORT)))) == REPORT


def test_a_row_of_which_nothing_is_compared_has_no_bounds() -> None:
    report = Report({}, [1.0], {"listing": {"ours, sqlite": {"handlers": [100]}}}, {"listing": {}})
    assert "what is to hold" not in "\n".join(report.lines(markdown=True))
