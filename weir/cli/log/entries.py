"""`weir log tail|show|stat`."""

import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import typer

from weir.bus.client import Bus
from weir.bus.reader import Entry
from weir.cli.ask import ask
from weir.cli.output import MACHINE, emit, emit_lines, emit_one, harmless, row_of, to_yaml
from weir.events import tag_of
from weir.view.events import Filter, HistoryView, event_at, in_full, size_of
from weir.view.history import connect, entries, source, world_at
from weir.view.moments import first_since
from weir.view.summary import summary
from weir.view.value import when

DEFAULT_LINES = 20


def tail(instance: str, number: int | None, *, wanted: Filter, since: str, follow: bool, output: str, file: Path | None = None) -> None:
    """Print the last `number` events that are wanted (None: 20, or all since then), then new ones, with `follow`.  file: a recording."""

    async def question() -> None:
        async with source(instance, file) as log:
            head = (await log.stream())["state"]["last_seq"]
            most = number if number is not None else None if since else DEFAULT_LINES
            begin = await first_since(log, since) if since else 1 if any(wanted) else head - (most or 0) + 1
            wanted_now = wanted.of((await world_at(log, ""))[0]) if wanted.service else wanted
            found = deque([entry async for entry in entries(log, max(1, begin), kinds=wanted.entity_kinds()) if wanted_now(entry)], most)
            if wanted.service and not found:
                print(f"weir: no events about Service {wanted.service!r}", file=sys.stderr)
            if follow or output not in MACHINE:
                show_all(found, output)
            else:
                emit([row_of(in_full(entry)) for entry in found], output)
            if follow and isinstance(log, Bus):
                await _follow(log, max(head, found[-1].fact.seq if found else 0), wanted_now, output)

    try:
        ask(instance, question())
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


async def _follow(bus: Bus, position: int, wanted: Filter, output: str) -> None:
    async with bus.follow(position) as pull:
        while True:
            show_all([entry for entry in await pull.next() if wanted(entry)], output)


def show(instance: str, sequence: int, output: str, file: Path | None = None) -> None:
    """Print one event in full."""

    async def question() -> Entry:
        async with source(instance, file) as log:
            return await event_at(log, sequence)

    entry = ask(instance, question())
    emit_one(row_of(in_full(entry)), output if output in MACHINE else "yaml")


def stat(instance: str, output: str) -> None:
    """Print the size of the history, and the events of each author and type."""

    async def question() -> HistoryView:
        async with await connect(instance) as bus:
            return await size_of(bus)

    found = ask(instance, question())
    emit([row_of(size) for size in found.sizes], output)
    used, most = found.used_bytes, found.most_bytes
    size = f"{found.events} events, {used >> 10} of {most >> 10} KiB ({used * 100 // most} %)"
    snapshots = f"{found.snapshots} snapshots, {found.snapshots_bytes >> 10} KiB"
    latest = f", the newest at {found.latest_snapshot} with {found.latest_entities} entities" if found.snapshots else ""
    print(f"\n{size}; {snapshots}{latest}", file=sys.stderr)


def show_all(found: Iterable[Entry], output: str) -> None:
    """Print a line for each event; in JSON and YAML a document."""
    for entry in found:
        if output in ("json", "jsonl"):
            emit_lines([row_of(in_full(entry))])
        elif output == "yaml":
            print("---\n" + to_yaml(row_of(in_full(entry))), end="", flush=True)
        else:
            print(_line(entry), flush=True)


def _line(entry: Entry) -> str:
    event, cause = entry.fact.event, f"← {entry.cause}" if entry.cause else ""
    return f"{entry.fact.seq:>7} {cause:<9} {_clock(entry.time_ns)}  {tag_of(type(event)):<22} {harmless(summary(event))}"


def _clock(time_ns: int) -> str:
    """Format month, day and time in UTC with milliseconds."""
    return when(time_ns).strftime("%m-%d %H:%M:%S.%f")[:-3]
