"""The dependencies of the locks among known vulnerabilities: `make audit`.

The data are elsewhere: of PyPI and of OSV for Python, of the npm registry for the web UI. Where
they cannot be reached nothing is known, and that is what is said. The exit code is 1 where there is
a vulnerability, and 0 else; with AUDIT_REQUIRED=1 it is 2 where something could not be looked up.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements-dev.lock", "requirements-build.lock", "requirements-audit.lock")
SERVICES = ("pypi", "osv")
# For pip-audit alone, such as `--ignore-vuln ID` for what was looked at and does not concern us.
OPTIONS = shlex.split(os.environ.get("AUDIT_OPTIONS", ""))
TIMEOUT = 300.0


@dataclass(frozen=True)
class Verdict:
    """What is known of some dependencies."""

    of: str
    looked_up: int = 0
    not_looked_up: int = 0
    vulnerabilities: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.of}: {found}" for found in self.vulnerabilities]
        if self.not_looked_up or not self.looked_up:
            missing = self.not_looked_up or "all"
            lines.append(f"{self.of}: NOT AUDITED: {missing} packages, nothing is known of them")
        if self.looked_up:
            lines.append(
                f"{self.of}: {self.looked_up} packages looked up,"
                f" {len(self.vulnerabilities)} vulnerabilities"
            )
        return "\n".join(lines)

    @property
    def is_complete(self) -> bool:
        """Whether every package was looked up."""
        return self.looked_up > 0 and not self.not_looked_up


def judge_python(report: str) -> Verdict:
    """Return what a report of pip-audit says; where it made none, nothing was looked up."""
    packages = _parse(report).get("dependencies", [])
    known = [package for package in packages if "skip_reason" not in package]
    return Verdict(
        "Python",
        looked_up=len(known),
        not_looked_up=len(packages) - len(known),
        vulnerabilities=[
            f"{package['name']} {package['version']}: {found['id']},"
            f" fixed in {', '.join(found['fix_versions']) or 'no version'}"
            for package in known
            for found in package["vulns"]
        ],
    )


def judge_npm(report: str) -> Verdict:
    """Return what a report of `npm audit` says; an error of the registry looks up nothing."""
    parsed = _parse(report)
    if "vulnerabilities" not in parsed:
        return Verdict("npm")
    return Verdict(
        "npm",
        looked_up=parsed["metadata"]["dependencies"]["total"],
        vulnerabilities=[
            f"{name} {found['range']}: {found['severity']}"
            for name, found in parsed["vulnerabilities"].items()
        ],
    )


def decide(verdicts: Iterable[Verdict], *, required: bool) -> int:
    """Return the exit code."""
    verdicts = list(verdicts)
    if any(verdict.vulnerabilities for verdict in verdicts):
        return 1
    return 2 if required and not all(verdict.is_complete for verdict in verdicts) else 0


def _parse(report: str) -> dict[str, Any]:
    try:
        parsed = json.loads(report)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _audit_python(pip_audit: str) -> Verdict:
    """Ask each service until one knows the packages."""
    locks = [argument for lock in LOCKS for argument in ("--requirement", lock)]
    verdict = Verdict("Python")
    for service in SERVICES:
        verdict = judge_python(
            _run(
                *(pip_audit, "--disable-pip", "--no-deps", "--progress-spinner=off"),
                *("--format=json", f"--vulnerability-service={service}", *OPTIONS, *locks),
            )
        )
        if verdict.looked_up:
            break
    return verdict


def _audit() -> Iterator[Verdict]:
    yield _audit_python(sys.argv[1])
    if shutil.which("npm"):
        yield judge_npm(_run("npm", "audit", "--json", "--package-lock-only", "--prefix", "ui"))


def _run(*command: str) -> str:
    """Return what a command prints; its exit code says less than that."""
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    return result.stdout


def main() -> int:
    """Audit, with the pip-audit that the command line names."""
    verdicts = list(_audit())
    sys.stdout.write("".join(f"{verdict}\n" for verdict in verdicts))
    return decide(verdicts, required=os.environ.get("AUDIT_REQUIRED") == "1")


if __name__ == "__main__":
    sys.exit(main())
