"""Take snapshots of the log when they are due, and drop those that are not needed any more.

A new snapshot is made from the one before and from what changed since, so nothing but the streams is needed for it.  WEIR_STATE is
trimmed up to the newest but one only: while the newest is being read, or were it ever damaged, the one before still gives the same.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import structlog

from weir.bus.client import Bus
from weir.bus.lines import line
from weir.bus.reader import Delivered, LogError
from weir.bus.snapshots import (
    SNAPSHOTS,
    Chunks,
    Snapshot,
    chunk_subject,
    end_subject,
    entries_of,
    lines_of,
    live,
    newest,
    place,
    sequences,
    snapshot_at,
)
from weir.bus.subjects import STATE
from weir.bus.times import seconds_of
from weir.events import is_gone
from weir.service.runner import Runner

LOOK_EVERY_S = 10.0
LEAST_EVENTS = 10_000  # behind a snapshot before the next is due
SHARE_OF_AGE = 32  # a snapshot is due once the history behind the last is that part of what it keeps
_NS = 1_000_000_000

log = structlog.get_logger()


def is_due(behind: int, grown: int, entities: int, since_s: float, age_s: float) -> bool:
    """Whether the next snapshot is due.

    behind: events since the last one, which holds `entities`; grown: those of the last LOOK_EVERY_S.   since_s: since it was taken, or
    since the first event.   age_s: how long the history is kept.   So a snapshot costs no more than the history that it shortens, it
    waits out a burst, as of a start, and only a small part of the history cannot be answered at its old end.
    """
    long = behind >= max(LEAST_EVENTS, entities // 2) and grown <= behind // 10
    return long or (behind > 0 and since_s >= age_s / SHARE_OF_AGE)


async def keep_snapshots(runner: Runner) -> None:
    """Take each snapshot when it is due, as the leader."""
    head = 0
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if not runner.following:
            continue
        try:
            async with await Bus.connect(runner.where.nats_url(), runner.author) as bus:
                info = await bus.stream()
                before, head = head, info["state"]["last_seq"]
                if due(info, await newest(bus), grown=head - before):
                    taken = await take(bus)
                    log.info("snapshot_taken", seq=taken.sequence, entities=taken.entities, size_bytes=taken.size_bytes)
                    await tidy(bus)
        except LogError as error:
            log.warning("snapshot_not_taken", reason=str(error))


def due(info: dict[str, Any], last: Snapshot | None, grown: int = 0) -> bool:
    """Whether the next snapshot is due now, by the clock of the log's server.

    info: of the log, as the server gives it.   last: the newest.   grown: see `is_due`.
    """
    state, now = info["state"], seconds_of(info["ts"])
    behind = state["last_seq"] - (last.sequence if last else 0)
    since = last.taken_s if last else int(seconds_of(state["first_ts"])) if state["messages"] else int(now)
    return is_due(behind, grown, last.entities if last else 0, now - since, info["config"]["max_age"] / _NS)


async def take(bus: Bus) -> Snapshot:
    """Store a snapshot as of now, and read it back.  Raises LogError."""
    before, changed, sequence = await live(bus)
    here, info = await place(bus), await bus.stream(SNAPSHOTS)
    first = last = info["state"]["last_seq"]
    counts: dict[str, int] = defaultdict(int)
    size_bytes = entities = 0
    async for kind, body, held in _chunks(bus, before, changed):
        last = await bus.store(chunk_subject(here, sequence, kind, counts[kind]), body, last)
        counts[kind] += 1
        size_bytes += len(body)
        entities += held
    snapshot = Snapshot(
        sequence=sequence,
        taken_s=int(seconds_of(info["ts"])),
        first=first + 1,
        chunks=dict(counts),
        entities=entities,
        size_bytes=size_bytes,
    )
    await bus.store(end_subject(here, sequence), msgspec.json.encode(snapshot, order="deterministic"), last)
    read = 0
    async for entries in entries_of(bus, snapshot):
        read += len(entries)
    if read != entities:
        raise LogError(f"snapshot {sequence} was stored with {entities} entities and gives {read}")
    return snapshot


async def tidy(bus: Bus) -> None:
    """Drop snapshots that the history does not reach back to, and events of WEIR_STATE that the two newest have."""
    found, first = await sequences(bus), (await bus.stream())["state"]["first_seq"]
    if len(found) < 2:
        return
    needed = next(seq for seq in found if seq >= first - 1 or seq in found[-2:])
    if oldest := await snapshot_at(bus, needed):
        await bus.api(f"STREAM.PURGE.{SNAPSHOTS}", {"seq": oldest.first})
    # Never beyond what the mirror has: it would go on behind the purge and skip what is between.
    mirrored: int = (await bus.stream(STATE))["state"]["last_seq"]
    await bus.api(f"STREAM.PURGE.{STATE}", {"seq": min(found[-2], mirrored) + 1})


async def _chunks(bus: Bus, before: Snapshot | None, changed: Mapping[str, Delivered]) -> AsyncIterator[tuple[str, bytes, int]]:
    """Kind, body and entities of each chunk: by kind what stands of the snapshot before, then what changed and is not gone."""
    by_kind: dict[str, list[Delivered]] = {kind: [] for kind in (before.chunks if before else ())}
    for message in sorted(changed.values(), key=lambda message: message.sequence):
        if not is_gone(message.body):
            by_kind.setdefault(message.key.split(".", 2)[1], []).append(message)
    for kind, news in sorted(by_kind.items()):
        chunks = Chunks()
        if before and kind in before.chunks:
            async for lines in lines_of(bus, before, kind):  # what did not change is stored again as it is
                for body, held in chunks.add(text for key, text in lines if key not in changed):
                    yield kind, body, held
        for body, held in (*chunks.add(map(line, news)), *chunks.flush()):
            yield kind, body, held
