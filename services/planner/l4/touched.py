"""Under which words facts are found, and whose plan may differ after a change: so that one endpoint costs one Service."""

from collections.abc import Iterable, Mapping

from services.planner.l4.ports import waiting_for_ports
from weir.decider import BySequence, Change, Index, World
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
    NodeAddressesObserved,
    NodeGone,
    NodeHeard,
    NodeLeft,
    NodeObserved,
    NodeRetired,
    NodeSeen,
    NodeSilent,
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
    key_of,
)
from weir.lbnodes import RETIRED, addresses_of, heard
from weir.model import MORE_REJECTED, Root, endpoint_name


def _service_of(event: AnyEvent) -> Iterable[str]:
    """The Services that an observation or an allocation concerns."""
    match event:
        case EndpointSliceObserved():
            return (event.owner,)
        case VipAllocated(holders=services):
            return services
        case VipDenied(owner=service):
            return (service,)
        case ManifestRejected(root=Root(kind="Service") as root):
            return (root.owner,)
        case ManifestRejected(owner=service) if service:
            return (service,)
    return ()


def _planned_for(event: AnyEvent) -> Iterable[str]:
    match event:
        case FrontendPlanned(root=root) | BackendsPlanned(root=root) | StatusPlanned(root=root):
            return (root.owner,)
    return ()


def _down_backend(event: AnyEvent) -> Iterable[str]:
    match event:
        case EndpointDown(address=address, port=port, protocol=protocol):
            return (endpoint_name(address, port, protocol),)
    return ()


def _suspected(event: AnyEvent) -> Iterable[str]:
    match event:
        case BackendsPlanned(backends=backends) if any(backend.down_on for backend in backends):
            return ("",)
    return ()


def _pending(event: AnyEvent) -> Iterable[str]:
    match event:
        case StatusPlanned(conditions=conditions) if any(c.type == "Programmed" and c.reason == "Pending" for c in conditions):
            return ("",)
    return ()


def _by_nodes(event: AnyEvent) -> Iterable[str]:
    """The cluster whose nodes decide on a Service's backends."""
    match event:
        case ServiceObserved(targets="nodes", root=root) | ServiceObserved(local=True, root=root):
            return (root.source,)
    return ()


INDEXES: Mapping[str, Index] = {
    "service": _service_of,
    "planned": _planned_for,
    "backend": endpoints_of,
    "down": _down_backend,
    "suspected": _suspected,  # chunks with a backend that some node finds dead
    "pending": _pending,
    "acknowledged": BySequence(FrontendPlanned, BackendsPlanned, VipPlanned),  # what nodes acknowledge by its sequence
    "by nodes": _by_nodes,
}


def touched(world: World, change: Change) -> set[str]:
    """The Services whose plan may differ after `change`."""
    event, before = change.fact.event, change.before
    match event:
        case ServiceObserved(root=root) | ServiceGone(root=root):
            return {root.owner} | waiting_for_ports(world, root.owner, before, event)
        case EndpointDown() | EndpointUp():
            name = endpoint_name(event.address, event.port, event.protocol)
            return {chunk.root.owner for chunk in world.find("backend", name, BackendsPlanned)}
        case VipReleased(holders=services) | VipFreed(holders=services):
            return set(services)
        case ClaimSettled(owner=service):
            return {service}
        case AppliedThrough():
            return _acknowledged(world, event, before if isinstance(before, AppliedThrough) else None)
        case NodeObserved() | NodeGone():
            return _by_node(world, event, before if isinstance(before, NodeObserved) else None)
        case NodeSeen(node=node, local_backends=local) if isinstance(before, NodeSeen) and not _was_retired(world, node):
            # Of another hook or interface nothing of the plan follows.
            return _with_backends_at(world, {*addresses_of(world, node).addresses}) if local != before.local_backends else set()
        case NodeAddressesObserved(addresses=now):
            was = before.addresses if isinstance(before, NodeAddressesObserved) else ()
            return _with_backends_at(world, {*now} ^ {*was})
        case NodeSeen() | NodeRetired() | NodeLeft():
            return set(world.words("planned"))
        case NodeSilent(lbnode=node) | NodeHeard(lbnode=node):
            return _by_silence(world, node)
        case ManifestRejected() | ManifestAccepted() | EndpointSliceObserved() | EndpointSliceGone() | VipAllocated() | VipDenied():
            return {*_service_of(event), *(_service_of(before) if before else ())}
    return set()


def _by_node(world: World, now: NodeObserved | NodeGone, before: NodeObserved | None) -> set[str]:
    """The Services whose backends the node decides on.  To those with endpoints it matters only whether the node exists."""
    came_or_went = before is None or isinstance(now, NodeGone)
    if not came_or_went and _as_backend(before) == _as_backend(now):
        return set()
    services = world.find("by nodes", now.root.source, ServiceObserved)
    return {observed.root.owner for observed in services if came_or_went or observed.targets == "nodes"}


def _with_backends_at(world: World, addresses: set[str]) -> set[str]:
    if not addresses:
        return set()
    return {chunk.root.owner for chunk in world.of(BackendsPlanned) if any(backend.address in addresses for backend in chunk.backends)}


def _as_backend(node: NodeObserved | NodeGone | None) -> object:
    return (node.ready, node.internal, node.labels) if isinstance(node, NodeObserved) else None


def _was_retired(world: World, node: str) -> bool:
    return any(world.get(key_of(event(lbnode=node))) for event in RETIRED)


def _by_silence(world: World, node: str) -> set[str]:
    """The Services that wait for a node, that it refuses, or on whose backends its verdict counts; all, where no other is heard."""
    if not {*heard(world)} - {node}:
        return set(world.words("planned"))
    applied = world.get(key_of(AppliedThrough(node=node, seq=0)))
    rejected = {rejection.entity for rejection in applied.rejected} if isinstance(applied, AppliedThrough) else set[str]()
    if MORE_REJECTED in rejected:
        return set(world.words("planned"))
    waiting = {status.root.owner for status in world.find("pending", "", StatusPlanned)}
    suspected = {chunk.root.owner for chunk in world.find("suspected", "", BackendsPlanned)}
    return waiting | suspected | _rejected(world, rejected)


def _acknowledged(world: World, now: AppliedThrough, before: AppliedThrough | None) -> set[str]:
    """The Services of what the node holds since its last acknowledgement, and of what it refuses, or no longer does."""
    refused, was_refused = set(now.rejected), set(before.rejected) if before else set()
    changed = refused ^ was_refused
    if any(rejection.entity == MORE_REJECTED for rejection in changed):
        return set(world.words("planned"))  # it may be any
    first, last = sorted((before.seq if before else 0, now.seq))  # a node that lost its log may go back
    return _planned_from(world, world.between(first, last)) | _rejected(world, {rejection.entity for rejection in changed})


def _rejected(world: World, entities: set[str]) -> set[str]:
    """The Services that refused entities belong to."""
    events = [event for entity in sorted(entities) if (event := world.get(entity))]
    return {*_planned_from(world, events), *(event.root.owner for event in events if isinstance(event, ServiceObserved))}


def _planned_from(world: World, events: Iterable[AnyEvent]) -> set[str]:
    """The Services that planned entries belong to."""
    services: set[str] = set()
    for event in events:
        if isinstance(event, VipPlanned):
            vip = world.get(key("ipam", "vip", "", event.vip))
            services |= set(vip.holders) if isinstance(vip, VipAllocated) else set()
        else:
            services |= set(_planned_for(event))
    return services
