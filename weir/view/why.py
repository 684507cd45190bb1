"""Why: the chain of causes behind a VIP, Service, backend or event, oldest first."""

from collections.abc import Iterable, Mapping

from weir.bus.client import Bus
from weir.bus.reader import Delivered, Entry, Refused, read
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
from weir.view.errors import NotFound
from weir.view.history import entries, latest_at, world_of
from weir.view.names import named
from weir.view.recording import Recording

LATEST = 12  # changes of a backend that are shown
LOOK_BACK = 20_000  # events of history that are searched for changes of a backend, and for what is gone


async def why(log: Bus | Recording, subject: str, at: str = "") -> list[Entry]:
    """Return the chain behind a VIP, Service, backend address or sequence, now or at a moment.  Raises NotFound."""
    if subject.isdecimal():
        found = await _chain(log, [int(subject)], {})
    else:
        latest, head = await latest_at(log, at)
        found = await _behind(log, world_of(latest.values()), latest, head, subject)
    if not found:
        expected = "a VIP, namespace/service, Kind/namespace/name, backend address or sequence"
        raise NotFound(f"no events found for {subject!r}; expected {expected}")
    return found


async def _behind(log: Bus | Recording, world: World, latest: Mapping[str, Delivered], head: int, subject: str) -> list[Entry]:
    """Return the chain of what has this name now, or had it."""
    about = list(_about(world, subject))
    if not about and (service := named(world, subject)):
        subject = service
        about = list(_about(world, subject))
    found = [world.seq(event) for event in about] + await _changes_of_backend(log, subject, head)
    if not found or _is_gone(subject, about):
        found += await _past(log, subject, head)
    return await _chain(log, found, latest)


def _about(world: World, subject: str) -> Iterable[AnyEvent]:
    """Yield the current events that name `subject`, those that share its VIP, and why a backend of it is down."""
    names = {subject}
    for allocated in world.of(VipAllocated):
        if subject in (held := _names_in(allocated)):
            names |= held
    about = [fact.event for _, fact in sorted(world.facts.items()) if names_of(fact.event) & names]
    backends = [backend for event in about if isinstance(event, BackendsPlanned) for backend in event.backends]
    down = {backend.address for backend in backends if backend.down_on}
    return [*about, *(event for event in world.of(EndpointDown) if event.address in down)]


def _is_gone(subject: str, about: Iterable[AnyEvent]) -> bool:
    """Whether it was a Service of which only what it shared is left."""
    roots = [(event, root) for event in about if (root := getattr(event, "root", None))]
    named = [event for event, root in roots if root.kind == "Service" and root.path == subject]
    return bool(named) and not any(isinstance(event, ServiceObserved) for event in named)


def names_of(event: AnyEvent) -> set[str]:
    """Return the names an event is found by: its object with and without its kind, Services, VIPs, backends with and without their port."""
    root = getattr(event, "root", None)
    return _names_in(event) | ({root.path, f"{root.kind}/{root.path}"} if root else set())


def _names_in(event: AnyEvent) -> set[str]:
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
            return _endpoint_names(event.vip, event.port, event.protocol)
        case BackendsPlanned(backends=backends, protocol=protocol):
            return {word for b in backends for word in _endpoint_names(b.address, b.port, protocol)}
        case EndpointDown() | EndpointUp():
            return _endpoint_names(event.address, event.port, event.protocol)
        case AppliedThrough():
            return {event.node}
    return set()


def _endpoint_names(address: str, port: int, protocol: str) -> set[str]:
    full = endpoint_name(address, port, protocol)
    return {address, full, full.partition("/")[0]}


async def _changes_of_backend(log: Bus | Recording, subject: str, head: int) -> list[int]:
    """Find the last times a backend went down, came up, was listed or left, and what was planned and applied then."""
    found: list[int] = []
    causes: set[int] = set()
    listed: dict[str, list[Endpoint]] = {}  # by slice
    address = _host(subject)
    async for entry in entries(log, max(1, head - LOOK_BACK), head, kinds=("endpoint", "endpointslice", "backends", "applied")):
        sequence, event = entry.fact[:2]
        changed = isinstance(event, EndpointDown | EndpointUp) and subject in names_of(event)
        if isinstance(event, EndpointSliceObserved | EndpointSliceGone):
            before = listed.get(entry.key, [])
            listed[entry.key] = [endpoint for endpoint in getattr(event, "endpoints", ()) if endpoint.address == address]
            changed = listed[entry.key] != before
        if changed:
            causes.add(sequence)
        if changed or entry.cause in causes or (isinstance(event, AppliedThrough) and entry.cause in found):
            found.append(sequence)
    return found[-LATEST:]


async def _past(log: Bus | Recording, subject: str, head: int) -> list[int]:
    """Find the last event about each entity that named `subject` and is gone."""
    last = {
        entry.key: entry.fact.seq async for entry in entries(log, max(1, head - LOOK_BACK), head) if subject in names_of(entry.fact.event)
    }
    return sorted(last.values())


def _host(subject: str) -> str:
    """Return the address in `10.0.0.1`, `10.0.0.1:80`, `[fd00::1]:80/TCP` or `fd00::1`; other text matches no endpoint."""
    if subject.startswith("["):
        return subject[1:].partition("]")[0]
    return subject.partition(":")[0] if subject.count(":") == 1 else subject


async def _chain(log: Bus | Recording, sequences: list[int], latest: Mapping[str, Delivered]) -> list[Entry]:
    """Return the events at `sequences` and all their causes, by sequence.  latest: of expired events, the last of each entity."""
    kept = {message.sequence: message for message in latest.values()}
    found: dict[int, Entry] = {}
    pending = [seq for seq in sequences if seq]
    while pending:
        sequence = pending.pop()
        if sequence in found:
            continue
        try:
            found[sequence] = await log.at(sequence)
        except Refused:
            if sequence not in kept:
                continue
            found[sequence] = read(kept[sequence])
        if found[sequence].cause:
            pending.append(found[sequence].cause)
    return [found[sequence] for sequence in sorted(found)]
