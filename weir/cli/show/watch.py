"""Rows that are shown again when they change: the whole table at a terminal, a line for each change elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from weir.cli.output import MACHINE, Row, emit, emit_lines, emit_one, table

EVERY_S = 1.0
_CLEAR = "\033[H\033[2J\033[3J"


class Screen:
    """What was last shown.  identity: the columns that name a row; columns: those of the table, all when empty."""

    def __init__(self, output: str, identity: Sequence[str], columns: Sequence[str] = ()) -> None:
        self._output, self._identity, self._columns = output, identity, columns
        self._shown: dict[tuple[object, ...], Row] | None = None

    def show(self, rows: Iterable[Row]) -> None:
        """Print the differences from what was shown before."""
        now = {tuple(row[name] for name in self._identity): row for row in map(self._visible, rows)}
        if now == self._shown:
            return
        if sys.stdout.isatty() and self._output not in MACHINE:
            print(_CLEAR, end="")
            emit(list(now.values()), self._output)
        else:
            self._append(list(changes(self._shown or {}, now)), first=self._shown is None)
        sys.stdout.flush()
        self._shown = now

    def _visible(self, row: Row) -> Row:
        return row if self._output in MACHINE or not self._columns else {name: row[name] for name in self._columns}

    def _append(self, changed: list[Row], *, first: bool) -> None:
        if self._output == "yaml":
            for row in changed:
                print("---")
                emit_one(row, "yaml")
        elif self._output in ("json", "jsonl"):
            emit_lines(changed)
        elif changed:
            columns = list(changed[0])
            table(columns, ([row[column] for column in columns] for row in changed), header=first)


def changes(before: dict[tuple[object, ...], Row], now: dict[tuple[object, ...], Row]) -> Iterator[Row]:
    """Yield rows that were added, changed or removed, with that word as their first column."""
    for key, row in now.items():
        if before.get(key) != row:
            yield {"change": "changed" if key in before else "added", **row}
    for key, row in before.items():
        if key not in now:
            yield {"change": "gone", **row}


def every(look: Callable[[], None]) -> None:
    """Call `look` once a second, indefinitely."""
    while True:
        look()
        time.sleep(EVERY_S)
