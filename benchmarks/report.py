"""What a benchmark found, as JSON, and from there as tables."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.rows import ENGINE, PEER, ROWS, YARDSTICK, Row
from benchmarks.summary import ABSENT, HOPELESS_MACHINE, Figure, Table, number, percent, ratio_cell

BASES = (PEER, "peer, sqlite", ENGINE, YARDSTICK)
NOISY_MACHINE = 0.1  # a spread of the probes
LEGEND = (
    "spread: the middle half of the rounds over their median. ×: the median of the rounds' ratios.",
    "?: the rounds are too few or too far apart, or the machine is noisy. -: nothing was measured.",
    "p50, p99: of a run; of an event, until it arrives; of a response, until its run has a result.",
    'yardstick: python -c "import fastapi, uvicorn, workflows"',
)


@dataclass(frozen=True, slots=True)
class Report:
    """All that a benchmark found: `about` says on what, `probes` how steady the machine was.

    `values` are by row, subject and title, one a round; `failures` are by row and subject.
    """

    about: dict[str, object]
    probes: list[float] = field(default_factory=list)
    values: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)

    def lines(self, *, markdown: bool) -> Iterator[str]:
        """Yield the lines of the report, as text or for the README."""
        noise = Figure.of(self.probes).spread or 0
        verdict = "too noisy to trust" if noise > NOISY_MACHINE else "steady enough"
        quiet = noise <= HOPELESS_MACHINE
        about = self.about | {"noise": f"a fixed computation varied by {noise:.0%}: {verdict}"}
        yield from (f"{'* ' if markdown else ''}{key}: {value}" for key, value in about.items())
        measured = [row for row in ROWS if row.name in self.values]
        tables = [self._table(row, quiet=quiet) for row in measured]
        if holds := [cells for row in measured for cells in self._holds(row, quiet=quiet)]:
            titles = ("figure", "beside", "×", "spread", "to hold", "")
            tables.append(Table("what is to hold", titles, holds))
        for table in tables:
            yield from ("", *(table.markdown() if markdown else table.text()))
        yield from ("", *LEGEND)

    def _table(self, row: Row, *, quiet: bool) -> Table:
        values = self.values[row.name]
        titles = list(dict.fromkeys(title for figures in values.values() for title in figures))
        bases = [base for base in BASES if row.compared in values.get(base, ())]
        lines = []
        for name, figures in values.items():
            medians = (figures.get(title) for title in titles)
            cells = [number(Figure.of(each).median) if each else ABSENT for each in medians]
            if compared := figures.get(row.compared):
                cells.append(percent(Figure.of(compared).spread))
                for base in bases:
                    ratio = ratio_cell(compared, values[base][row.compared], quiet=quiet)
                    cells.append("" if base == name else ratio)
            lines.append((name, *cells))
        if row.compared:
            titles += ["spread", *(f"× {base}" for base in bases)]
        note = "; ".join(f"{name}: {why}" for name, why in self.failures[row.name].items())
        return Table(row.title, titles, lines, note)

    def _holds(self, row: Row, *, quiet: bool) -> Iterator[tuple[str, ...]]:
        values = self.values[row.name]
        for hold in row.holds:
            ours = values.get(hold.subject, {}).get(hold.figure)
            theirs = values.get(hold.base, {}).get(hold.figure)
            if ours and theirs:
                ratio = Figure.of_ratio(ours, theirs)
                bound = f"{'at most' if hold.at_most else 'at least'} {hold.bound:g}"
                told = (hold.figure, hold.base, f"{ratio.median:.2f}", percent(ratio.spread), bound)
                yield f"{row.name}: {hold.subject}", *told, hold.judge(ratio, quiet=quiet)
