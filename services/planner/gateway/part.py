"""The part that plans Gateways, ListenerSets, routes, GatewayClasses and BackendTLSPolicies."""

from collections.abc import Iterable, Mapping

from services.planner.gateway.attach import attachments, parent_gateway
from services.planner.gateway.listeners import entries_of, gateway_of, is_ours
from services.planner.gateway.plan import Plan
from services.planner.gateway.status import backend_refs, class_status, policy_status, route_status, set_status
from weir.decider import Change, Index, World
from weir.events import (
    ROUTES,
    AnyEvent,
    BackendTlsPolicyObserved,
    ConfigMapGone,
    ConfigMapObserved,
    EndpointSliceObserved,
    Event,
    GatewayClassGone,
    GatewayClassObserved,
    GatewayGone,
    GatewayObserved,
    ListenerPlanned,
    ListenerSetGone,
    ListenerSetObserved,
    NamespaceGone,
    NamespaceObserved,
    ReferenceGrantGone,
    ReferenceGrantObserved,
    RouteObserved,
    SecretGone,
    SecretObserved,
    ServiceGone,
    ServiceObserved,
    UpstreamPlanned,
    VirtualHostPlanned,
    object_key,
)
from weir.events.base import ObjectEvent
from weir.model import owner_at

_STATUS_KINDS = (
    *("ListenerSet", "GatewayClass", "BackendTLSPolicy"),
    *("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"),
)


def _parents(event: AnyEvent) -> Iterable[str]:
    """The Gateways and ListenerSets that a route or ListenerSet names."""
    if isinstance(event, ListenerSetObserved):
        return (owner_at(event.root, event.parent),)
    if isinstance(event, RouteObserved):
        return {owner_at(event.root, parent) for parent in event.parents}
    return ()


def _backends(event: Event) -> Iterable[str]:
    """The Services that a route refers to."""
    return {owner_at(event.root, ref) for ref in backend_refs(event)} if isinstance(event, RouteObserved) else ()


def _targets(event: AnyEvent) -> Iterable[str]:
    if not isinstance(event, BackendTlsPolicyObserved):
        return ()
    return {f"Service/{event.root.space}/{target.name}" for target in event.targets}


def _grants(event: AnyEvent) -> Iterable[str]:
    return (event.root.space,) if isinstance(event, ReferenceGrantObserved) else ()


def _bundles(event: AnyEvent) -> Iterable[str]:
    """The Secrets and ConfigMaps that a Gateway, ListenerSet or policy refers to."""
    match event:
        case GatewayObserved() | ListenerSetObserved():
            refs = [to for each in event.listeners if each.tls for to in each.tls.certificates]
            if isinstance(event, GatewayObserved):
                refs += [to for each in event.client_validations for to in each.authorities]
                refs += [event.client_certificate] if event.client_certificate else []
            return {owner_at(event.root, to) for to in refs}
        case BackendTlsPolicyObserved():
            return {owner_at(event.root, to) for to in event.authorities}
    return ()


def _class(event: AnyEvent) -> Iterable[str]:
    return (f"{event.root.source}:{event.class_name}",) if isinstance(event, GatewayObserved) else ()


class Gateways:
    """See the module.  A Gateway owns what is planned for its listeners; the others own their status only."""

    kinds = ("Gateway", *_STATUS_KINDS)
    indexes: Mapping[str, Index] = {
        "parent": _parents,
        "backend of": _backends,
        "policy of": _targets,
        "grants of": _grants,
        "bundle of": _bundles,
        "of class": _class,
    }
    subscribes: tuple[type[Event], ...] = (
        *(GatewayClassObserved, GatewayObserved, ListenerSetObserved, *ROUTES, ReferenceGrantObserved, BackendTlsPolicyObserved),
        *(ConfigMapObserved, SecretObserved, NamespaceObserved, ListenerPlanned, VirtualHostPlanned, UpstreamPlanned),
    )

    def owners(self, world: World) -> list[str]:
        """All that were read."""
        kinds = (GatewayClassObserved, GatewayObserved, ListenerSetObserved, *ROUTES, BackendTlsPolicyObserved)
        return sorted(event.root.owner for kind in kinds for event in world.of(kind))

    def touched(self, world: World, change: Change) -> set[str]:
        """A Gateway with all that attaches to it, for each Gateway that a change may concern."""
        found: set[str] = set()
        for event in (change.before, change.fact.event):
            if event is not None:
                found |= _touched(world, event)
        return found | _policies_of(world, found)

    def plan(self, world: World, owner: str) -> list[AnyEvent]:
        """Listeners, virtual hosts, upstreams and frontends of a Gateway with its status; the status of any other."""
        match world.get(object_key(owner)):
            case GatewayClassObserved(ours=True) as found:
                return [class_status(found)]
            case GatewayObserved() as gateway if is_ours(world, gateway):
                return plan_of(world, gateway).events()
            case ListenerSetObserved() as found if (parent := gateway_of(world, found)) and is_ours(world, parent):
                plan = plan_of(world, parent)
                return [set_status(world, found, parent, plan.entries, plan.attached, plan.programmed)]
            case BackendTlsPolicyObserved() as policy:
                return _only(policy_status(world, policy, _gateways_of(world, _targets(policy))))
            case RouteObserved() as event:
                return _only(route_status(world, event))
        return []


def plan_of(world: World, gateway: GatewayObserved) -> Plan:
    """The plan of a Gateway of ours."""
    entries = entries_of(world, gateway)
    return Plan(world, gateway, entries, attachments(world, gateway, entries))


# ── whom a change concerns ─────────────────────────────────────────────────────────────────────────────────────────


def _touched(world: World, event: AnyEvent) -> set[str]:
    match event:
        case GatewayClassObserved(root=root) | GatewayClassGone(root=root):
            of_class = world.find("of class", f"{root.source}:{root.name}", GatewayObserved)
            return {root.owner}.union(*(_with_guests(world, each.root.owner) for each in of_class))
        case GatewayObserved(root=root) | GatewayGone(root=root):
            return _with_guests(world, root.owner)
        case ListenerSetObserved():
            return {event.root.owner, *_with_guests(world, owner_at(event.root, event.parent))}
        case ServiceObserved(root=root) | ServiceGone(root=root):
            return _of_services(world, [root.owner])
        case EndpointSliceObserved(owner=service):  # its first endpoint: no planned set leads from the Service to its users yet
            return _of_services(world, [service])
        case BackendTlsPolicyObserved():
            return {event.root.owner, *_of_services(world, _targets(event))}
        case SecretObserved(root=root) | SecretGone(root=root) | ConfigMapObserved(root=root) | ConfigMapGone(root=root):
            return _of_bundle(world, root.owner)
        case ReferenceGrantObserved() | ReferenceGrantGone() | NamespaceObserved() | NamespaceGone() | ListenerSetGone():
            return {owner for gateway in world.of(GatewayObserved) for owner in _with_guests(world, gateway.root.owner)}
    if isinstance(event, RouteObserved):
        gateways = {parent.root.owner for each in event.parents if (parent := parent_gateway(world, event.root, each))}
        return {event.root.owner, *gateways, *_policies_on(world, event)}
    return set()


def _policies_of(world: World, owners: Iterable[str]) -> set[str]:
    """The policies on Services of the routes among these owners: their ancestors are the Gateways of these routes."""
    routes = [event for owner in owners if isinstance(event := world.get(object_key(owner)), RouteObserved)]
    return {policy for route in routes for policy in _policies_on(world, route)}


def _policies_on(world: World, route: RouteObserved) -> set[str]:
    return {policy.root.owner for service in _backends(route) for policy in world.find("policy of", service, BackendTlsPolicyObserved)}


def _with_guests(world: World, owner: str) -> set[str]:
    """A Gateway or ListenerSet, and all that names it as its parent."""
    found = {owner}
    for guest in world.find("parent", owner, ObjectEvent):
        found.add(guest.root.owner)
        if isinstance(guest, ListenerSetObserved):
            found |= {route.root.owner for route in world.find("parent", guest.root.owner, RouteObserved)}
    gateway = world.get(object_key(owner))
    if isinstance(gateway, ListenerSetObserved) and (parent := gateway_of(world, gateway)):
        found |= _with_guests(world, parent.root.owner)
    return found


def _of_services(world: World, services: Iterable[str]) -> set[str]:
    """The routes that refer to Services, their Gateways, and the policies on these Services."""
    found: set[str] = set()
    for service in services:
        found |= {policy.root.owner for policy in world.find("policy of", service, BackendTlsPolicyObserved)}
        for route in world.find("backend of", service, RouteObserved):
            found.add(route.root.owner)
            found |= {parent.root.owner for each in route.parents if (parent := parent_gateway(world, route.root, each))}
    return found


def _of_bundle(world: World, owner: str) -> set[str]:
    referring = world.listed("bundle of", owner).values()
    return set().union(*(_touched(world, each) for each in referring))


def _gateways_of(world: World, services: Iterable[str]) -> list[GatewayObserved]:
    """The Gateways of ours that reach one of these Services."""
    owners = {owner for owner in _of_services(world, services) if owner.startswith("Gateway/")}
    gateways = (world.get(object_key(owner)) for owner in owners)
    return [each for each in gateways if isinstance(each, GatewayObserved) and is_ours(world, each)]


def _only(event: AnyEvent | None) -> list[AnyEvent]:
    return [event] if event else []
