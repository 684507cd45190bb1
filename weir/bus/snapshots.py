"""Snapshots of the log: the last event of every live entity as of one sequence, in a stream beside the history.

A service starts from the newest one; a past moment is the snapshot before it and the history from there on.  So neither costs
more for a longer history, nor for names that are gone.  A snapshot is stored as chunks of compressed lines, by kind, and its last
message, which makes it whole; one that lacks it was never finished and is not seen.
"""

import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from weir.bus.lines import LINES, RAW_LINES, Line, keyed
from weir.bus.reader import Delivered, Entry, LogError, Trimmed

if TYPE_CHECKING:
    from weir.bus.client import Bus

SNAPSHOTS: Final = "WEIR_SNAPSHOTS"
CHUNK_BYTES: Final = 512 << 10  # of lines, before compression
_END: Final = "end"


class SnapshotLost(LogError):
    """A snapshot changed or was dropped during a read.  React: read again from the newest."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="weir_snapshot"):
    """The last message of a snapshot.  first: where in the stream its chunks begin."""

    sequence: int
    taken_s: int  # since 1970, by the clock of the log's server
    first: int
    chunks: dict[str, int]  # kind -> how many
    entities: int
    size_bytes: int  # as stored


_DECODE = msgspec.json.Decoder(Snapshot).decode


async def place(bus: "Bus") -> str:
    """Return the prefix of this log's snapshot subjects: it has the log's id, so that another log's snapshots are never read."""
    return f"weir-snapshot.{bus.cluster}.{(await bus.identity()).log}."


async def sequences(bus: "Bus") -> list[int]:
    """Return the sequences of all complete snapshots, ascending."""
    prefix = await place(bus)
    info = await bus.api(f"STREAM.INFO.{SNAPSHOTS}", {"subjects_filter": f"{prefix}*.{_END}"})
    return sorted(int(subject.removeprefix(prefix).partition(".")[0]) for subject in info["state"].get("subjects") or ())


async def snapshot_at(bus: "Bus", sequence: int) -> Snapshot | None:
    """Return the snapshot at this sequence; None where there is none."""
    return await _last(bus, f"{await place(bus)}{sequence}.{_END}")


async def newest(bus: "Bus") -> Snapshot | None:
    """None before the first."""
    return await _last(bus, f"{await place(bus)}*.{_END}")


async def _last(bus: "Bus", subject: str) -> Snapshot | None:
    body = await bus.last_body(SNAPSHOTS, subject)
    return _DECODE(body) if body else None


async def entries_of(bus: "Bus", snapshot: Snapshot, kinds: Sequence[str] = ()) -> AsyncIterator[list[Entry]]:
    """Read the events of a snapshot, of `kinds` (all, when empty).  Raises SnapshotLost."""
    async for text in _chunks(bus, snapshot, kinds):
        lines: list[Line] = LINES.decode_lines(text)
        yield [each.entry() for each in lines]


async def unread_of(bus: "Bus", snapshot: Snapshot, kinds: Sequence[str] = ()) -> AsyncIterator[list[Delivered]]:
    """Read the events undecoded, by sequence within each kind.  Raises SnapshotLost."""
    async for text in _chunks(bus, snapshot, kinds):
        yield [each.delivered() for each in RAW_LINES.decode_lines(text)]


async def lines_of(bus: "Bus", snapshot: Snapshot, kind: str) -> AsyncIterator[list[tuple[str, bytes]]]:
    """The lines of one kind as they are stored, and the key of each, by sequence.  Raises SnapshotLost."""
    async for text in _chunks(bus, snapshot, (kind,)):
        yield keyed(text)


async def _chunks(bus: "Bus", snapshot: Snapshot, kinds: Sequence[str]) -> AsyncIterator[bytes]:
    chosen = [kind for kind in snapshot.chunks if not kinds or kind in kinds]
    wanted = sum(snapshot.chunks[kind] for kind in chosen)
    here = await place(bus)
    filters = [f"{here}{snapshot.sequence}.{kind}.*" for kind in chosen]
    if not wanted:
        return
    async with bus.reader(SNAPSHOTS, snapshot.first, filters, _body, credit=32) as pull:
        while wanted > 0 and pull.pending:
            for body in await pull.next():
                wanted -= 1
                try:
                    yield zlib.decompress(body)
                except zlib.error as error:
                    raise SnapshotLost(f"snapshot {snapshot.sequence}: a chunk is damaged: {error}") from error
    if wanted:
        raise SnapshotLost(f"snapshot {snapshot.sequence} is incomplete: {wanted} chunks missing")


def _body(message: Delivered) -> bytes:
    return message.body


class State:
    """The last event of every live entity of some kinds, in batches, as `async for` gives them.

    position: sequence of the log that all batches together stand at.   Raises LogError, also where the log moved on too far meanwhile.
    """

    def __init__(self, bus: "Bus", kinds: Sequence[str]) -> None:
        self._bus, self._kinds = bus, kinds
        self.position = 0

    async def __aiter__(self) -> AsyncIterator[list[Entry]]:
        snapshot = await newest(self._bus)
        start = snapshot.sequence if snapshot else 0
        if snapshot:
            async for entries in entries_of(self._bus, snapshot, self._kinds):
                yield entries
        self.position = start
        async with self._bus.mirror(start, self._kinds) as pull:
            while pull.pending:
                if entries := await pull.next():
                    self.position = entries[-1].fact.seq
                    yield entries
        await check_covered(self._bus, start)


async def check_covered(bus: "Bus", start: int) -> None:
    """Raises SnapshotLost where WEIR_STATE may not hold all that changed behind `start`: it is trimmed up to the newest but one."""
    if (await sequences(bus))[-2:-1] > [start]:
        raise SnapshotLost(f"two snapshots were taken while the one at {start} was read")


def base_of(end: int, first: int, snapshots: Sequence[int]) -> tuple[int | None, int | None]:
    """Return the snapshot to read the log up to `end` from (0: from its beginning, None: impossible), and the first `end` that is covered.

    first: where the history begins.   snapshots: ascending.   A snapshot serves where the history has all that came behind it.
    """
    serve = [0] * (first <= 1) + [at for at in snapshots if at >= first - 1]
    base = max((at for at in serve if at <= end), default=None)
    if base is None and end in snapshots:
        base = end
    return base, min(serve, default=None)


async def history(bus: "Bus", first: int, last: int) -> AsyncIterator[list[Delivered]]:
    """Read every event from `first` to `last`, inclusive, undecoded.  Raises Trimmed."""
    position = first - 1
    if position >= last:
        return
    async with bus.unread(position) as pull:
        while position < last:
            if not pull.pending:
                raise Trimmed(f"the history ends at {position}, wanted up to {last}")
            found = [message for message in await pull.next() if message.sequence <= last]
            for message in found:
                if message.sequence != position + 1:
                    raise Trimmed(f"the history begins at {message.sequence}, wanted from {position + 1} on")
                position = message.sequence
            if found:
                yield found


async def live(bus: "Bus") -> tuple[Snapshot | None, dict[str, Delivered], int]:
    """Return the newest snapshot, the last event of each entity since, and the sequence reached.

    An entity that changes while WEIR_STATE is read is missed there and found in the history behind it, which is read last.
    """
    snapshot = await newest(bus)
    start = snapshot.sequence if snapshot else 0
    changed: dict[str, Delivered] = {}
    position = start
    async with bus.unread_mirror(start) as pull:
        while pull.pending:
            if found := await pull.next():
                position = found[-1].sequence
                changed |= {message.key: message for message in found}
    head: int = (await bus.stream())["state"]["last_seq"]
    async for found in history(bus, position + 1, head):
        changed |= {message.key: message for message in found}
    await check_covered(bus, start)
    return snapshot, changed, max(position, head)


class Chunks:
    """Packs events of one kind into chunks: the body of each and how many events it holds."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._size_bytes = 0

    def add(self, lines: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
        """Add a line; yield a chunk whenever one is full."""
        for text in lines:
            if self._size_bytes + len(text) > CHUNK_BYTES:
                yield from self.flush()
            self._lines.append(text)
            self._size_bytes += len(text)

    def flush(self) -> Iterator[tuple[bytes, int]]:
        """Yield the last chunk, if there is one."""
        if self._lines:
            yield zlib.compress(b"".join(self._lines), 1), len(self._lines)
            self._lines, self._size_bytes = [], 0


def chunk_subject(here: str, sequence: int, kind: str, number: int) -> str:
    """Return the subject of a chunk.   here: the prefix that `place` returns."""
    return f"{here}{sequence}.{kind}.{number}"


def end_subject(here: str, sequence: int) -> str:
    """Return the subject of the message that completes a snapshot."""
    return f"{here}{sequence}.{_END}"
