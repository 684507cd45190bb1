"""From everything known to what the kernel should hold: `plan_service`, a pure function of the world.

The plan is published as a difference from the last, so skipping states in between never changes the result.  A backend's
chunk follows from its address alone, never from history: one endpoint that flips rewrites one chunk.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from services.planner.l4.backends import backends_of, chunk_count, chunk_of, is_asked
from services.planner.l4.nodes import is_local
from services.planner.l4.ports import other_holder
from services.planner.l4.status import leaves, refused, same, status_of, vip_planned
from services.planner.l4.touched import INDEXES, touched
from weir.decider import Change, Decided, Index, World
from weir.events import (
    AnyEvent,
    AppliedThrough,
    BackendsPlanned,
    BackendsWithdrawn,
    EndpointDown,
    EndpointSliceObserved,
    EndpointUp,
    FrontendPlanned,
    FrontendWithdrawn,
    ManifestRejected,
    NodeObserved,
    ServiceObserved,
    StatusPlanned,
    StatusWithdrawn,
    VipAllocated,
    VipDenied,
    VipFreed,
    VipPlanned,
    VipReleased,
    VipWithdrawn,
    endpoints_of,
    key,
    key_of,
    object_key,
)
from weir.lbnodes import ABOUT_NODES
from weir.model import Backend, BackendSet, Family, ServicePort, family_of

HEARS = (
    ServiceObserved,
    EndpointSliceObserved,
    ManifestRejected,
    VipAllocated,
    VipDenied,
    VipPlanned,
    FrontendPlanned,
    BackendsPlanned,
    StatusPlanned,
    EndpointDown,
    AppliedThrough,
    NodeObserved,
    *ABOUT_NODES,
)

MODE_ASKED = "weir.dev/lbmode"
Planned = FrontendPlanned | BackendsPlanned | StatusPlanned  # what is planned per Service


class Planner:
    """The core."""

    indexes: ClassVar[Mapping[str, Index]] = INDEXES

    def decide(self, world: World, changes: Sequence[Change]) -> Iterable[Decided]:
        """The part of the plan that `changes` touch, as a difference from what is planned; each part once, by the last that touches it.

        What a node holds changes what is reported of a Service and never what is planned for it, so it is the cause of a status only.
        """
        vips: dict[str, int] = {}
        services: dict[str, int] = {}
        causes: dict[tuple[str, str], int] = {}  # Service and scope -> the last change of what is planned in that scope
        for change in changes:
            seq, event = change.fact[:2]
            if isinstance(event, VipAllocated | VipReleased | VipFreed):
                vips[event.vip] = seq
            found = touched(world, change)
            services |= dict.fromkeys(found, seq)
            if not isinstance(event, AppliedThrough):
                causes |= {(service, scope): seq for service in found for scope in _scopes(event)}
        for service, cause in sorted(services.items()):
            for event in _differences(world, service):
                yield Decided(event, max((causes.get((service, scope), 0) for scope in _causes(event)), default=0) or cause)
        for vip, cause in sorted(vips.items()):  # last: who confirms that a VIP is withdrawn confirms that of its frontends, too
            yield from (Decided(event, cause) for event in _plan_vip(world, vip))

    def reconcile(self, world: World) -> Iterable[Decided]:
        """The whole plan, as a difference from what is planned."""
        for service in sorted({*_services(world), *world.words("planned")}):
            yield from (Decided(event, _because(world, service, event)) for event in _differences(world, service))
        for vip in [*world.of(VipAllocated), *world.of(VipReleased)]:
            yield from (Decided(event, world.seq(vip)) for event in _plan_vip(world, vip.vip))


def _scopes(event: AnyEvent) -> tuple[str, ...]:
    """Which parts of a Service's plan `event` can change: those of a VIP, of a family, or all ("")."""
    match event:
        case VipAllocated(vip=vip) | VipReleased(vip=vip) | VipFreed(vip=vip):
            return vip, f"VIP of {family_of(vip)}"
        case EndpointSliceObserved(family=family):
            return (family,)
        case EndpointDown(address=address) | EndpointUp(address=address):
            return (family_of(address),)
    return ("",)


def _causes(part: AnyEvent) -> tuple[str, ...]:
    """The scopes that a part of the plan is in; a status is in none, and follows from the last change of any."""
    match part:
        case FrontendPlanned(vip=vip) | FrontendWithdrawn(vip=vip):
            return "", family_of(vip), vip
        case BackendsPlanned(set=name) | BackendsWithdrawn(set=name):
            family = name.rpartition(":")[2]
            return "", family, f"VIP of {family}"
    return ()


def _because(world: World, service: str, part: AnyEvent) -> int:
    """The sequence of the newest event that a part of the Service's plan rests on."""
    observed = world.listed("service", service)
    scopes = {*_causes(part)} or {scope for event in observed.values() for scope in _scopes(event)}
    keys = [where for where, event in observed.items() if scopes & {*_scopes(event)}]
    down = [where for backend in endpoints_of(part) for where in world.listed("down", backend)]
    return world.newest([object_key(service), *keys, *down])


def plan(world: World) -> dict[str, AnyEvent]:
    """Everything the kernel of any node should hold, and every status, by entity key."""
    vips: list[VipAllocated | VipReleased] = [*world.of(VipAllocated), *world.of(VipReleased)]
    events = [_vip_entry(world, vip) for vip in vips]
    for service in sorted(_services(world)):
        events += plan_service(world, service)
    return dict(sorted((key_of(event), event) for event in events))


def _services(world: World) -> set[str]:
    """All that were read, and those that could not be."""
    refusals = (event.root for event in world.of(ManifestRejected) if event.root and event.root.kind == "Service")
    return {*(observed.root.owner for observed in world.of(ServiceObserved)), *(root.owner for root in refusals)}


def plan_service(world: World, service: str) -> list[AnyEvent]:
    """The plan of one Service: frontends, chunks of backends, status.  Empty when it is not exposed, or ipam has yet to decide."""
    observed = world.get(object_key(service))
    if observed is None:
        return refused(world, service)
    if not isinstance(observed, ServiceObserved) or not observed.exposed:
        return []
    vips = sorted(vip.vip for vip in world.find("service", service, VipAllocated))
    if not vips and not world.find("service", service, VipDenied):
        return []  # ipam has not spoken: there is nothing to tell yet
    events: list[AnyEvent] = []
    sets: dict[str, list[Backend]] = {}
    local = is_local(world, observed)
    families: set[Family] = {family_of(vip) for vip in vips} or {"IPv4", "IPv6"}
    for port in observed.ports:
        for family in sorted(families):
            backends = backends_of(world, observed, port, family, probed=bool(vips))
            sets[f"{port.port}/{port.protocol} over {family}"] = backends
            if vips:
                ours = [vip for vip in vips if family_of(vip) == family and not other_holder(world, observed, vip, port)]
                events += _set(observed, port, family, backends, ours, local=local)
    return [*events, status_of(world, observed, vips, events, sets)]


def _set(
    observed: ServiceObserved, port: ServicePort, family: Family, backends: list[Backend], vips: list[str], *, local: bool
) -> list[AnyEvent]:
    """One backend set in chunks, and its frontend on each VIP."""
    root, service = observed.root, observed.root.owner
    name = f"{root.path}:{port.port}/{port.protocol}:{family}"
    chunks: dict[int, list[Backend]] = {}
    count = chunk_count(len(backends))
    for backend in backends:
        chunks.setdefault(chunk_of(backend, count), []).append(backend)
    planned: list[AnyEvent] = [
        BackendsPlanned(set=name, chunk=chunk, chunks=count, protocol=port.protocol, backends=tuple(members), root=root)
        for chunk, members in sorted(chunks.items())
    ]
    frontends = [
        FrontendPlanned(
            vip=vip,
            port=port.port,
            protocol=port.protocol,
            owner=service,
            sets=(BackendSet(name=name, chunks=count),),
            mode="default" if local and MODE_ASKED not in observed.annotations else observed.mode,  # its replies come back through it
            algorithm=observed.algorithm,
            idle_timeout_s=observed.idle_timeout_s,
            sources=observed.source_ranges,
            no_backend=observed.no_backend,
            drain_timeout_s=observed.drain_timeout_s,
            affinity_s=observed.affinity_s,
            local=local,
            health_port=observed.health_port if local else 0,
            probe=observed.probe if is_asked(observed, port) else None,
            root=root,
        )
        for vip in vips
    ]
    return [*planned, *frontends]


def _plan_vip(world: World, vip: str) -> list[AnyEvent]:
    event = world.get(key("ipam", "vip", "", vip))
    if not isinstance(event, VipAllocated | VipReleased):
        return []
    wanted = _vip_entry(world, event)
    return [] if same(wanted, world.get(key_of(wanted))) else [wanted]


def _vip_entry(world: World, event: VipAllocated | VipReleased) -> AnyEvent:
    if isinstance(event, VipAllocated):
        return vip_planned(event)
    return VipWithdrawn(vip=event.vip, release=world.seq(event), root=event.root)


def _differences(world: World, service: str) -> list[AnyEvent]:
    """New chunks before the frontends that refer to them, and the chunks of a set that was cut anew behind them.

    What forwards no more is withdrawn before the frontends, which are stated once more then: who confirms them confirms that, too.
    """
    wanted = {key_of(event): event for event in plan_service(world, service)}
    planned = {where: event for where, event in world.listed("planned", service).items() if isinstance(event, Planned)}
    sets = {(part.name, part.chunks) for event in wanted.values() if isinstance(event, FrontendPlanned) for part in event.sets}
    left = [event for where, event in sorted(planned.items()) if where not in wanted]
    early = [event for event in left if not isinstance(event, BackendsPlanned) or (event.set, event.chunks) in sets]
    again = FrontendPlanned if leaves(world, service, wanted) else ()
    changed = [event for where, event in sorted(wanted.items()) if isinstance(event, again) or not same(event, planned.get(where))]
    chunks = [event for event in changed if isinstance(event, BackendsPlanned)]
    late = [event for event in left if event not in early]
    return [*chunks, *map(_withdrawn, early), *changed[len(chunks) :], *map(_withdrawn, late)]


def _withdrawn(event: Planned) -> AnyEvent:
    match event:
        case FrontendPlanned(vip=vip, port=port, protocol=protocol, root=root):
            return FrontendWithdrawn(vip=vip, port=port, protocol=protocol, root=root)
        case BackendsPlanned(set=name, chunk=chunk, chunks=chunks, root=root):
            return BackendsWithdrawn(set=name, chunk=chunk, chunks=chunks, root=root)
        case StatusPlanned(owner=service, root=root):
            return StatusWithdrawn(owner=service, root=root)
