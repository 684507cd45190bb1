"""Whose plan may differ after an event about endpoints, addresses or nodes.  One endpoint costs one Service, and those that use it."""

from collections.abc import Iterable
from typing import Final

from services.planner.shared.indexes import concerned
from weir.decider import Change, World
from weir.events import (
    AnyEvent,
    AppliedThrough,
    BackendsPlanned,
    ClaimSettled,
    EndpointDown,
    EndpointSliceGone,
    EndpointSliceObserved,
    EndpointUp,
    Event,
    FrontendPlanned,
    GatewayStatusPlanned,
    ListenerPlanned,
    ListenerSetObserved,
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
    Planned,
    PlannedStatus,
    ServiceObserved,
    VipAllocated,
    VipDenied,
    VipFreed,
    VipPlanned,
    VipReleased,
    VirtualHostPlanned,
    key,
    key_of,
)
from weir.lbnodes import ABOUT_NODES, RETIRED, addresses_of, heard
from weir.model import MORE_REJECTED, endpoint_name

SUBSCRIBES: tuple[type[Event], ...] = (
    *(ServiceObserved, EndpointSliceObserved, ManifestRejected, VipAllocated, VipDenied, EndpointDown, AppliedThrough, NodeObserved),
    *ABOUT_NODES,
)

_CLASS: Final = "IngressClass/"


def touched(world: World, change: Change) -> set[str]:
    """The owners, of any kind, whose plan may differ after `change`."""
    event, before = change.fact.event, change.before
    match event:
        case EndpointDown() | EndpointUp():
            name = endpoint_name(event.address, event.port, event.protocol)
            return {chunk.planned_for() for chunk in world.find("backend", name, BackendsPlanned)}
        case VipReleased(holders=holders) | VipFreed(holders=holders):
            return set(holders)
        case ClaimSettled(owner=owner):
            return {owner}
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
            return {*concerned(event), *(concerned(before) if before else ())}
    return set()


def users(world: World, owners: Iterable[str]) -> set[str]:
    """The owners of entries that refer to backend sets of these Services, and the ListenerSets whose status follows from these Gateways."""
    found: set[str] = set()
    for owner in owners:
        found |= {entry.planned_for() for entry in world.find("users", owner, Planned)}
        if owner.startswith("Gateway/"):
            found |= {guest.root.owner for guest in world.find("parent", owner, ListenerSetObserved)}
    return found


def followers(world: World, entry: AnyEvent | None) -> set[str]:
    """The Ingresses whose status follows from an entry of their class."""
    if not isinstance(entry, Planned) or not entry.planned_for().startswith(_CLASS):
        return set()
    if isinstance(entry, VirtualHostPlanned):
        return {rule.route for rule in entry.rules}
    return _ingresses(world) if isinstance(entry, ListenerPlanned | FrontendPlanned) else set()


def _ingresses(world: World) -> set[str]:
    return {status.owner for status in world.of(GatewayStatusPlanned) if status.root.kind == "Ingress"}


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
    return {chunk.planned_for() for chunk in world.of(BackendsPlanned) if any(backend.address in addresses for backend in chunk.backends)}


def _as_backend(node: NodeObserved | NodeGone | None) -> object:
    return (node.ready, node.internal, node.labels) if isinstance(node, NodeObserved) else None


def _was_retired(world: World, node: str) -> bool:
    return any(world.get(key_of(event(lbnode=node))) for event in RETIRED)


def _by_silence(world: World, node: str) -> set[str]:
    """The owners that wait for a node, that it refuses, or on whose backends its verdict counts; all, where no other is heard.

    Others may have been heard again in the same batch: where nobody could confirm a status until now, it waits too.
    """
    if not {*heard(world)} - {node}:
        return set(world.words("planned"))
    applied = world.get(key_of(AppliedThrough(node=node, seq=0)))
    rejected = {rejection.entity for rejection in applied.rejected} if isinstance(applied, AppliedThrough) else set[str]()
    if MORE_REJECTED in rejected:
        return set(world.words("planned"))
    waiting = {status.owner for status in world.find("unconfirmed", "", PlannedStatus)}
    suspected = {chunk.planned_for() for chunk in world.find("suspected", "", BackendsPlanned)}
    return waiting | suspected | _rejected(world, rejected)


def _acknowledged(world: World, now: AppliedThrough, before: AppliedThrough | None) -> set[str]:
    """The owners of what the node holds since its last acknowledgement, and of what it refuses, or no longer does."""
    refused, was_refused = set(now.rejected), set(before.rejected) if before else set()
    changed = refused ^ was_refused
    if any(rejection.entity == MORE_REJECTED for rejection in changed):
        return set(world.words("planned"))  # it may be any
    first, last = sorted((before.seq if before else 0, now.seq))  # a node that lost its log may go back
    at_fault = {rejection.owner for rejection in changed if rejection.owner}
    return _owners(world, world.between(first, last)) | _rejected(world, {rejection.entity for rejection in changed}) | at_fault


def _rejected(world: World, entities: set[str]) -> set[str]:
    """The owners of refused entities."""
    events = [event for entity in sorted(entities) if (event := world.get(entity))]
    return {*_owners(world, events), *(event.root.owner for event in events if isinstance(event, ServiceObserved))}


def _owners(world: World, events: Iterable[AnyEvent]) -> set[str]:
    """The owners of planned entries, and those whose status follows from these; of a VIP its holders."""
    owners: set[str] = set()
    for event in events:
        if isinstance(event, VipPlanned):
            vip = world.get(key("ipam", "vip", "", event.vip))
            holders = vip.holders if isinstance(vip, VipAllocated) else ()
            owners |= {*holders} | (_ingresses(world) if any(holder.startswith(_CLASS) for holder in holders) else set())
        elif isinstance(event, Planned):
            owners |= {event.planned_for()} | followers(world, event)
    return owners
