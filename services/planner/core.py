"""From everything known to what the kernel should hold: `plan_service`, a pure function of the world.

The plan is published as a difference from the last, so skipping states in between never changes the result.  A backend's
chunk follows from its address alone, never from history: one endpoint that flips rewrites one chunk.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from services.planner.backends import backends_of, chunk_count, chunk_of, is_asked
from services.planner.status import bare, status_of
from weir.decider import Change, Decided, Index, World
from weir.events import (
    AnyEvent,
    AppliedThrough,
    BackendsPlanned,
    BackendsWithdrawn,
    ClaimSettled,
    EndpointDown,
    EndpointSliceGone,
    EndpointSliceObserved,
    EndpointUp,
    FrontendPlanned,
    FrontendWithdrawn,
    ManifestAccepted,
    ManifestRejected,
    NodeSeen,
    ServiceGone,
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
)
from weir.model import MORE_REJECTED, Backend, Family, Root, ServicePort, endpoint_name, family_of

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
    NodeSeen,
)

Planned = FrontendPlanned | BackendsPlanned | StatusPlanned  # what is planned per Service


def _service_of(event: AnyEvent) -> Iterable[str]:
    """The Services that an observation or an allocation concerns."""
    match event:
        case EndpointSliceObserved(root=root, service=service):
            return (f"{root.namespace}/{service}",)
        case VipAllocated(services=services):
            return services
        case VipDenied(service=service):
            return (service,)
        case ManifestRejected(root=Root(kind="Service") as root):
            return (root.path,)
    return ()


def _object_of(event: AnyEvent) -> Iterable[str]:
    match event:
        case ManifestRejected(root=Root() as root):
            return (f"{root.kind}/{root.path}",)
    return ()


def _planned_for(event: AnyEvent) -> Iterable[str]:
    match event:
        case FrontendPlanned(root=root) | BackendsPlanned(root=root) | StatusPlanned(root=root):
            return (root.path,)
    return ()


def _down_backend(event: AnyEvent) -> Iterable[str]:
    match event:
        case EndpointDown(address=address, port=port, protocol=protocol):
            return (endpoint_name(address, port, protocol),)
    return ()


def _unprogrammed(event: AnyEvent) -> Iterable[str]:
    match event:
        case StatusPlanned(conditions=conditions) if any(c.type == "Programmed" and not c.status for c in conditions):
            return ("",)
    return ()


class Planner:
    """The core."""

    indexes: ClassVar[Mapping[str, Index]] = {
        "service": _service_of,
        "object": _object_of,
        "planned": _planned_for,
        "backend": endpoints_of,
        "down": _down_backend,
        "unprogrammed": _unprogrammed,
    }

    def decide(self, world: World, changes: Sequence[Change]) -> Iterable[Decided]:
        """The part of the plan that `changes` touch, as a difference from what is planned; each part once, by the last that touches it."""
        vips: dict[str, int] = {}
        services: dict[str, int] = {}
        for change in changes:
            seq, event = change.fact
            if isinstance(event, VipAllocated | VipReleased | VipFreed):
                vips[event.vip] = seq
            services |= dict.fromkeys(_touched(world, change), seq)
        for vip, cause in sorted(vips.items()):
            yield from (Decided(event, cause) for event in _plan_vip(world, vip))
        for service, cause in sorted(services.items()):
            yield from (Decided(event, cause) for event in _differences(world, service))

    def reconcile(self, world: World) -> Iterable[AnyEvent]:
        """The whole plan, as a difference from what is planned."""
        for vip in [*world.of(VipAllocated), *world.of(VipReleased)]:
            yield from _plan_vip(world, vip.vip)
        services = {observed.root.path for observed in world.of(ServiceObserved)}
        for service in sorted({*services, *world.words("planned")}):
            yield from _differences(world, service)


def plan(world: World) -> dict[str, AnyEvent]:
    """Everything the kernel of any node should hold, and every status, by entity key."""
    vips: list[VipAllocated | VipReleased] = [*world.of(VipAllocated), *world.of(VipReleased)]
    events = [_vip_entry(world, vip) for vip in vips]
    for observed in world.of(ServiceObserved):
        events += plan_service(world, observed.root.path)
    return dict(sorted((key_of(event), event) for event in events))


def plan_service(world: World, service: str) -> list[AnyEvent]:
    """The plan of one Service: frontends, chunks of backends, status.  Empty when it is not exposed, or ipam has yet to decide."""
    namespace, _, name = service.partition("/")
    observed = world.get(key("watcher", "service", namespace, name))
    if not isinstance(observed, ServiceObserved) or not observed.exposed:
        return []
    vips = sorted(vip.vip for vip in world.find("service", service, VipAllocated))
    if not vips and not world.find("service", service, VipDenied):
        return []  # ipam has not spoken: there is nothing to tell yet
    events: list[AnyEvent] = []
    found: list[Backend] = []
    families: set[Family] = {family_of(vip) for vip in vips} or {"IPv4", "IPv6"}
    for port in observed.ports:
        for family in sorted(families):
            backends = backends_of(world, observed, port, family, probed=bool(vips))
            found += backends
            if vips:
                events += _set(observed, port, family, backends, [vip for vip in vips if family_of(vip) == family])
    return [*events, status_of(world, observed, vips, events, found)]


def _set(observed: ServiceObserved, port: ServicePort, family: Family, backends: list[Backend], vips: list[str]) -> list[AnyEvent]:
    """One backend set in chunks, and its frontend on each VIP."""
    root, service = observed.root, observed.root.path
    name = f"{service}:{port.port}/{port.protocol}:{family}"
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
            service=service,
            backends=name,
            chunks=count,
            mode=observed.mode,
            algorithm=observed.algorithm,
            idle_timeout_s=observed.idle_timeout_s,
            sources=observed.source_ranges,
            no_backend=observed.no_backend,
            drain_timeout_s=observed.drain_timeout_s,
            probe=observed.probe if is_asked(observed, port) else None,
            root=root,
        )
        for vip in vips
    ]
    return [*planned, *frontends]


def _touched(world: World, change: Change) -> set[str]:
    """The Services whose plan may differ after `change`."""
    event, before = change.fact.event, change.before
    match event:
        case ServiceObserved(root=root) | ServiceGone(root=root):
            return {root.path}
        case EndpointDown() | EndpointUp():
            name = endpoint_name(event.address, event.port, event.protocol)
            return {chunk.root.path for chunk in world.find("backend", name, BackendsPlanned)}
        case VipReleased(services=services) | VipFreed(services=services):
            return set(services)
        case ClaimSettled(service=service):
            return {service}
        case AppliedThrough(seq=seq, rejected=rejected):
            of_before = before.rejected if isinstance(before, AppliedThrough) else ()
            if any(rejection.entity == MORE_REJECTED for rejection in (*rejected, *of_before)):
                return set(world.words("planned"))
            return _waiting(world, seq) | _rejected(world, {r.entity for r in (*rejected, *of_before)})
        case NodeSeen():
            return set(world.words("planned"))
        case ManifestRejected() | ManifestAccepted():
            return {service for each in (event, before) if each for service in _concerned(world, each)}
        case EndpointSliceObserved() | EndpointSliceGone() | VipAllocated() | VipDenied():
            return {*_service_of(event), *(_service_of(before) if before else ())}
    return set()


def _concerned(world: World, event: AnyEvent) -> Iterable[str]:
    """The Services whose owners should hear of a rejected manifest: of the Service itself, or of one of its slices."""
    match event:
        case ManifestRejected(root=Root(kind="EndpointSlice") as root):
            found = world.get(key("watcher", "endpointslice", root.namespace, root.name))
            return _service_of(found) if found else ()
    return _service_of(event)


def _waiting(world: World, seq: int) -> set[str]:
    """The Services not told to be programmed of which a node that holds the plan up to `seq` holds all."""
    waiting = world.find("unprogrammed", "", StatusPlanned)
    held = (status for status in waiting if all(_seq(world, key("planner", "planvip", "", vip)) <= seq for vip in status.vips))
    services = (status.root.path for status in held)
    return {service for service in services if all(world.seq(each) <= seq for each in world.find("planned", service, FrontendPlanned))}


def _seq(world: World, entity: str) -> int:
    fact = world.facts.get(entity)
    return fact.seq if fact else 0


def _rejected(world: World, entities: set[str]) -> set[str]:
    events = [world.get(entity) for entity in sorted(entities)]
    vips = [world.get(key("ipam", "vip", "", event.vip)) for event in events if isinstance(event, VipPlanned)]
    return {
        *(service for event in events if event for service in _planned_for(event)),
        *(service for vip in vips if isinstance(vip, VipAllocated) for service in vip.services),
    }


def _plan_vip(world: World, vip: str) -> list[AnyEvent]:
    event = world.get(key("ipam", "vip", "", vip))
    if not isinstance(event, VipAllocated | VipReleased):
        return []
    wanted = _vip_entry(world, event)
    return [] if _same(wanted, world.get(key_of(wanted))) else [wanted]


def _vip_entry(world: World, event: VipAllocated | VipReleased) -> AnyEvent:
    if isinstance(event, VipAllocated):
        return VipPlanned(vip=event.vip, root=event.root)
    return VipWithdrawn(vip=event.vip, release=world.seq(event), root=event.root)


def _differences(world: World, service: str) -> list[AnyEvent]:
    wanted = {key_of(event): event for event in plan_service(world, service)}
    held: list[Planned] = [
        *world.find("planned", service, FrontendPlanned),
        *world.find("planned", service, BackendsPlanned),
        *world.find("planned", service, StatusPlanned),
    ]
    planned = {key_of(event): event for event in held}
    changed = [event for where, event in sorted(wanted.items()) if not _same(event, planned.get(where))]
    return [*changed, *(_withdrawn(event) for where, event in sorted(planned.items()) if where not in wanted)]


def _same(wanted: AnyEvent, planned: AnyEvent | None) -> bool:
    """Whether both say the same; a root that only grew older does not count, or every edit would rewrite the whole plan."""
    return type(wanted) is type(planned) and bare(wanted) == bare(planned)


def _withdrawn(event: Planned) -> AnyEvent:
    match event:
        case FrontendPlanned(vip=vip, port=port, protocol=protocol, root=root):
            return FrontendWithdrawn(vip=vip, port=port, protocol=protocol, root=root)
        case BackendsPlanned(set=name, chunk=chunk, chunks=chunks, root=root):
            return BackendsWithdrawn(set=name, chunk=chunk, chunks=chunks, root=root)
        case StatusPlanned(service=service, root=root):
            return StatusWithdrawn(service=service, root=root)
