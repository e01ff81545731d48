"""Results as a table for people and as JSON for programs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.samples import Sample
from benchmarks.summary import Figure, Ratio, client_load, cpu_per_run, percentile
from benchmarks.workloads import Workload

COLUMNS = (
    *("", "runs/s", "spread", "events/s", "p50 ms", "p99 ms", "CPU ms/run"),
    *("× peer, memory", "× bare engine"),
)
BASES = ("peer, memory", "bare engine")
NOISY_MACHINE = 0.1


@dataclass(frozen=True, slots=True)
class Row:
    """The rounds of one workload, by subject."""

    workload: Workload
    samples: Mapping[str, Sequence[Sample]]


@dataclass(frozen=True, slots=True)
class Report:
    """All that a benchmark found: `about` says on what, `steadiness` how steady it was."""

    about: Mapping[str, object]
    steadiness: Figure
    rows: Sequence[Row]

    def lines(self) -> Iterator[str]:
        """Yield the report as text."""
        for key, value in self.about.items():
            yield f"{key.replace('_', ' ')}: {_words(value)}"
        yield self._verdict()
        for row in self.rows:
            yield ""
            yield f"{row.workload.title}, clients: {row.workload.clients}"
            yield from _align([COLUMNS, *(_cells(row, name) for name in row.samples)])
            yield f"  (the measuring process used {_percent(_busiest(row))} of a core at most)"
        yield ""
        yield "spread: the middle half of the rounds over their median; a ratio is the median of"
        yield "the rounds' ratios, and ? where these are too far apart to tell"

    def write(self, file: Path) -> None:
        """Write everything as JSON, the samples without their single latencies."""
        document = {
            "about": self.about,
            "probe": asdict(self.steadiness),
            "rows": [
                {
                    "workload": asdict(row.workload),
                    "subjects": {name: _summary(row, name) for name in row.samples},
                }
                for row in self.rows
            ],
        }
        file.write_text(json.dumps(document, indent=2) + "\n")

    def _verdict(self) -> str:
        spread = self.steadiness.spread
        verdict = "too noisy to trust" if spread > NOISY_MACHINE else "steady enough"
        return f"noise: a fixed computation varied by {_percent(spread)}: {verdict}"


def _cells(row: Row, name: str) -> Sequence[str]:
    samples = row.samples[name]
    rate = Figure.of([sample.rate for sample in samples])
    cpu = cpu_per_run(samples)
    events = rate.median * row.workload.events
    return (
        name,
        f"{rate.median:.1f}",
        _percent(rate.spread),
        f"{events:.0f}" if events else "",
        f"{percentile(samples, 50) * 1e3:.1f}",
        f"{percentile(samples, 99) * 1e3:.1f}",
        f"{cpu * 1e3:.2f}" if cpu is not None else "",
        *(_ratio_cell(row, name, base) for base in BASES),
    )


def _ratio_cell(row: Row, name: str, base: str) -> str:
    if name == base or base not in row.samples:
        return ""
    ratio = Ratio.of(row.samples[name], row.samples[base])
    return f"{ratio.figure.median:.2f}" if ratio.tells else "?"


def _summary(row: Row, name: str) -> dict[str, object]:
    samples = row.samples[name]
    return {
        "runs_per_second": asdict(Figure.of([sample.rate for sample in samples])),
        "p50_seconds": percentile(samples, 50),
        "p99_seconds": percentile(samples, 99),
        "cpu_seconds_per_run": cpu_per_run(samples),
        "client_load": client_load(samples),
        "ratios": {
            base: asdict(ratio.figure) | {"tells": ratio.tells}
            for base in BASES
            if base != name and base in row.samples
            for ratio in [Ratio.of(samples, row.samples[base])]
        },
        "rounds": [
            {"seconds": sample.seconds, "runs": len(sample.latencies), "cpu_seconds": sample.cpu}
            for sample in samples
        ],
    }


def _busiest(row: Row) -> float:
    return max(client_load(samples) for samples in row.samples.values())


def _align(table: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *rest in table:
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def _percent(part: float) -> str:
    return f"{part:.0%}"


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)
