"""A history in a file, as `weir log dump` writes it: JSON lines, one about the whole and then one for each event.

A recording has the reading methods of the log, so that every command works on either.
"""

import gzip
import io
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar, cast

import msgspec

from weir.bus.lines import ENCODE_LINE, LINES, RAW_LINES, Line, RawLine
from weir.bus.reader import Delivered, Entry, Refused
from weir.view.progress import progress

NOT_THERE = 10037  # as JetStream numbers it
_CHUNK_BYTES = 1 << 20


class Head(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="weir_log"):
    """The first line: what the file should hold, so that a truncated one is detected.

    first, last: of the history, which has every event between them.   base: from here on all is known: before `first` stands what every
    entity last said that was live then.
    """

    version: int = 2
    cluster: str
    first: int
    last: int
    base: int = 0


L = TypeVar("L", Line, RawLine)
_HEAD = msgspec.json.Decoder(Head)


class RecordingError(Exception):
    """The file is no recording, or a truncated one.  React: report it, exit code 2."""


class Recording:
    """A file of events.  Raises OSError, or RecordingError with the place of the fault."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _opened(path)
        try:
            self.head = _HEAD.decode(self._file.readline())
        except msgspec.MsgspecError as error:
            raise RecordingError(f"{path} line 1: {error}; expected what weir log dump writes") from error
        self._begin = self._file.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def batches(self, start: int, end: int | None = None) -> Iterator[list[Line]]:
        """Events from `start` to `end`, both within, a megabyte at a time."""
        return self._batches(LINES, start, end)

    def latest(self, end: int | None = None) -> dict[str, Delivered]:
        """The last event of each entity, undecoded."""
        found: dict[str, Delivered] = {}
        for batch in self._batches(RAW_LINES, 1, end):
            found |= {line.key: line.delivered() for line in {line.key: line for line in batch}.values()}
        return found

    def unread(self) -> Iterator[list[Delivered]]:
        """Every event as the log had it, undecoded."""
        for batch in self._batches(RAW_LINES, self.head.first):
            yield [line.delivered() for line in batch]

    def _batches(self, decoder: msgspec.json.Decoder[L], start: int, end: int | None = None) -> Iterator[list[L]]:
        self._file.seek(self._find(start) if start > 1 else self._begin)
        last, rest = start - 1, b""
        with progress(f"reading {self._path}", start, end or self.head.last) as advance:
            while chunk := self._file.read(_CHUNK_BYTES):
                whole, newline, rest = (rest + chunk).rpartition(b"\n")
                found = self._decode(decoder, whole + newline)
                last = found[-1].sequence if found else last
                advance(last)
                if end is not None and last >= end:
                    yield [line for line in found if line.sequence <= end]
                    return
                yield found
        if rest or last < min(self.head.last, end or self.head.last):
            raise RecordingError(f"{self._path} ends after event {self._last()}, expected {self.head.last}: truncated")

    def _last(self) -> int:
        """The sequence of the last whole line; one before the first where there is none."""
        self._file.seek(max(self._begin, os.fstat(self._file.fileno()).st_size - 2 * _CHUNK_BYTES))
        lines = self._file.read().rpartition(b"\n")[0].rpartition(b"\n")[2]
        return self._decode(RAW_LINES, lines)[0].sequence if lines else self.head.first - 1

    async def at(self, sequence: int) -> Entry:
        """One event.  Raises Refused (NOT_THERE)."""
        self._file.seek(self._find(sequence))
        for line in self._decode(LINES, self._file.readline()):
            if line.sequence == sequence:
                return line.entry()
        raise Refused(NOT_THERE, "no message found")

    async def since(self, time_text: str) -> int:
        """The first sequence at or after an RFC 3339 time; past the end when there is none."""
        moment_ns = int(datetime.fromisoformat(time_text).timestamp() * 1_000_000) * 1000
        found = (line.sequence for batch in self.batches(self.head.first) for line in batch if line.time_ns >= moment_ns)
        return next(found, self.head.last + 1)

    async def stream(self) -> dict[str, Any]:
        """The `state` that the stream had, as far as it is known here."""
        return {"state": {"first_seq": self.head.first, "last_seq": self.head.last, "bytes": os.fstat(self._file.fileno()).st_size}}

    def _decode(self, decoder: msgspec.json.Decoder[L], lines: bytes) -> list[L]:
        try:
            return decoder.decode_lines(lines)
        except msgspec.MsgspecError as error:
            raise RecordingError(f"{self._path}: {_first_fault(decoder, lines) or error}") from error

    def _find(self, sequence: int) -> int:
        """Offset of the first line at or after `sequence`, by halving the file: its lines are sorted."""
        low, high = self._begin, os.fstat(self._file.fileno()).st_size
        while low < high:
            middle = (low + high) // 2
            self._file.seek(middle - 1)
            self._file.readline()  # to the begin of the first line at or after `middle`
            line = self._file.readline()
            if line and self._decode(RAW_LINES, line)[0].sequence < sequence:
                low = self._file.tell()
            else:
                high = middle
        return low


def _opened(path: Path) -> BinaryIO:
    """The dump in a file or on standard input ("-"), gzipped or not.  Reading seeks, so a pipe and a gzip file are copied first."""
    source = cast(io.BufferedReader, sys.stdin.buffer if str(path) == "-" else path.open("rb"))
    packed = source.peek(2)[:2] == b"\x1f\x8b"
    if source.seekable() and not packed:
        return source
    copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  the caller closes it
    try:
        with source, cast(BinaryIO, gzip.open(source)) if packed else source as content:
            shutil.copyfileobj(content, copy)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise RecordingError(f"{path}: damaged gzip file: {error}") from error
    copy.seek(0)
    return copy


def _first_fault(decoder: msgspec.json.Decoder[L], lines: bytes) -> str:
    """Which line cannot be read, and why; "" where each can."""
    before = 0
    for line in lines.splitlines():
        try:
            before = decoder.decode(line).sequence
        except msgspec.MsgspecError as error:
            return f"the line after event {before}: {error}"
    return ""


def head_line(cluster: str, first: int, last: int, base: int = 0) -> bytes:
    """The first line of a recording."""
    return ENCODE_LINE(Head(cluster=cluster, first=first, last=last, base=base)) + b"\n"
