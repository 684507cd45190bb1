"""`weir log tail|show|stat`."""

import sys
from collections import Counter, deque
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec
import typer

from weir.bus.client import Bus
from weir.bus.reader import Entry, Refused
from weir.bus.snapshots import SNAPSHOTS, newest, sequences
from weir.cli.log.history import NotFound, Unanswerable, ask, clock, connect, entries, first_since, source, when, world_at
from weir.cli.log.tell import tell
from weir.cli.output import MACHINE, emit, emit_lines, emit_one, harmless, to_yaml
from weir.cli.show.get_log import endpoints_of_services
from weir.cli.show.service_names import is_named, named, services_of
from weir.decider import World
from weir.events import AnyEvent, EndpointDown, EndpointUp, tag_of, untoken
from weir.model import endpoint_name

DEFAULT_LINES = 20


class Filter(NamedTuple):
    """Which events are shown.  kinds: tags of events or kinds of entities; service: "namespace/name", or a name alone.  Empty: all.

    endpoints: names of the Service's own, so that what probes find of them is about it too.
    """

    kinds: Sequence[str] = ()
    service: str = ""
    endpoints: Container[str] = ()

    def __call__(self, entry: Entry) -> bool:
        event = entry.fact.event
        of_kind = not self.kinds or event.kind in self.kinds or tag_of(type(event)) in self.kinds
        return of_kind and (not self.service or self._is_about(event))

    def _is_about(self, event: AnyEvent) -> bool:
        if isinstance(event, EndpointDown | EndpointUp):
            return endpoint_name(event.address, event.port, event.protocol) in self.endpoints
        return any(is_named(service, self.service) for service in services_of(event))

    def of(self, world: World) -> "Filter":
        """The same, of the Service that `world` knows by this name.  Raises Unanswerable where the name may mean several."""
        service = named(world, self.service)
        return self._replace(service=service or self.service, endpoints=endpoints_of_services(world).get(service, ()))


def tail(instance: str, number: int | None, *, wanted: Filter, since: str, follow: bool, output: str, file: Path | None = None) -> None:
    """Print the last `number` events that are wanted (None: 20, or all since then), then new ones, with `follow`.  file: a recording."""

    async def question() -> None:
        async with source(instance, file) as log:
            head = (await log.stream())["state"]["last_seq"]
            most = number if number is not None else None if since else DEFAULT_LINES
            begin = await first_since(log, since) if since else 1 if any(wanted) else head - (most or 0) + 1
            wanted_now = wanted.of((await world_at(log, ""))[0]) if wanted.service else wanted
            found = deque([entry async for entry in entries(log, max(1, begin), kinds=_kinds(wanted)) if wanted_now(entry)], most)
            if wanted.service and not found:
                print(f"weir: no events about Service {wanted.service!r}", file=sys.stderr)
            if follow or output not in MACHINE:
                tell_all(found, output)
            else:
                emit([whole(entry) for entry in found], output)
            if follow and isinstance(log, Bus):
                await _follow(log, max(head, found[-1].fact.seq if found else 0), wanted_now, output)

    try:
        ask(instance, question())
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


async def _follow(bus: Bus, position: int, wanted: Filter, output: str) -> None:
    async with bus.follow(position) as pull:
        while True:
            tell_all([entry for entry in await pull.next() if wanted(entry)], output)


def _kinds(wanted: Filter) -> list[str]:
    """The entity kinds that hold every wanted event.  Raises Unanswerable for a word that names no event and no kind."""
    known = {tag_of(event): event.kind for event in get_args(AnyEvent)}
    if unknown := [word for word in wanted.kinds if word not in known and word not in known.values()]:
        raise Unanswerable(f"unknown kind {unknown[0]!r}: expected one of {', '.join(sorted({*known, *known.values()}))}")
    return sorted({known.get(word, word) for word in wanted.kinds})


def show(instance: str, sequence: int, output: str, file: Path | None = None) -> None:
    """One event with all that belongs to it."""

    async def question() -> Entry:
        async with source(instance, file) as log:
            try:
                return await log.at(sequence)
            except Refused as error:
                held = (await log.stream())["state"]
                raise NotFound(f"no event {sequence}: the log holds {held['first_seq']} to {held['last_seq']}") from error

    entry = ask(instance, question())
    emit_one(whole(entry), output if output in MACHINE else "yaml")


def stat(instance: str, output: str) -> None:
    """Sizes of the streams, and events per author and type."""

    async def question() -> None:
        async with await connect(instance) as bus:
            info, snapshots = await bus.stream(), await bus.stream(SNAPSHOTS)
            taken, last = await sequences(bus), await newest(bus)
            counts: Counter[tuple[str, str]] = Counter()
            sizes: Counter[tuple[str, str]] = Counter()
            async for entry in entries(bus, 1):
                where = (entry.key.partition(".")[0], tag_of(type(entry.fact.event)))
                counts[where] += 1
                sizes[where] += entry.size_bytes
            rows = [
                {"author": author, "type": kind, "events": n, "bytes": sizes[author, kind]} for (author, kind), n in sorted(counts.items())
            ]
            emit(rows, output)
            used, most = info["state"]["bytes"], info["config"]["max_bytes"]
            size = f"{info['state']['messages']} events, {used >> 10} of {most >> 10} KiB ({used * 100 // most} %)"
            kept = f"{len(taken)} snapshots, {snapshots['state']['bytes'] >> 10} KiB"
            newest_one = f", the newest at {last.sequence} with {last.entities} entities" if last else ""
            print(f"\n{size}; {kept}{newest_one}", file=sys.stderr)

    ask(instance, question())


def tell_all(found: Iterable[Entry], output: str) -> None:
    """One line for each event; a document for each in JSON and YAML."""
    for entry in found:
        if output in ("json", "jsonl"):
            emit_lines([whole(entry)])
        elif output == "yaml":
            print("---\n" + to_yaml(whole(entry)), end="", flush=True)
        else:
            event, cause = entry.fact.event, f"← {entry.cause}" if entry.cause else ""
            words = harmless(tell(event))
            print(f"{entry.fact.seq:>7} {cause:<9} {clock(entry.time_ns)}  {tag_of(type(event)):<22} {words}", flush=True)


def whole(entry: Entry) -> dict[str, object]:
    """An event as a program reads it."""
    return {
        "sequence": entry.fact.seq,
        "time": when(entry.time_ns).isoformat(timespec="microseconds"),
        "cause": entry.cause,
        "author": untoken(entry.key.split(".")[0].partition("-")[0]),
        "event": msgspec.to_builtins(entry.fact.event),
    }
