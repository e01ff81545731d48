"""Results as text for people, as Markdown for the README, and as JSON for programs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.rows import ScenarioRow, WorkloadRow
from benchmarks.summary import Figure
from benchmarks.tables import Table, percent

NOISY_MACHINE = 0.1
HOPELESS_MACHINE = 0.3  # where no ratio is told at all
LEGEND = (
    "spread: the middle half of the rounds over their median, - where there was one round only.",
    "×: how many times as fast, the median of the rounds' ratios; ? where these are too far apart,",
    "or too few, to tell. -: the server cannot do it, or nothing tells.",
)


@dataclass(frozen=True, slots=True)
class Report:
    """All that a benchmark found: `about` says on what, `steadiness` how steady it was."""

    about: Mapping[str, object]
    steadiness: Figure
    rows: Sequence[WorkloadRow | ScenarioRow]

    def write(self, file: Path) -> None:
        """Write everything as JSON, the tables as they are shown too."""
        document = {
            "about": self.about,
            "probe": asdict(self.steadiness),
            "verdict": self._verdict(),
            "quiet": self._is_quiet,
            "workloads": [r.document() for r in self.rows if isinstance(r, WorkloadRow)],
            "scenarios": [r.document() for r in self.rows if isinstance(r, ScenarioRow)],
            "tables": [asdict(row.table(quiet=self._is_quiet)) for row in self.rows],
        }
        file.write_text(json.dumps(document, indent=1) + "\n")

    @property
    def _is_quiet(self) -> bool:
        return (self.steadiness.spread or 0) <= HOPELESS_MACHINE

    def _verdict(self) -> str:
        spread = self.steadiness.spread or 0
        verdict = "too noisy to trust" if spread > NOISY_MACHINE else "steady enough"
        if not self._is_quiet:
            verdict = "far too noisy, so that no ratio is told"
        return f"a fixed computation varied by {percent(spread)}: {verdict}"


def text(file: Path) -> Iterator[str]:
    """Yield the lines of a report, read from its JSON."""
    document = json.loads(file.read_text())
    for key, value in document["about"].items():
        yield f"{key.replace('_', ' ')}: {_words(value)}"
    yield f"noise: {document['verdict']}"
    for table in document["tables"]:
        yield ""
        yield from Table(**table).text()
    yield ""
    yield from LEGEND


def markdown(file: Path) -> Iterator[str]:
    """Yield the lines of the README's section, read from the JSON of a report."""
    document = json.loads(file.read_text())
    about = document["about"]
    yield (
        f"Measured on {about['date'][:10]} on {about['cores']} cores ({about['processor']}),"
        f" {about['system']}, {about['python']}, all on loopback;"
        f" noise: {document['verdict']}."
    )
    yield ""
    for whose in ("ours", "the_peer"):
        yield f"* {whose.replace('_', ' ')}: {_words(about[f'packages_of_{whose}'])}"
    for table in document["tables"]:
        yield ""
        yield from Table(**table).markdown()
    yield ""
    yield from LEGEND


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)
