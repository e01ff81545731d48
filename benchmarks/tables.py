"""Tables: the same cells as aligned text, and as Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.summary import Figure, Ratio

ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column is the subjects."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def text(self) -> Iterator[str]:
        """Yield the lines of the table, its columns aligned."""
        yield self.title
        cells = [("", *self.columns), *self.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for first, *rest in cells:
            aligned = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
            yield "  ".join([first.ljust(widths[0]), *aligned]).rstrip()
        if self.note:
            yield f"  ({self.note})"

    def markdown(self) -> Iterator[str]:
        """Yield the lines of the table in Markdown."""
        yield f"**{self.title[:1].upper()}{self.title[1:]}**"
        yield ""
        yield f"| | {' | '.join(self.columns)} |"
        yield f"|---|{'---:|' * len(self.columns)}"
        for row in self.rows:
            yield f"| {' | '.join(row)} |"
        if self.note:
            yield ""
            yield f"({self.note})"


def number(value: float, digits: int) -> str:
    """Return a number with so many digits after the point."""
    return f"{value:,.{digits}f}"


def percent(part: float | None) -> str:
    """Return a part of a whole in percent."""
    return ABSENT if part is None else f"{part:.0%}"


def ratio_cell(ours: Sequence[float], theirs: Sequence[float], *, quiet: bool) -> str:
    """Return a ratio, and `?` where the rounds do not tell it or the machine was not quiet."""
    ratio = Ratio.of(ours, theirs)
    return f"{ratio.figure.median:.2f}" if quiet and ratio.tells else "?"


def spread_of(values: Sequence[float]) -> str:
    """Return how far the rounds are apart."""
    return percent(Figure.of(values).spread)
