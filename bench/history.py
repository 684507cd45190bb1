"""A long history: what a start, an append and a question about the past cost after millions of events, beside the first day.

Services come and go, as in a CI system, beside a thousand that stay; snapshots are taken as `ipam` takes them.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from bench.replay import connect, server
from bench.table import Row, Table
from weir.bus.appends import BATCH
from weir.bus.client import Bus
from weir.bus.snapshots import SNAPSHOTS, newest
from weir.bus.snapshotter import LEAST_EVENTS, due, take, tidy
from weir.bus.streams import ensure_streams
from weir.bus.subjects import STATE, STREAM
from weir.bus.writer import Writer
from weir.decider import Decided
from weir.events import AnyEvent, ServiceGone, ServiceObserved
from weir.model import Root, ServicePort
from weir.view.history import world_at

LIVE = 1000
GONE, EVENTS = 1_000_000, 5_000_000
SESSIONS, APPENDS = 20, 200
AUTHOR = "watcher"


def run(quick: bool) -> list[Table]:
    """The first day beside the last."""
    gone, events = (20_000, 60_000) if quick else (GONE, EVENTS)
    with tempfile.TemporaryDirectory(prefix="weir-bench-history-") as folder, server(Path(folder)) as url:
        return asyncio.run(_measure(url, gone, events))


async def _measure(url: str, gone: int, events: int) -> list[Table]:
    async with await connect(url) as bus:
        await ensure_streams(bus, max_bytes=16 << 30)
        rows: dict[str, dict[str, tuple[float, ...]]] = {}
        await _append(bus, _live(1))
        await take(bus)
        rows["1,000 Services"] = await _costs(bus)
        await _append(bus, _churn(gone))
        rows[f"and {gone:,} that came and went"] = await _costs(bus)
        held = (await bus.stream())["state"]["last_seq"]
        await _append(bus, _live((events - held) // LIVE))
        rows[f"and {events:,} events"] = await _costs(bus)
    names = next(iter(rows.values()))
    return [
        Table(title=what, unit=unit, less_is_better=True, rows=tuple(Row(label, costs[f"{what}|{unit}"]) for label, costs in rows.items()))
        for what, _, unit in (name.partition("|") for name in names)
    ]


def _live(turns: int) -> Iterator[AnyEvent]:
    for turn in range(turns):
        yield from (_service(f"web-{number}", turn) for number in range(LIVE))


def _churn(count: int) -> Iterator[AnyEvent]:
    for number in range(0, count, BATCH // 2):
        names = [f"run-{each:07}" for each in range(number, min(number + BATCH // 2, count))]
        yield from (_service(name, 1) for name in names)
        yield from (ServiceGone(root=Root(kind="Service", namespace="ci", name=name)) for name in names)


def _service(name: str, turn: int) -> AnyEvent:
    root = Root(kind="Service", namespace="ci", name=name, generation=turn, place=f"ci/{name}.yaml#1")
    return ServiceObserved(root=root, exposed=True, ports=(ServicePort(port=80, target=8080),))


async def _append(bus: Bus, events: Iterator[AnyEvent]) -> None:
    """With snapshots as often as they are due."""
    writer, last, appended = Writer(bus, AUTHOR), await bus.last(AUTHOR), 0
    while part := list(islice(events, BATCH)):
        last = await writer.append([Decided(event, 0) for event in part], last) + len(part) - 1
        appended += len(part)
        if appended % LEAST_EVENTS < BATCH and due(await bus.stream(), await newest(bus)):
            await take(bus)
            await tidy(bus)


async def _costs(bus: Bus) -> dict[str, tuple[float, ...]]:
    await _mirrored(bus)
    sizes = {name: (await bus.stream(name))["state"] for name in (STREAM, STATE, SNAPSHOTS)}
    head = sizes[STREAM]["last_seq"]
    starts = [await _start(bus) for _ in range(5)]
    asked = [await _ask(bus, random.Random(n).randint(1, head)) for n in range(10)]
    return {
        "history|MiB": (sizes[STREAM]["bytes"] / (1 << 20),),
        "snapshots|MiB": (sizes[SNAPSHOTS]["bytes"] / (1 << 20),),
        "mirror|subjects": (sizes[STATE].get("num_subjects", 0),),
        "start, state read|ms": tuple(starts),
        "first append of a session|ms": tuple([(await _appends(bus, 1))[0] for _ in range(SESSIONS)]),
        "append of one event|ms": (await _appends(bus, APPENDS + 1))[1:],
        "a moment, at random|ms": tuple(ms for ms, _ in asked),
        "a moment, read|KiB": tuple(size / 1024 for _, size in asked),
    }


async def _mirrored(bus: Bus) -> None:
    """The mirror is where the history is, and trimmed."""
    head = (await bus.stream())["state"]["last_seq"]
    while (await bus.stream(STATE))["state"]["last_seq"] < head:
        await asyncio.sleep(0.1)
    await tidy(bus)


async def _start(bus: Bus) -> float:
    begun_s = time.perf_counter()
    async for _ in bus.state():
        pass
    return (time.perf_counter() - begun_s) * 1000


async def _ask(bus: Bus, moment: int) -> tuple[float, int]:
    before, begun_s = received(bus), time.perf_counter()
    await world_at(bus, str(moment))
    return (time.perf_counter() - begun_s) * 1000, received(bus) - before


def received(bus: Bus) -> int:
    """Bytes that came over this connection."""
    return int(bus._nc.stats["in_bytes"])


async def _appends(bus: Bus, count: int) -> tuple[float, ...]:
    """Of one session, from the first on."""
    writer, last, took = Writer(bus, AUTHOR), await bus.last(AUTHOR), []
    for _ in range(count):
        begun_s = time.perf_counter()
        last = await writer.append([Decided(_service("web-0", 0), 0)], last)
        took.append((time.perf_counter() - begun_s) * 1000)
    return tuple(took)
