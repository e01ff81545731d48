"""Draws the results: `python -m benchmarks.picture RESULTS.json PICTURE.png`, where matplotlib is.

One panel a row, one bar a subject, with its figure beside it; a line over a bar is the middle half
of the rounds. How many times as fast a server is, is said only where the rounds agree.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

# Imported by their names, for the type checker has nothing to read them from.
matplotlib = import_module("matplotlib")
matplotlib.use("Agg")
pyplot = import_module("matplotlib.pyplot")

SUBJECTS = {
    "bare engine": "#9aa0a6",
    "ours, memory": "#7fb3d5",
    "ours, sqlite": "#1f77b4",
    "ours, postgres": "#0b4f8a",
    "peer, memory": "#f5b98a",
    "peer, sqlite": "#e8823a",
    "peer, postgres": "#b8561a",
}
BASE = "peer, memory"
WORKLOADS = {
    "one-step": "One-step runs a second",
    "21-steps": "21-step runs a second",
    "fan-out": "100-way fan-outs and joins a second",
    "stream": "100-event streams a second",
}
SCENARIOS = {
    "readers-50": ("burst", "Events delivered a second, 50 readers", 1.0),
    "waiting-resident": ("memory", "KiB of memory a waiting run (less is better)", 1 / 1024),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One subject's figure, with the ratio where it is told."""

    subject: str
    median: float
    spread: float | None
    ratio: float | None


def read_panels(document: Mapping[str, Any]) -> dict[str, Sequence[Bar]]:
    """Return the bars of each panel for which something was measured."""
    panels: dict[str, Sequence[Bar]] = {}
    for row in document["workloads"]:
        title = WORKLOADS.get(row["workload"]["name"])
        if title is not None:
            panels[title] = [
                _workload_bar(name, summary, quiet=document["quiet"])
                for name, summary in row["subjects"].items()
            ]
    for row in document["scenarios"]:
        key, title, factor = SCENARIOS.get(row["scenario"], ("", "", 1.0))
        bars = [
            Bar(name, figures[key]["median"] * factor, figures[key]["spread"], None)
            for name, figures in row["subjects"].items()
            if key in figures
        ]
        if bars:
            panels[title] = bars
    return panels


def _workload_bar(name: str, summary: Mapping[str, Any], *, quiet: bool) -> Bar:
    rate, ratio = summary["runs_per_second"], summary["ratios"].get(BASE)
    told = ratio["median"] if quiet and ratio and ratio["tells"] else None
    return Bar(name, rate["median"], rate["spread"], told)


def draw(document: Mapping[str, Any], picture: Path) -> None:
    """Draw all panels into a PNG file."""
    panels = read_panels(document)
    if not panels:
        sys.exit("nothing of what the picture shows was measured")
    rows = -(-len(panels) // 2)
    figure, grid = pyplot.subplots(rows, 2, figsize=(12, 2.6 * rows + 1), squeeze=False)
    axes = list(grid.flat)
    for axis, (title, bars) in zip(axes, panels.items(), strict=False):
        _draw_panel(axis, title, bars)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    figure.suptitle("workflow-server beside llama-agents-server and the bare engine", fontsize=14)
    figure.text(0.5, 0.005, _caption(document), ha="center", va="bottom", fontsize=8)
    figure.tight_layout(rect=(0, 0.06, 1, 0.98))
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)


def _draw_panel(axis: Any, title: str, bars: Sequence[Bar]) -> None:
    names = [bar.subject for bar in bars]
    halves = [bar.median * (bar.spread or 0) / 2 for bar in bars]
    axis.barh(
        names,
        [bar.median for bar in bars],
        xerr=halves,
        color=[SUBJECTS.get(name, "#444444") for name in names],
        error_kw={"elinewidth": 1, "ecolor": "#333333"},
    )
    for index, bar in enumerate(bars):
        ratio = f"   {bar.ratio:.1f} × {BASE}" if bar.ratio is not None else ""
        digits = 0 if bar.median >= 100 else 1
        label = f"  {bar.median:,.{digits}f}{ratio}"
        axis.text(bar.median + halves[index], index, label, va="center", fontsize=8)
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_xlim(0, max(b.median + h for b, h in zip(bars, halves, strict=True)) * 1.4)
    axis.invert_yaxis()
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _caption(document: Mapping[str, Any]) -> str:
    about = document["about"]
    ours, peer = about["packages_of_ours"], about["packages_of_the_peer"]
    return (
        f"{about['date'][:10]}, {about['cores']} cores ({about['processor']}), {about['python']},"
        f" loopback, 16 clients; workflow-server {ours.get('workflow-server', '?')},"
        f" llama-agents-server {peer.get('llama-agents-server', '?')}\n"
        f"medians of up to {about['rounds']} rounds, lines: the middle half of them;"
        f" noise of the machine: {document['verdict']}; no ratio where the rounds disagree"
    )


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
