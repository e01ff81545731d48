"""Rows of the benchmark: who took part, in rounds, and what the table says of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks.samples import Sample
from benchmarks.scenario import MIB, Reading, Scenario
from benchmarks.summary import Figure, Ratio, client_load, cpu_per_run, percentile
from benchmarks.tables import ABSENT, Table, number, percent, ratio_cell, spread_of
from benchmarks.workloads import Workload

PEER_BASE = "peer, memory"
BASES = (PEER_BASE, "peer, sqlite", "bare engine")


@dataclass(frozen=True, slots=True)
class WorkloadRow:
    """The rounds of one workload, by subject."""

    workload: Workload
    samples: Mapping[str, Sequence[Sample]]

    def table(self, *, quiet: bool) -> Table:
        """Return the row as a table, with ratios if the machine was quiet."""
        size = self.workload.size
        amount = "MiB/s" if size else "events/s" if self.workload.events else ""
        columns = ("runs/s", "spread", *([amount] if amount else ()), "p50 ms", "p99 ms")
        return Table(
            f"{self.workload.title}, clients: {self.workload.clients}",
            (*columns, "CPU ms/run", *(f"× {base}" for base in BASES)),
            [self._cells(name, quiet=quiet) for name in self.samples],
            f"the measuring process used {percent(self._busiest())} of a core at most",
        )

    def _cells(self, name: str, *, quiet: bool) -> Sequence[str]:
        samples = self.samples[name]
        rate = Figure.of(self._rates(name))
        cpu = cpu_per_run(samples)
        return (
            name,
            number(rate.median, 1),
            percent(rate.spread),
            *self._amount(rate.median),
            number(percentile(samples, 50) * 1e3, 1),
            number(percentile(samples, 99) * 1e3, 1),
            number(cpu * 1e3, 2) if cpu is not None else ABSENT,
            *(self._ratio_cell(name, base, quiet=quiet) for base in BASES),
        )

    def _amount(self, runs_a_second: float) -> Iterator[str]:
        events = runs_a_second * self.workload.events
        if self.workload.size:
            yield number(events * self.workload.size / MIB, 1)
        elif events:
            yield number(events, 0)

    def _ratio_cell(self, name: str, base: str, *, quiet: bool) -> str:
        if name == base or base not in self.samples:
            return ""
        return ratio_cell(self._rates(name), self._rates(base), quiet=quiet)

    def _rates(self, name: str) -> list[float]:
        return [sample.rate for sample in self.samples[name]]

    def _busiest(self) -> float:
        return max(client_load(samples) for samples in self.samples.values())

    def document(self) -> dict[str, object]:
        """Return the row for JSON, without the single latencies."""
        return {
            "workload": asdict(self.workload),
            "subjects": {name: self._summary(name) for name in self.samples},
        }

    def _summary(self, name: str) -> dict[str, object]:
        samples = self.samples[name]
        return {
            "runs_per_second": asdict(Figure.of(self._rates(name))),
            "p50_seconds": percentile(samples, 50),
            "p99_seconds": percentile(samples, 99),
            "cpu_seconds_per_run": cpu_per_run(samples),
            "client_load": client_load(samples),
            "ratios": {
                base: asdict(ratio.figure) | {"tells": ratio.tells}
                for base in BASES
                if base != name and base in self.samples
                for ratio in [Ratio.of(self._rates(name), self._rates(base))]
            },
            "rounds": [
                {"seconds": sample.seconds, "runs": len(sample.latencies), "cpu": sample.cpu}
                for sample in samples
            ],
        }


@dataclass(frozen=True, slots=True)
class ScenarioRow:
    """The rounds of one scenario, by server; a server that cannot do it has none."""

    scenario: Scenario
    readings: Mapping[str, Sequence[Reading]]
    failures: Mapping[str, str]

    def table(self, *, quiet: bool) -> Table:
        """Return the row as a table, with ratios if the machine was quiet."""
        compared = self.scenario.compared
        return Table(
            self.scenario.title,
            (
                *(column.title for column in self.scenario.columns),
                *(["spread", f"× {PEER_BASE}"] if compared else ()),
            ),
            [self._cells(name, quiet=quiet) for name in self.readings],
            "; ".join(f"{name}: {why}" for name, why in self.failures.items()),
        )

    def _cells(self, name: str, *, quiet: bool) -> Sequence[str]:
        cells = [name]
        for column in self.scenario.columns:
            values = self._values(name, column.key)
            median = Figure.of(values).median * column.factor if values else None
            cells.append(ABSENT if median is None else number(median, column.digits))
        if self.scenario.compared:
            values = self._values(name, self.scenario.compared)
            cells.append(spread_of(values) if values else ABSENT)
            cells.append(self._ratio_cell(name, self.scenario.compared, quiet=quiet))
        return cells

    def _ratio_cell(self, name: str, key: str, *, quiet: bool) -> str:
        ours, theirs = self._values(name, key), self._values(PEER_BASE, key)
        if name == PEER_BASE or not ours or not theirs:
            return ""
        if not self.scenario.more:
            ours, theirs = theirs, ours
        return ratio_cell(ours, theirs, quiet=quiet)

    def _values(self, name: str, key: str) -> list[float]:
        return [reading[key] for reading in self.readings.get(name, ()) if key in reading]

    def document(self) -> dict[str, object]:
        """Return the row for JSON."""
        return {
            "scenario": self.scenario.name,
            "title": self.scenario.title,
            "subjects": {
                name: {
                    key: asdict(Figure.of(self._values(name, key)))
                    for key in (readings[0] if readings else ())
                }
                for name, readings in self.readings.items()
            },
            "rounds": dict(self.readings),
            "failures": dict(self.failures),
        }
