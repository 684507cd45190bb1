"""Status, finalizer and Kubernetes Events of a Service."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from services.watcher.writer import gateway_service
from services.watcher.writer.conditions import (
    MOST_WORDS,
    condition_of,
    is_held,
    is_programmed,
    planned_for,
    same,
    status_word,
)
from services.watcher.writer.status import Json, Mark, Marking, Note, Status, View, Wanted, of_owner
from weir.decider import World
from weir.events import (
    AnyEvent,
    Event,
    GatewayObserved,
    GatewayStatusPlanned,
    NodeHeard,
    NodeLeft,
    NodeRetired,
    NodeSilent,
    ServiceObserved,
    StatusPlanned,
    StatusWithdrawn,
    VipAllocated,
    VipFreed,
    VipReleased,
    object_key,
)
from weir.lbnodes import counted
from weir.model import Condition, ServicePort, family_of
from weir.words import few

DOMAIN: Final = "weir.dev/"
CONTENDED: Final = Note(
    True, "Contended", "Another controller keeps overwriting this status; check which controllers handle its loadBalancerClass."
)


def _wanted(view: View) -> Wanted | None:
    if found := gateway_service.gateway_of(view):
        return gateway_service.wanted_for(view, *found)
    owner = view.owner("Service")
    if not view.seen("Service"):
        return None
    event = view.world.get(object_key(owner))
    observed = event if isinstance(event, ServiceObserved) else None
    planned = planned_for(view.world, owner)
    if not planned and (not observed or observed.exposed):
        return None  # not in the log yet, or nothing is decided
    held, ours = is_held(view.world, owner), own(view.before)
    status = service_status(planned, observed, view.before, now=view.now, host=view.host)
    changed = (planned or ours["conditions"]) and not same(status, ours)  # an address alone is another controller's
    return Wanted(
        status=status if changed else None,
        notes=service_notes(planned, view.before, [seen.node for seen in counted(view.world)]) if changed else (),
        settling=planned is not None and planned.is_pending(),
        finalizer=True if held else None if planned else False,
    )


def _of_owner(_: World, event: StatusPlanned | StatusWithdrawn, __: AnyEvent | None) -> Iterable[Mark]:
    return of_owner(event.owner, "Service")


def _of_holders(_: World, event: VipAllocated | VipReleased | VipFreed, __: AnyEvent | None) -> Iterable[Mark]:
    return (mark for holder in event.holders for mark in of_owner(holder, "Service"))


def _of_releasing(world: World, _: AnyEvent, __: AnyEvent | None) -> Iterable[Mark]:
    """A Service does not wait for a node that is silent or retired."""
    return (mark for released in world.of(VipReleased) for holder in released.holders for mark in of_owner(holder, "Service"))


MARKS: Final[Mapping[type[Event], Marking]] = {  # the record of a Service is marked by the same events
    StatusPlanned: _of_owner,
    StatusWithdrawn: _of_owner,
    VipAllocated: _of_holders,
    VipReleased: _of_holders,
    VipFreed: _of_holders,
    NodeSilent: _of_releasing,
    NodeHeard: _of_releasing,
    NodeRetired: _of_releasing,
    NodeLeft: _of_releasing,
}
_GATEWAYS: Final[Mapping[type[Event], Marking]] = {
    GatewayObserved: gateway_service.observed,
    GatewayStatusPlanned: gateway_service.planned,
}
STATUS: Final = Status(wanted=_wanted, marks={**MARKS, **_GATEWAYS}, missing=gateway_service.missing, contended=CONTENDED, urgent=True)


def service_status(
    planned: StatusPlanned | None, observed: ServiceObserved | None, before: Mapping[str, Any], *, now: str, host: str
) -> Json:
    """`status` of a Service, as far as it is Weir's: {} where there is none.

    before: the status as it is.   now: RFC 3339, for conditions that change.   host: where not "", a VIP is written as HOST-VIP.
    A VIP is written once nodes have confirmed it, and stays while the Service holds it; those of its first family come first.  Where
    there is none, an empty list is written: addresses left by another controller are not served.
    """
    if not planned:
        return {}
    programmed = is_programmed(planned)
    written = {entry.get("ip") or entry.get("hostname") for entry in _ingress_of(before)}
    ports, families = (observed.ports, observed.families) if observed else ((), ())
    first = families[0] if families else "IPv4"
    vips = sorted(planned.vips, key=lambda vip: family_of(vip) != first)
    ingress = [_ingress(vip, ports, host) for vip in vips if programmed or written_as(vip, host) in written]
    conditions = [condition_of(condition, DOMAIN, before, now) for condition in planned.conditions]
    return {"loadBalancer": {"ingress": ingress}, "conditions": conditions}


def _ingress_of(status: Mapping[str, Any]) -> list[Json]:
    """The addresses in a Service's status."""
    return (status.get("loadBalancer") or {}).get("ingress") or []


def own(status: Mapping[str, Any]) -> Json:
    """Return the part of a Service's status that is Weir's."""
    conditions = [each for each in status.get("conditions") or () if str(each.get("type", "")).startswith(DOMAIN)]
    ingress = [{name: each[name] for name in ("ip", "hostname", "ipMode", "ports") if each.get(name)} for each in _ingress_of(status)]
    return {"loadBalancer": {"ingress": ingress} if ingress else {}, "conditions": conditions}


def service_notes(planned: StatusPlanned | None, before: Mapping[str, Any], nodes: Sequence[str] = ()) -> list[Note]:
    """Return Kubernetes Events for what changed.   nodes: those that announce its VIPs where they are programmed."""
    stood = {str(each.get("type", "")).removeprefix(DOMAIN): each for each in before.get("conditions") or ()}
    if not planned:
        return []
    return [note for each in planned.conditions if (note := _note(each, stood.get(each.type, {}), planned.vips, nodes))]


def _ingress(vip: str, ports: Sequence[ServicePort], host: str) -> Json:
    served = [{"port": port.port, "protocol": port.protocol} for port in ports]
    entry = {"hostname": written_as(vip, host)} if host else {"ip": vip, "ipMode": "VIP"}
    return {**entry, "ports": served} if served else entry


def written_as(vip: str, host: str) -> str:
    """A VIP as a status names it.   host: as in `View`.

    A hostname takes no colons, and ends in a letter or digit: 2001:db8:: is written as 2001:db8::0.
    """
    address = f"{vip}0" if vip.endswith(":") else vip
    return f"{host}-{address.replace(':', '-')}" if host else vip


def _note(condition: Condition, stood: Mapping[str, Any], vips: Sequence[str], nodes: Sequence[str]) -> Note | None:
    if (stood.get("status"), stood.get("reason", "")) == (status_word(condition), condition.reason):
        return None  # only the message differs: the condition has it
    if not condition.status:
        passing = condition.reason in (
            "Pending",
            "NoNode",
            "NodeSilent",
        )  # before the acknowledgement, or reported by the LBNode
        return Note(True, condition.reason, condition.message[:MOST_WORDS]) if condition.message and not passing else None
    match condition.type:
        case "Allocated":
            return Note(False, "Allocated", condition.message or f"assigned {', '.join(vips)}")
        case "Programmed":
            where = f" on {few(nodes)}" if nodes else ""
            return Note(False, "Programmed", "; ".join(filter(None, (f"{', '.join(vips)} announced{where}", condition.message))))
        case "Serving" | "Accepted" if stood:
            return Note(False, condition.reason, condition.message or f"{condition.type} now")
    return None
