"""`weir log why`: the chain of causes that led to what is now, oldest first, on one screen."""

from collections.abc import Iterable

from weir.bus import Bus, Entry, Refused
from weir.cli.history import ask, clock, connect, world_at
from weir.cli.log import tag, whole
from weir.cli.output import emit, harmless, paint
from weir.cli.tell import tell
from weir.decider import World
from weir.events import (
    AnyEvent,
    AppliedThrough,
    BackendsPlanned,
    EndpointDown,
    EndpointSliceObserved,
    EndpointUp,
    FrontendPlanned,
    ManifestRejected,
    ServiceObserved,
    StatusPlanned,
    VipAllocated,
    VipDenied,
    VipPlanned,
    VipReleased,
    VipWithdrawn,
)
from weir.model import endpoint_name

LINES_MOST = 24
LOOK_BACK = 20_000  # facts of history searched for a backend that turned


def why(instance: str, subject: str, output: str) -> None:
    """Prints the chain behind a VIP, Service, backend address or sequence."""

    async def question() -> list[Entry]:
        async with await connect(instance) as bus:
            if subject.isdigit():
                return await _chain(bus, [int(subject)])
            world, head = await world_at(bus, "")
            sequences = [world.seq(event) for event in _about(world, subject)]
            return await _chain(bus, [*sequences, *await _turns(bus, subject, head)])

    found = ask(instance, question())
    if not found:
        raise SystemExit(f"weir: the log says nothing of {subject!r}; expected a VIP, namespace/service, backend address or sequence")
    if output in ("json", "yaml"):
        emit([whole(entry) for entry in found], output)
        return
    for entry in found[-LINES_MOST:]:
        what = f"{tag(entry.fact.event):<22} {harmless(tell(entry.fact.event))}"
        print(f"{entry.fact.seq:>7}  {clock(entry.time_ns)}  {_source(entry):<10} {what}")
        if entry.cause:
            print(paint(f"         because of {entry.cause}", "dim"))


def _about(world: World, subject: str) -> Iterable[AnyEvent]:
    """Today's facts that name `subject`, and those that what they name rests on."""
    names = {subject}
    for allocated in world.of(VipAllocated):
        if subject in (allocated.vip, *allocated.services):
            names |= {allocated.vip, *allocated.services}
    return [fact.event for _, fact in sorted(world.facts.items()) if _names(fact.event) & names]


def _names(event: AnyEvent) -> set[str]:
    """What an event is found under: Services, VIPs, backends with and without their port."""
    match event:
        case ServiceObserved(root=root):
            return {f"{root.namespace}/{root.name}"}
        case EndpointSliceObserved(root=root, service=service):
            return {f"{root.namespace}/{service}", f"{root.namespace}/{root.name}", *(endpoint.address for endpoint in event.endpoints)}
        case ManifestRejected(root=root) if root:
            return {f"{root.namespace}/{root.name}", event.source}
        case VipAllocated() | VipReleased():
            return {event.vip, *event.services}
        case VipDenied() | StatusPlanned():
            return {event.service}
        case VipPlanned() | VipWithdrawn():
            return {event.vip}
        case FrontendPlanned():
            return {event.vip, event.service, endpoint_name(event.vip, event.port, event.protocol)}
        case BackendsPlanned(root=root, backends=backends, protocol=protocol):
            addresses = {word for b in backends for word in _words(b.address, b.port, protocol)}
            return {f"{root.namespace}/{root.name}", *addresses}
        case EndpointDown() | EndpointUp():
            return _words(event.address, event.port, event.protocol)
        case AppliedThrough():
            return {event.node}
    return set()


def _words(address: str, port: int, protocol: str) -> set[str]:
    full = endpoint_name(address, port, protocol)
    return {address, full, full.partition("/")[0]}


async def _turns(bus: Bus, subject: str, head: int) -> list[int]:
    """Where a backend called `subject` went down or came back, and what the plan made of it: the latest few."""
    found: list[int] = []
    turned: set[int] = set()
    async with bus.follow(max(0, head - LOOK_BACK), ("endpoint", "backends", "applied")) as pull:
        while pull.pending:
            for entry in await pull.next():
                if isinstance(entry.fact.event, EndpointDown | EndpointUp) and subject in _names(entry.fact.event):
                    turned.add(entry.fact.seq)
                    found.append(entry.fact.seq)
                elif entry.cause in turned or (isinstance(entry.fact.event, AppliedThrough) and entry.cause in found):
                    found.append(entry.fact.seq)
    return found[-LINES_MOST // 2 :]


async def _chain(bus: Bus, sequences: list[int]) -> list[Entry]:
    """The facts at `sequences` and all their causes, by sequence; what the history has dropped is left out."""
    found: dict[int, Entry] = {}
    asked = [seq for seq in sequences if seq]
    while asked:
        sequence = asked.pop()
        if sequence in found:
            continue
        try:
            found[sequence] = await bus.at(sequence)
        except Refused:
            continue
        if found[sequence].cause:
            asked.append(found[sequence].cause)
    return [found[sequence] for sequence in sorted(found)]


def _source(entry: Entry) -> str:
    return entry.key.split(".")[0]
