"""`weir log tail|show|stat`."""

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
import typer

from weir.bus import STATE, Bus
from weir.cli.history import Unanswerable, ask, clock, connect, entries, source, when
from weir.cli.output import emit, harmless, to_yaml
from weir.cli.tell import tell
from weir.events import tag_of, untoken
from weir.reader import Entry, Refused


def tail(instance: str, number: int, *, follow: bool, output: str, file: Path | None = None) -> None:
    """The last `number` facts, then what comes, with `follow`.  file: of a recording, instead of the instance's log."""

    async def question() -> None:
        async with source(instance, file) as log:
            head = (await log.stream())["state"]["last_seq"]
            found = [entry async for entry in entries(log, max(1, head - number + 1))]
            tell_all(found, output)
            if follow and isinstance(log, Bus):
                await _follow(log, found[-1].fact.seq if found else head, output)

    try:
        ask(instance, question())
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


async def _follow(bus: Bus, position: int, output: str) -> None:
    async with bus.follow(position) as pull:
        while True:
            tell_all(await pull.next(), output)


def show(instance: str, sequence: int, output: str, file: Path | None = None) -> None:
    """One fact with all that belongs to it."""

    async def question() -> Entry:
        async with source(instance, file) as log:
            try:
                return await log.at(sequence)
            except Refused as error:
                held = (await log.stream())["state"]
                raise Unanswerable(f"the log holds no fact {sequence}, it has {held['first_seq']} to {held['last_seq']}") from error

    entry = ask(instance, question())
    if output == "json":
        emit([whole(entry)], output)
    else:
        print(to_yaml(whole(entry)), end="")


def stat(instance: str, output: str) -> None:
    """Sizes of the streams, and facts per author and type."""

    async def question() -> None:
        async with await connect(instance) as bus:
            info, state = await bus.stream(), await bus.stream(STATE)
            counts: Counter[tuple[str, str]] = Counter()
            sizes: Counter[tuple[str, str]] = Counter()
            async for entry in entries(bus, 1):
                where = (entry.key.partition(".")[0], tag_of(type(entry.fact.event)))
                counts[where] += 1
                sizes[where] += entry.size_bytes
            rows = [
                {"author": author, "type": kind, "facts": n, "bytes": sizes[author, kind]} for (author, kind), n in sorted(counts.items())
            ]
            emit(rows, output)
            used, most = info["state"]["bytes"], info["config"]["max_bytes"]
            size = f"{info['state']['messages']} facts, {used >> 10} of {most >> 10} KiB ({used * 100 // most} %)"
            print(f"\n{size}; today's state: {state['state']['messages']} entities", file=sys.stderr)

    ask(instance, question())


def tell_all(found: Iterable[Entry], output: str) -> None:
    """One line for each fact; a document for each in JSON and YAML."""
    for entry in found:
        if output == "json":
            print(msgspec.json.encode(whole(entry)).decode(), flush=True)
        elif output == "yaml":
            print("---\n" + to_yaml(whole(entry)), end="", flush=True)
        else:
            event, cause = entry.fact.event, f"← {entry.cause}" if entry.cause else ""
            words = harmless(tell(event))
            print(f"{entry.fact.seq:>7} {cause:<9} {clock(entry.time_ns)}  {tag_of(type(event)):<22} {words}", flush=True)


def whole(entry: Entry) -> dict[str, object]:
    """A fact as a program reads it."""
    return {
        "sequence": entry.fact.seq,
        "time": when(entry.time_ns).isoformat(timespec="microseconds"),
        "cause": entry.cause,
        "author": untoken(entry.key.split(".")[0].partition("-")[0]),
        "fact": msgspec.to_builtins(entry.fact.event),
    }
