"""What every measurement hands back: tables of rows, each row the samples of one thing; medians and spread follow from them."""

import statistics
from collections.abc import Sequence

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One thing measured.  samples: one for each round, in the table's unit; none: it could not be measured, `note` says why."""

    label: str
    samples: tuple[float, ...]
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> str:
        """Least and most."""
        return f"{digits(min(self.samples))}–{digits(max(self.samples))}" if len(self.samples) > 1 else ""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one unit.  baseline: the label of the row that the others are a ratio of; empty: no ratios."""

    title: str
    unit: str
    rows: tuple[Row, ...]
    baseline: str = ""
    less_is_better: bool = False
    note: str = ""

    def ratio(self, row: Row) -> float | None:
        """To the baseline's median; None where there is none."""
        base = next((base for base in self.rows if base.label == self.baseline and base.samples), None)
        return row.median / base.median if base and row.samples and base.median else None

    def markdown(self) -> str:
        """As text that reads well on a terminal too."""
        shown = [("", self.unit, "spread", *(["ratio"] if self.baseline else []), "note"), *map(self._cells, self.rows)]
        columns = [column for column in zip(*shown, strict=True) if any(column[1:])]
        return "\n".join([f"### {self.title}", "", *_grid(columns), *(["", self.note] if self.note else [])])

    def _cells(self, row: Row) -> tuple[str, ...]:
        figures = (digits(row.median), row.spread) if row.samples else ("–", "")
        ratio = self.ratio(row)
        return (row.label, *figures, *([f"{ratio:.2f}" if ratio is not None else ""] if self.baseline else []), row.note)


def digits(number: float) -> str:
    """Three significant digits, or all before the point."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _grid(columns: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table of cells given by column, the first left-aligned."""
    widths = [max(3, *map(len, column)) for column in columns]
    lines = [
        " | ".join(cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in zip(*columns, strict=True)
    ]
    rule = " | ".join("-" * (width - 1) + ":" if at else "-" * width for at, width in enumerate(widths))
    return [f"| {line} |" for line in (lines[0], rule, *lines[1:])]
