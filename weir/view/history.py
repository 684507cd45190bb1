"""Read the log or a recording: the world now or at a moment, and events one by one."""

import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from weir.bus.client import Bus
from weir.bus.reader import Delivered, Entry, LogUnreachable, Refused, Trimmed, decode
from weir.bus.snapshots import Snapshot, SnapshotLost, base_of, history, live, sequences, snapshot_at, unread_of
from weir.decider import Fact, Index, World
from weir.view.errors import Unanswerable
from weir.view.moments import sequence_of
from weir.view.progress import progress
from weir.view.recording import Recording
from weir.view.value import when
from weir.where import Where

_TRIES = 5  # of a moment at the old end of a history that expires as it is read


def source(instance: str, file: Path | None) -> AbstractAsyncContextManager["Bus | Recording"]:
    """Open what a command reads: the recording in `file`, or else the instance's log."""
    return _opened(file) if file else _connected(instance)


async def connect(instance: str, user: str = "operator") -> Bus:
    """Connect to the instance's log.  Raises LogUnreachable."""
    return await Bus.connect(url_of(instance), user)


def url_of(instance: str) -> str:
    """Return the URL of the instance's log, never another instance's.  Raises LogUnreachable."""
    named = Where(instance).state / "nats.url"
    if "WEIR_NATS" not in os.environ and not named.exists():
        raise LogUnreachable(f"no such instance on this machine ({named} does not exist), and WEIR_NATS is not set")
    return Where(instance).nats_url()


@asynccontextmanager
async def _connected(instance: str) -> AsyncIterator[Bus]:
    async with await connect(instance) as bus:
        yield bus


@asynccontextmanager
async def _opened(file: Path) -> AsyncIterator[Recording]:
    try:
        recording = Recording(file)
    except OSError as error:
        raise Unanswerable(f"{file}: {error.strerror}") from error
    with recording:
        yield recording


async def batches(log: Bus | Recording, start: int, end: int | None = None, kinds: Sequence[str] = ()) -> AsyncIterator[list[Entry]]:
    """Read the history from `start` to `end`, inclusive; up to now, when `end` is None.  kinds: all, when empty."""
    if isinstance(log, Recording):
        for lines in log.batches(start, end):
            yield [line.entry() for line in lines if not kinds or line.key.split(".", 2)[1] in kinds]
        return
    async with log.follow(start - 1, kinds) as pull:
        if end is not None and end < start:
            return
        with progress("reading the log", start, end or start + pull.pending) as advance:
            while pull.pending:
                if not (found := await pull.next()):
                    continue
                advance(found[-1].fact.seq)
                if end is not None and found[-1].fact.seq >= end:
                    yield [entry for entry in found if entry.fact.seq <= end]
                    return
                yield found


async def entries(log: Bus | Recording, start: int, end: int | None = None, kinds: Sequence[str] = ()) -> AsyncIterator[Entry]:
    """Read the same events one by one."""
    async for batch in batches(log, start, end, kinds):
        for entry in batch:
            yield entry


async def world_at(log: Bus | Recording, moment: str, indexes: Mapping[str, Index] | None = None) -> tuple[World, int]:
    """Return the world at a moment and its sequence; now (of a recording: at its end), when `moment` is empty.

    Only the last event of each entity is decoded.  Raises Unanswerable for a moment that is not covered.
    """
    latest, position = await latest_at(log, moment)
    return world_of(latest.values(), indexes), position


def world_of(latest: Iterable[Delivered], indexes: Mapping[str, Index] | None = None) -> World:
    """Fold events, one for each entity, to a world."""
    world = World(indexes)
    for message in latest:
        world.evolve(Fact(message.sequence, decode(message.body, message.key, message.sequence), message.key))
    return world


async def latest_at(log: Bus | Recording, moment: str) -> tuple[dict[str, Delivered], int]:
    """Return the last event of each entity at a moment, undecoded, and the sequence of that moment."""
    state = (await log.stream())["state"]
    if not moment:
        return (log.latest(), state["last_seq"]) if isinstance(log, Recording) else await _latest_now(log)
    end = await sequence_of(log, moment)
    if end > state["last_seq"]:
        raise Unanswerable(f"{moment} is in the future: the log ends at {await _named(log, state['last_seq'])}")
    if isinstance(log, Recording):
        if end < (begin := log.head.base or log.head.first):
            raise await _too_early(log, moment, begin)
        return log.latest(end), end
    return await _latest_then(log, moment, end), end


async def _named(log: Bus | Recording, sequence: int) -> str:
    """`event 12 (2026-11-29 21:28:34 UTC)`; without its time where the log is empty, or the event expired (a snapshot has it)."""
    try:
        entry = await log.at(sequence)
    except Refused:
        return f"event {sequence}"
    return f"event {sequence} ({when(entry.time_ns):%Y-%m-%d %H:%M:%S} UTC)"


async def _latest_now(bus: Bus) -> tuple[dict[str, Delivered], int]:
    snapshot, changed, head = await live(bus)
    return (await _of_snapshot(bus, snapshot) if snapshot else {}) | changed, head


async def _latest_then(bus: Bus, moment: str, end: int) -> dict[str, Delivered]:
    """Read the newest snapshot up to `end`, and the history after it; again where events expire meanwhile."""
    for _ in range(_TRIES):
        first: int = (await bus.stream())["state"]["first_seq"]
        base, covered = base_of(end, first, await sequences(bus))
        if base is None or end < 1:
            raise await _too_early(bus, moment, covered)
        try:
            return await _latest_since(bus, base, end)
        except (Trimmed, SnapshotLost) as error:
            lost = error
    raise lost


async def _latest_since(bus: Bus, base: int, end: int) -> dict[str, Delivered]:
    snapshot = await snapshot_at(bus, base) if base else None
    if base and not snapshot:
        raise SnapshotLost(f"the snapshot at {base} was dropped during the read")
    latest = await _of_snapshot(bus, snapshot) if snapshot else {}
    with progress("reading the history", base + 1, end) as advance:
        async for messages in history(bus, base + 1, end):
            latest |= {message.key: message for message in messages}
            advance(messages[-1].sequence)
    return latest


async def _of_snapshot(bus: Bus, snapshot: Snapshot) -> dict[str, Delivered]:
    latest: dict[str, Delivered] = {}
    with progress(f"reading the snapshot at {snapshot.sequence}", 0, snapshot.entities) as advance:
        async for messages in unread_of(bus, snapshot):
            latest |= {message.key: message for message in messages}
            advance(len(latest))
    return latest


async def _too_early(log: Bus | Recording, moment: str, covered: int | None) -> Unanswerable:
    """covered: the first sequence that is."""
    if covered is None:
        return Unanswerable(f"{moment} is before the first snapshot: until that is taken only the present can be shown")
    begin = "the log begins, at" if covered <= 1 else "the oldest moment that the log covers,"
    return Unanswerable(f"{moment} is before {begin} {await _named(log, max(1, covered))}")
