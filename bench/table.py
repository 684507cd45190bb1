"""What every measurement hands back: tables of rows, each row the samples of one thing; medians and spread follow from them."""

import statistics
from collections.abc import Callable, Sequence
from functools import partial

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One thing measured.  samples: one for each round, in the table's unit; none: it was not measured, and `note` says why."""

    label: str
    samples: tuple[float, ...]
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one unit.  baseline: the label of the row that the others are a ratio of; empty: no ratios."""

    title: str
    unit: str
    rows: tuple[Row, ...]
    baseline: str = ""
    less_is_better: bool = False
    note: str = ""

    def ratios(self, row: Row) -> tuple[float, ...]:
        """To the baseline, round by round, since what disturbs a round disturbs all its rows; none where there is no baseline."""
        base = next((base.samples for base in self.rows if base.label == self.baseline), ())
        return tuple(mine / other for mine, other in zip(row.samples, base, strict=False) if other)

    def markdown(self) -> str:
        """As text that reads well on a terminal too."""
        shown = [("", self.unit, "least–most", "ratio", "least–most", "note"), *map(self._cells, self.rows)]
        columns = [column for column in zip(*shown, strict=True) if any(column[1:])]
        title = f"### {self.title}{' (less is better)' if self.less_is_better else ''}"
        return "\n".join([title, "", *_grid(columns), *(["", self.note] if self.note else [])])

    def _cells(self, row: Row) -> tuple[str, ...]:
        ratios = () if row.label == self.baseline else self.ratios(row)
        return (row.label, *_median_and_spread(row.samples, digits), *_median_and_spread(ratios, "{:.2f}".format), row.note)


def overview(tables: Sequence[Table]) -> str:
    """Tables of the same rows as one, a line for each table: medians, and ratios in brackets.  Empty where there are no such tables."""
    labels = [row.label for row in tables[0].rows]
    if len(tables) < 2 or any([row.label for row in table.rows] != labels for table in tables):
        return ""
    lines = [("", *labels), *((f"{table.title}, {table.unit}", *map(partial(_brief, table), table.rows)) for table in tables)]
    return "\n".join(_grid(list(zip(*lines, strict=True))))


def _brief(table: Table, row: Row) -> str:
    ratio = f" ({statistics.median(ratios):.2f})" if row.label != table.baseline and (ratios := table.ratios(row)) else ""
    return f"{digits(row.median)}{ratio}" if row.samples else "–"


def _median_and_spread(samples: Sequence[float], form: Callable[[float], str]) -> tuple[str, str]:
    if not samples:
        return "", ""
    return form(statistics.median(samples)), f"{form(min(samples))}–{form(max(samples))}" if len(samples) > 1 else ""


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
