"""`weir log why`: the chain of causes that led to what is now, oldest first, on one screen."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from weir.bus.client import Bus
from weir.bus.reader import Delivered, Entry, Refused, read
from weir.cli.log.entries import tell_all, whole
from weir.cli.log.history import NotFound, ask, entries, latest_at, source, world_of
from weir.cli.log.recording import Recording
from weir.cli.output import MACHINE, emit
from weir.cli.show.service_names import named
from weir.decider import World
from weir.events import (
    AnyEvent,
    AppliedThrough,
    BackendsPlanned,
    EndpointDown,
    EndpointSliceGone,
    EndpointSliceObserved,
    EndpointUp,
    FrontendPlanned,
    FrontendWithdrawn,
    ManifestAccepted,
    ManifestRejected,
    ServiceObserved,
    VipAllocated,
    VipFreed,
    VipPlanned,
    VipReleased,
    VipWithdrawn,
)
from weir.model import (
    Endpoint,
    endpoint_name,
    shown,
)

LINES_MOST, FIRST = 24, 6  # of a longer chain the first and the latest are shown
LOOK_BACK = 20_000  # events of history searched for what turned or is gone


def why(instance: str, subject: str, at: str, output: str, file: Path | None = None) -> None:
    """Print the chain behind a VIP, Service, backend address or sequence, now or at a moment.  file: a recording, instead of the log."""

    async def question() -> list[Entry]:
        async with source(instance, file) as log:
            if subject.isdecimal():
                found = await _chain(log, [int(subject)], {})
            else:
                latest, head = await latest_at(log, at)
                found = await _behind(log, world_of(latest.values()), latest, head, subject)
            if not found:
                expected = "a VIP, namespace/service, backend address or sequence"
                raise NotFound(f"no events found for {subject!r}; expected {expected}")
            return found

    found = ask(instance, question())
    if output in MACHINE:
        emit([whole(entry) for entry in found], output)
    elif len(found) <= LINES_MOST:
        tell_all(found, output)
    else:
        tell_all(found[:FIRST], output)
        print(f"{'…':>7} {len(found) - LINES_MOST} more, all with -o json")
        tell_all(found[FIRST - LINES_MOST :], output)


async def _behind(log: Bus | Recording, world: World, latest: Mapping[str, Delivered], head: int, subject: str) -> list[Entry]:
    """The chain of what is known by a name now, or else was."""
    about = list(_about(world, subject))
    if not about and (service := named(world, subject)):
        subject = service
        about = list(_about(world, subject))
    found = [world.seq(event) for event in about] + await _turns(log, subject, head)
    if not found or _is_gone(subject, about):
        found += await _past(log, subject, head)
    return await _chain(log, found, latest)


def _about(world: World, subject: str) -> Iterable[AnyEvent]:
    """Today's events that name `subject`, and those that what they name rests on; also why a backend of it is down."""
    names = {subject}
    for allocated in world.of(VipAllocated):
        if subject in (held := _words_of(allocated)):
            names |= held
    about = [fact.event for _, fact in sorted(world.facts.items()) if _names(fact.event) & names]
    backends = [backend for event in about if isinstance(event, BackendsPlanned) for backend in event.backends]
    down = {backend.address for backend in backends if backend.down_on}
    return [*about, *(event for event in world.of(EndpointDown) if event.address in down)]


def _is_gone(subject: str, about: Iterable[AnyEvent]) -> bool:
    """Whether it was a Service, of which something is left: what it shared."""
    roots = [(event, root) for event in about if (root := getattr(event, "root", None))]
    named = [event for event, root in roots if root.kind == "Service" and root.path == subject]
    return bool(named) and not any(isinstance(event, ServiceObserved) for event in named)


def _names(event: AnyEvent) -> set[str]:
    """What an event is found under: its object, Services, VIPs, backends with and without their port."""
    root = getattr(event, "root", None)
    return _words_of(event) | ({root.path} if root else set())


def _words_of(event: AnyEvent) -> set[str]:
    match event:
        case EndpointSliceObserved():
            return {shown(event.owner), *(endpoint.address for endpoint in event.endpoints)}
        case ManifestRejected():
            return {event.source, shown(event.owner)} - {""}
        case ManifestAccepted():
            return {event.source}
        case VipAllocated() | VipReleased() | VipFreed():
            return {event.vip, *map(shown, event.holders)}
        case VipPlanned() | VipWithdrawn():
            return {event.vip}
        case FrontendPlanned() | FrontendWithdrawn():
            return _words(event.vip, event.port, event.protocol)
        case BackendsPlanned(backends=backends, protocol=protocol):
            return {word for b in backends for word in _words(b.address, b.port, protocol)}
        case EndpointDown() | EndpointUp():
            return _words(event.address, event.port, event.protocol)
        case AppliedThrough():
            return {event.node}
    return set()


def _words(address: str, port: int, protocol: str) -> set[str]:
    full = endpoint_name(address, port, protocol)
    return {address, full, full.partition("/")[0]}


async def _turns(log: Bus | Recording, subject: str, head: int) -> list[int]:
    """Where a backend called `subject` went down, came back, was listed or left, and what the plan made of it: the latest few."""
    found: list[int] = []
    turned: set[int] = set()
    listed: dict[str, list[Endpoint]] = {}  # as each slice last spoke of it
    address = _host(subject)
    async for entry in entries(log, max(1, head - LOOK_BACK), head, kinds=("endpoint", "endpointslice", "backends", "applied")):
        sequence, event = entry.fact[:2]
        turns = isinstance(event, EndpointDown | EndpointUp) and subject in _names(event)
        if isinstance(event, EndpointSliceObserved | EndpointSliceGone):
            before = listed.get(entry.key, [])
            listed[entry.key] = [endpoint for endpoint in getattr(event, "endpoints", ()) if endpoint.address == address]
            turns = listed[entry.key] != before
        if turns:
            turned.add(sequence)
        if turns or entry.cause in turned or (isinstance(event, AppliedThrough) and entry.cause in found):
            found.append(sequence)
    return found[-LINES_MOST // 2 :]


async def _past(log: Bus | Recording, subject: str, head: int) -> list[int]:
    """The last events that name `subject`, each of an entity that is gone."""
    last = {
        entry.key: entry.fact.seq async for entry in entries(log, max(1, head - LOOK_BACK), head) if subject in _names(entry.fact.event)
    }
    return sorted(last.values())


def _host(subject: str) -> str:
    """The address in `10.0.0.1`, `10.0.0.1:80`, `[fd00::1]:80/TCP`, fd00::1; what is none matches none."""
    if subject.startswith("["):
        return subject[1:].partition("]")[0]
    return subject.partition(":")[0] if subject.count(":") == 1 else subject


async def _chain(log: Bus | Recording, sequences: list[int], latest: Mapping[str, Delivered]) -> list[Entry]:
    """The events at `sequences` and all their causes, by sequence.  Of those that expired, the last of each entity are in `latest`."""
    kept = {message.sequence: message for message in latest.values()}
    found: dict[int, Entry] = {}
    asked = [seq for seq in sequences if seq]
    while asked:
        sequence = asked.pop()
        if sequence in found:
            continue
        try:
            found[sequence] = await log.at(sequence)
        except Refused:
            if sequence not in kept:
                continue
            found[sequence] = read(kept[sequence])
        if found[sequence].cause:
            asked.append(found[sequence].cause)
    return [found[sequence] for sequence in sorted(found)]
