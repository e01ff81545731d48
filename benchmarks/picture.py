"""The picture: `python -m benchmarks.picture RESULTS.json PICTURE.png`, where matplotlib is.

One panel a row, one bar a subject.
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.summary import HOPELESS_MACHINE, Figure

# Imported by its name, for the type checker has nothing to read it from.
pyplot = import_module("matplotlib.pyplot")

BASE = "peer, memory"
COLOURS = {"bare engine": "#9aa0a6", "ours": "#1f77b4", "peer": "#e8823a"}
SHADES = {"memory": 0.5, "sqlite": 0.75}
PANELS = {
    "One-step runs a second": ("one-step", "runs/s"),
    "21-step runs a second": ("21-steps", "runs/s"),
    "100-way fan-outs and joins a second": ("fan-out", "runs/s"),
    "100-event streams a second": ("stream", "runs/s"),
    "Events delivered a second, 50 readers": ("readers-50", "burst: events delivered/s"),
    "KiB of memory a waiting run (less is better)": ("waiting-resident", "KiB/run"),
}


def draw(report: dict[str, Any], picture: Path) -> None:
    """Draw all panels into a PNG file."""
    about, noise = report["about"], Figure.of(report["probes"]).spread or 0
    figure, axes = pyplot.subplots(3, 2, figsize=(12, 8.8))
    for axis, (title, (row, key)) in zip(axes.flat, PANELS.items(), strict=True):
        values = report["values"].get(row, {})
        bars = {name: each[key] for name, each in values.items() if key in each}
        draw_panel(axis, bars, quiet=noise <= HOPELESS_MACHINE)
        axis.set_title(title, fontsize=10, loc="left")
    figure.suptitle("workflow-server beside llama-agents-server and the bare engine", fontsize=14)
    caption = (
        f"{about['date'][:10]}, {about['cores']} cores ({about['processor']}), {about['python']},"
        f" loopback, 16 clients; {about['peer']}, {about['packages']}\nbars: medians; lines: the"
        f" middle half of the rounds; no ratio where they disagree; noise: {noise:.0%}"
    )
    figure.text(0.5, 0.005, caption, ha="center", va="bottom", fontsize=8)
    figure.tight_layout(rect=(0, 0.06, 1, 0.98))
    figure.savefig(picture, dpi=110)


def draw_panel(axis: Any, values: dict[str, list[float]], *, quiet: bool) -> None:
    """Draw the bars of one row."""
    for place, (name, rounds) in enumerate(values.items()):
        family, _, store = name.partition(", ")
        bar, ratio = Figure.of(rounds), Figure.of_ratio(rounds, values.get(BASE, rounds))
        half = bar.median * (bar.spread or 0) / 2
        axis.barh(name, bar.median, xerr=half, color=COLOURS[family], alpha=SHADES.get(store, 1))
        told = f"   {ratio.median:.1f} × {BASE}" if quiet and ratio.tells and name != BASE else ""
        label = f"  {bar.median:,.{0 if bar.median >= 100 else 1}f}{told}"
        axis.text(bar.median + half, place, label, va="center", fontsize=8)
    axis.set_xlim(0, axis.get_xlim()[1] * 1.4)
    axis.invert_yaxis()
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
