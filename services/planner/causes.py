"""Which event a part of the plan follows from: the last that can change it, not the last that arrived."""

from collections.abc import Mapping

from weir.decider import World
from weir.events import (
    AnyEvent,
    BackendsPlanned,
    BackendsWithdrawn,
    EndpointDown,
    EndpointSliceObserved,
    EndpointUp,
    FrontendPlanned,
    FrontendWithdrawn,
    Planned,
    VipAllocated,
    VipFreed,
    VipPlanned,
    VipReleased,
    VipWithdrawn,
    endpoints_of,
    key,
    object_key,
)
from weir.model import family_of, service_of


def scopes_of(event: AnyEvent) -> tuple[str, ...]:
    """Which parts of an owner's plan `event` can change: those of a VIP, of a family, or all ("")."""
    match event:
        case VipAllocated(vip=vip) | VipReleased(vip=vip) | VipFreed(vip=vip):
            return vip, f"VIP of {family_of(vip)}"
        case EndpointSliceObserved(family=family):
            return (family,)
        case EndpointDown(address=address) | EndpointUp(address=address):
            return (family_of(address),)
    return ("",)


def cause_of(part: AnyEvent, owner: str, causes: Mapping[tuple[str, str], int]) -> int:
    """The last event that can have changed `part`, 0 for none.  causes: owner and scope -> sequence."""
    return max((causes.get((owner, scope), 0) for scope in _scopes_of_part(part)), default=0)


def newest_basis(world: World, owner: str, part: AnyEvent) -> int:
    """The sequence of the newest event that a part of the owner's plan rests on."""
    if isinstance(part, VipPlanned | VipWithdrawn):
        return world.newest([key("ipam", "vip", "", part.vip)])
    owners = dict.fromkeys([owner, *(service_of(each.name) for each in (part.refers_to() if isinstance(part, Planned) else ()))])
    observed = {where: event for each in owners for where, event in world.listed("concerned", each).items()}
    scopes = {*_scopes_of_part(part)} or {scope for event in observed.values() for scope in scopes_of(event)}
    keys = [where for where, event in observed.items() if scopes & {*scopes_of(event)}]
    down = [where for backend in endpoints_of(part) for where in world.listed("down", backend)]
    return world.newest([*map(object_key, owners), *keys, *down])


def _scopes_of_part(part: AnyEvent) -> tuple[str, ...]:
    """The scopes that a part of the plan is in; a status is in none, and follows from the last change of any."""
    match part:
        case FrontendPlanned(vip=vip) | FrontendWithdrawn(vip=vip):
            return "", family_of(vip), vip
        case BackendsPlanned(set=name) | BackendsWithdrawn(set=name):
            family = name.rpartition(":")[2]
            return "", family, f"VIP of {family}"
    return ()
