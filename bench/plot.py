"""Ratios to the baseline as one self-contained SVG: a bar to the median, a whisker from the least to the most."""

import statistics
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

from bench.table import Row, Table, digits

LEFT, UNIT, LINE, GAP = 210, 320, 18, 40  # px: where bars begin, the length of ratio 1, a row, the room above a table's rows
MOST = 1.6  # the ratio at which bars are cut off
COLOURS = {"Weir": "#2f6db3", "": "#a9b4c0"}  # by what a label begins with


def bars(tables: Sequence[Table]) -> str:
    """One group of bars for each table."""
    svg = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "font-family": "sans-serif", "font-size": "12"})
    top = 0
    for table in tables:
        svg.extend(_group(table, top))
        top += GAP + LINE * len(table.rows)
    size = {"width": str(LEFT + int(UNIT * MOST) + 60), "height": str(top + LINE)}
    svg.attrib |= size
    svg.insert(0, ElementTree.Element("rect", {**size, "fill": "white"}))
    return ElementTree.tostring(svg, encoding="unicode")


def _group(table: Table, top: float) -> Iterator[ElementTree.Element]:
    base = next(row for row in table.rows if row.label == table.baseline)
    title = f"{table.title}: {table.baseline} = {digits(base.median)} {table.unit}"
    yield _text(title, LEFT, top + GAP - 8, weight="bold")
    for at, row in enumerate(table.rows):
        yield from _bar(row, table.ratios(row), top + GAP + LINE * at)
    yield _line(_x(1), top + GAP, _x(1), top + GAP + LINE * len(table.rows), "#888")


def _bar(row: Row, ratios: Sequence[float], top: float) -> Iterator[ElementTree.Element]:
    middle = top + LINE / 2
    yield _text(row.label, LEFT - 6, middle + 4, anchor="end")
    if not ratios:
        yield _text(row.note, LEFT + 4, middle + 4)
        return
    least, median, most = min(ratios), statistics.median(ratios), max(ratios)
    colour = next(colour for start, colour in COLOURS.items() if row.label.startswith(start))
    place = {"x": str(LEFT), "y": str(top + 2), "width": f"{_x(median) - LEFT:.1f}", "height": str(LINE - 4)}
    yield ElementTree.Element("rect", {**place, "fill": colour})
    yield _line(_x(least), middle, _x(most), middle, "#222")
    yield _text(f"{median:.2f}", _x(max(median, most)) + 6, middle + 4)


def _x(ratio: float) -> float:
    return LEFT + UNIT * min(ratio, MOST)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> ElementTree.Element:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return ElementTree.Element("line", {**{name: f"{value:.1f}" for name, value in ends.items()}, "stroke": colour})


def _text(words: str, x: float, y: float, *, anchor: str = "start", weight: str = "normal") -> ElementTree.Element:
    element = ElementTree.Element("text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "font-weight": weight})
    element.text = words
    return element
