"""Print rows: a table for people, JSON or YAML for programs.  Control characters are escaped."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any

import msgspec

Row = dict[str, Any]  # column -> value, in the order of the columns
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")  # control characters, direction marks, line ends


MACHINE = ("json", "jsonl", "yaml")  # forms for a program


def emit(rows: Sequence[Row], output: str, *, columns: Sequence[str] = ()) -> None:
    """Print a list.  columns: what the table shows of each row; all, when empty.  JSON and YAML hold everything."""
    if output == "jsonl":
        emit_lines(rows)
    elif output == "json":
        print(_indented(list(rows)))
    elif output == "yaml":
        print(to_yaml(list(rows)), end="")
    elif rows:
        table(columns or list(rows[0]), ([row[column] for column in columns or row] for row in rows))
    else:
        print("No resources found.", file=sys.stderr)


def emit_one(answer: Row, output: str) -> None:
    """Print a single answer: a JSON object, or a YAML document."""
    if output == "jsonl":
        emit_lines([answer])
    elif output == "json":
        print(_indented(answer))
    else:
        print(to_yaml(answer), end="")


def emit_lines(rows: Iterable[Row]) -> None:
    """Print a JSON object a line."""
    for row in rows:
        print(harmless_json(msgspec.json.encode(row).decode()), flush=True)


def row_of(value: msgspec.Struct) -> Row:
    """Return the fields of a view as a row: all of them, in their order, as lists and plain values."""
    return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}


def _plain(value: Any) -> Any:
    match value:
        case msgspec.Struct():
            return msgspec.to_builtins(value) if value.__struct_config__.tag else row_of(value)
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
    return value


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, header: bool = True) -> None:
    """Print columns in capitals, two spaces between them, as kubectl does."""
    lines = [[column.upper().replace("_", " ") for column in columns], *([harmless(_cell(value)) for value in row] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines[not header :]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _indented(value: Any) -> str:
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return "\n".join(map(harmless_json, text.split("\n")))


def to_yaml(value: Any) -> str:
    """Format as plain YAML whatever msgspec can encode as JSON."""
    import yaml

    plain = msgspec.json.decode(msgspec.json.encode(value))
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=False)
    return text


def harmless(text: str) -> str:
    """Escape control characters and direction marks, so that no name in the log can control a terminal."""
    return _UNSAFE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def harmless_json(line: str) -> str:
    """Escape the same in JSON, in its own escapes."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", line)


def paint(text: str, colour: str) -> str:
    """Color `text` red, green, yellow or dim at a terminal; not elsewhere, nor with NO_COLOR."""
    codes = {"red": 31, "green": 32, "yellow": 33, "dim": 2}
    return f"\033[{codes[colour]}m{text}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text


class Progress:
    """Progress of a long read: shown at a terminal from the third second on, cleared at the end."""

    SILENT_S, EVERY_S = 2.0, 0.2

    def __init__(self, what: str, first: int, last: int) -> None:
        self._what, self._first, self._all = what, first, max(1, last - first + 1)
        self._begun_s = time.monotonic()
        self._next_s = self._begun_s + self.SILENT_S if sys.stderr.isatty() else float("inf")
        self._shown = False

    def __enter__(self) -> Callable[[int], None]:
        return self._at

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _at(self, position: int) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s, self._shown = now_s + self.EVERY_S, True
        done = position - self._first + 1
        speed = int(done / (now_s - self._begun_s))
        print(f"\r\033[K{self._what}: {done * 100 // self._all} %, {speed}/s", end="", file=sys.stderr, flush=True)


def _cell(value: Any) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ",".join(map(str, value)) or "-"
    return str(value)
