"""The audit fails for a vulnerability, and does not take silence for safety."""

import json

import pytest

from tests.supply.audit import Verdict, decide, judge_npm, judge_python

SOUND = {"name": "anyio", "version": "4.0.0", "vulns": []}
BROKEN = {
    "name": "jinja2",
    "version": "2.4.1",
    "vulns": [{"id": "PYSEC-2014-8", "fix_versions": ["2.7.2"], "aliases": [], "description": ""}],
}
SKIPPED = {"name": "click", "skip_reason": "Dependency not found on PyPI: click (8.5.1)"}
BROKEN_NPM = {
    "auditReportVersion": 2,
    "vulnerabilities": {"minimist": {"name": "minimist", "severity": "high", "range": "<0.2.1"}},
    "metadata": {"dependencies": {"total": 40}},
}


def report(*packages: object) -> str:
    """Return a report of pip-audit."""
    return json.dumps({"dependencies": packages, "fixes": []})


def test_a_vulnerable_package_is_named_with_its_mend() -> None:
    verdict = judge_python(report(SOUND, BROKEN, SKIPPED))
    assert verdict.vulnerabilities == ["jinja2 2.4.1: PYSEC-2014-8, fixed in 2.7.2"]
    assert (verdict.looked_up, verdict.not_looked_up) == (2, 1)


def test_a_package_that_was_passed_over_is_not_called_safe() -> None:
    verdict = judge_python(report(SKIPPED))
    assert not verdict.is_complete
    assert str(verdict) == "Python: NOT AUDITED: 1 packages, nothing is known of them"


@pytest.mark.parametrize("told", ["", "Traceback …", "[]", '{"message": "405", "statusCode": 405}'])
def test_no_report_is_no_audit(told: str) -> None:
    assert not judge_python(told).is_complete
    assert not judge_npm(told).is_complete
    assert "NOT AUDITED" in str(judge_npm(told))


def test_a_vulnerable_package_of_npm_is_named() -> None:
    verdict = judge_npm(json.dumps(BROKEN_NPM))
    assert (verdict.looked_up, verdict.vulnerabilities) == (40, ["minimist <0.2.1: high"])


@pytest.mark.parametrize(
    ("verdict", "required", "code"),
    [
        (Verdict("x", looked_up=1), True, 0),
        (Verdict("x", looked_up=1, vulnerabilities=["y"]), False, 1),
        (Verdict("x", not_looked_up=1, looked_up=1, vulnerabilities=["y"]), False, 1),
        (Verdict("x"), False, 0),
        (Verdict("x"), True, 2),
        (Verdict("x", looked_up=1, not_looked_up=1), True, 2),
    ],
)
def test_the_exit_code_tells_a_vulnerability_from_what_is_not_known(
    verdict: Verdict, required: bool, code: int
) -> None:
    assert decide([Verdict("z", looked_up=1), verdict], required=required) == code
