"""Under which words facts are found, and whose plan may differ after a change: so that one endpoint costs one Service."""

from collections.abc import Iterable, Mapping

from weir.decider import Change, Index, World
from weir.events import (
    AnyEvent,
    AppliedThrough,
    BackendsPlanned,
    ClaimSettled,
    EndpointDown,
    EndpointSliceGone,
    EndpointSliceObserved,
    EndpointUp,
    FrontendPlanned,
    ManifestAccepted,
    ManifestRejected,
    NodeGone,
    NodeLeft,
    NodeObserved,
    NodeSeen,
    ServiceGone,
    ServiceObserved,
    StatusPlanned,
    VipAllocated,
    VipDenied,
    VipFreed,
    VipPlanned,
    VipReleased,
    endpoints_of,
    key,
)
from weir.model import MORE_REJECTED, Root, cluster_of, endpoint_name


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
        case ManifestRejected(service=service) if service:
            return (service,)
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


def _by_nodes(event: AnyEvent) -> Iterable[str]:
    """The cluster whose nodes decide on a Service's backends."""
    match event:
        case ServiceObserved(targets="nodes", root=root) | ServiceObserved(local=True, root=root):
            return (cluster_of(root.namespace),)
    return ()


INDEXES: Mapping[str, Index] = {
    "service": _service_of,
    "planned": _planned_for,
    "backend": endpoints_of,
    "down": _down_backend,
    "unprogrammed": _unprogrammed,
    "by nodes": _by_nodes,
}


def touched(world: World, change: Change) -> set[str]:
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
        case NodeObserved(root=root) | NodeGone(root=root):
            return {observed.root.path for observed in world.find("by nodes", cluster_of(root.name), ServiceObserved)}
        case NodeSeen() | NodeLeft():
            return set(world.words("planned"))
        case ManifestRejected() | ManifestAccepted() | EndpointSliceObserved() | EndpointSliceGone() | VipAllocated() | VipDenied():
            return {*_service_of(event), *(_service_of(before) if before else ())}
    return set()


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
        *(event.root.path for event in events if isinstance(event, ServiceObserved)),
        *(service for vip in vips if isinstance(vip, VipAllocated) for service in vip.services),
    }
