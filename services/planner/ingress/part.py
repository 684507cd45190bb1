"""The parts that plan IngressClasses, with what is served for their Ingresses, and the status of each Ingress."""

from collections.abc import Iterable, Mapping

from services.planner.ingress.model import by_class_name, ingresses_of, naming, plan_of, served_by
from services.planner.ingress.status import claims, ingress_status
from weir.decider import Change, Index, World
from weir.events import (
    AnyEvent,
    BackendTlsPolicyObserved,
    ConfigMapGone,
    ConfigMapObserved,
    EndpointSliceObserved,
    Event,
    IngressClassGone,
    IngressClassObserved,
    IngressGone,
    IngressObserved,
    SecretGone,
    SecretObserved,
    ServiceGone,
    ServiceObserved,
    VipAllocated,
    VipDenied,
    VipFreed,
    VipReleased,
    VirtualHostPlanned,
    object_key,
)
from weir.ingresses import needs
from weir.model import owner_of


def _rules(event: AnyEvent) -> Iterable[str]:
    return {rule.route for rule in event.rules if rule.route.startswith("Ingress/")} if isinstance(event, VirtualHostPlanned) else ()


class IngressClasses:
    """See the module.  A class owns what is planned for all of its Ingresses: they share one address."""

    kinds = ("IngressClass",)
    indexes: Mapping[str, Index] = {"class name": by_class_name, "ingress needs": needs, "ingress claim": claims, "rules of": _rules}
    subscribes: tuple[type[Event], ...] = (IngressClassObserved, IngressObserved)

    def owners(self, world: World) -> list[str]:
        """All that were read."""
        return [event.root.owner for event in world.of(IngressClassObserved)]

    def touched(self, world: World, change: Change) -> set[str]:
        """The classes that a change may concern, each with its Ingresses."""
        found: set[str] = set()
        for event in (change.before, change.fact.event):
            if event is not None:
                found |= _touched(world, event)
        return found

    def plan(self, world: World, owner: str) -> list[AnyEvent]:
        """Of a class of ours."""
        found = world.get(object_key(owner))
        return plan_of(world, found).events() if isinstance(found, IngressClassObserved) and found.ours else []


class Ingresses:
    """See the module.  It stands behind `IngressClasses`, whose plan in the log it reads."""

    kinds = ("Ingress",)
    indexes: Mapping[str, Index] = {}
    subscribes: tuple[type[Event], ...] = ()

    def owners(self, world: World) -> list[str]:
        """All that were read."""
        return [event.root.owner for event in world.of(IngressObserved)]

    def touched(self, _: World, __: Change) -> set[str]:
        """None that `IngressClasses` does not name."""
        return set()

    def plan(self, world: World, owner: str) -> list[AnyEvent]:
        """The status, where the class is ours."""
        ingress = world.get(object_key(owner))
        found = served_by(world, ingress) if isinstance(ingress, IngressObserved) else None
        return [ingress_status(world, ingress, found)] if isinstance(ingress, IngressObserved) and found else []


def _touched(world: World, event: AnyEvent) -> set[str]:
    match event:
        case IngressClassObserved(root=root) | IngressClassGone(root=root):  # the default class may be another now
            classes = {each.root.owner for each in world.of(IngressClassObserved) if each.root.source == root.source}
            return {root.owner, *classes, *(each.root.owner for each in naming(world, root))}
        case IngressObserved():
            served = served_by(world, event)
            claimants = (each.root.owner for claim in claims(event) for each in world.find("ingress claim", claim, IngressObserved))
            return {event.root.owner, *claimants, *([served.root.owner] if served else [])}
        case IngressGone(root=root):
            return {root.owner}
        case VipAllocated(holders=holders) | VipReleased(holders=holders) | VipFreed(holders=holders):
            return _of_owners(world, holders)
        case VipDenied(owner=owner):
            return _of_owners(world, [owner])
        case BackendTlsPolicyObserved(root=root, targets=targets):
            return _of_needed(world, [owner_of("Service", root.space, target.name) for target in targets])
        case EndpointSliceObserved(owner=service):
            return _of_needed(world, [service])
        case ServiceObserved() | ServiceGone() | SecretObserved() | SecretGone():
            return _of_needed(world, [event.root.owner])
        case ConfigMapObserved(root=root) | ConfigMapGone(root=root):
            policies = world.find("bundle of", root.owner, BackendTlsPolicyObserved)
            return set().union(*(_touched(world, policy) for policy in policies))
    return set()


def _with_ingresses(world: World, found: IngressClassObserved) -> set[str]:
    return {found.root.owner, *(each.root.owner for each in ingresses_of(world, found))}


def _of_owners(world: World, owners: Iterable[str]) -> set[str]:
    classes = [world.get(object_key(owner)) for owner in owners if owner.startswith("IngressClass/")]
    return set().union(*(_with_ingresses(world, each) for each in classes if isinstance(each, IngressClassObserved)))


def _of_needed(world: World, owners: Iterable[str]) -> set[str]:
    """The Ingresses that refer to one of these, and their classes."""
    found: set[str] = set()
    for ingress in (each for owner in owners for each in world.find("ingress needs", owner, IngressObserved)):
        if served := served_by(world, ingress):
            found |= {ingress.root.owner, served.root.owner}
    return found
