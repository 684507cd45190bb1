"""What a cluster should be told of a Service, a pool and a node, and by which Kubernetes Events: pure, from facts and what stands there.

Only transitions: what stands there already is not written again, and no sequence or clock of the log goes into the API.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from services.watcher.kinds.ranges import anycast, buggy, range_of
from weir.decider import World
from weir.events import (
    AppliedThrough,
    ManifestRejected,
    NodeSeen,
    PoolObserved,
    ServiceObserved,
    StatusPlanned,
    VipAllocated,
)
from weir.lbnodes import counted, how_to_end, is_silent
from weir.model import (
    Condition,
    ServicePort,
    family_of,
    shown,
)
from weir.words import few

DOMAIN: Final = "weir.dev/"
FINALIZER: Final = "weir.dev/vip"
MOST_WORDS: Final = 1000  # characters of a Kubernetes Event's note

Json = dict[str, Any]


class Note(NamedTuple):
    """One Kubernetes Event."""

    warning: bool
    reason: str
    words: str


CONTENDED: Final = Note(True, "Contended", "something else keeps changing this status: does another controller serve its class?")


def service_status(
    planned: StatusPlanned | None, observed: ServiceObserved | None, before: Mapping[str, Any], *, now: str, host: str
) -> Json:
    """`status` of a Service, as far as it is Weir's: {} where there is nothing to tell.

    before: what stands there.   now: RFC 3339, for conditions that change.   host: where not "", a VIP is told as the hostname HOST-VIP.
    A VIP is told once nodes have read it back, and stays while the Service holds it; those of its first family come first.  Where none
    is told, that is said: addresses that another controller left there are not what answers.
    """
    if not planned:
        return {}
    programmed = is_programmed(planned)
    told = {entry.get("ip") or entry.get("hostname") for entry in _ingress_of(before)}
    ports, families = (observed.ports, observed.families) if observed else ((), ())
    first = families[0] if families else "IPv4"
    vips = sorted(planned.vips, key=lambda vip: family_of(vip) != first)
    ingress = [_ingress(vip, ports, host) for vip in vips if programmed or _told_as(vip, host) in told]
    conditions = [_condition(condition, DOMAIN, before, now) for condition in planned.conditions]
    return {"loadBalancer": {"ingress": ingress}, "conditions": conditions}


def is_programmed(planned: StatusPlanned) -> bool:
    """Whether nodes have read back all of it."""
    return any(condition.type == "Programmed" and condition.status for condition in planned.conditions)


def _ingress_of(status: Mapping[str, Any]) -> list[Json]:
    """The addresses that stand in a Service's status."""
    return (status.get("loadBalancer") or {}).get("ingress") or []


def own(status: Mapping[str, Any]) -> Json:
    """Of what stands in a Service's status, what is Weir's."""
    conditions = [each for each in status.get("conditions") or () if str(each.get("type", "")).startswith(DOMAIN)]
    ingress = [{name: each[name] for name in ("ip", "hostname", "ipMode", "ports") if each.get(name)} for each in _ingress_of(status)]
    return {"loadBalancer": {"ingress": ingress} if ingress else {}, "conditions": conditions}


def service_notes(planned: StatusPlanned | None, before: Mapping[str, Any], nodes: Sequence[str] = ()) -> list[Note]:
    """The Kubernetes Events that tell what became different, for people.   nodes: that announce its VIPs where they are programmed."""
    stood = {str(each.get("type", "")).removeprefix(DOMAIN): each for each in before.get("conditions") or ()}
    if not planned:
        return []
    return [note for each in planned.conditions if (note := _note(each, stood.get(each.type, {}), planned.vips, nodes))]


def record_status(planned: StatusPlanned, nodes: Iterable[str], healthy: int, total: int, before: Mapping[str, Any], now: str) -> Json:
    """`status` of an LBService."""
    names = sorted(nodes)
    conditions = [_condition(condition, "", before, now) for condition in planned.conditions]
    counts = {"addresses": ", ".join(planned.vips), "healthy": healthy, "total": total}  # a column of kubectl shows text only
    reason = next((each.reason for each in planned.conditions if not each.status), "Serving")
    node = names[0] if len(names) == 1 else ""
    return {"vips": list(planned.vips), "reason": reason, "node": node, "nodes": names, **counts, "conditions": conditions}


def pool_status(
    pool: PoolObserved | None, rejected: ManifestRejected | None, given: Sequence[VipAllocated], before: Mapping[str, Any], now: str
) -> Json:
    """`status` of a VIPPool.  rejected: why what it says now is not taken, `pool` is what it said before; None where it never could be."""
    why = "; ".join(map(str, rejected.problems))[:MOST_WORDS] if rejected else ""
    accepted = Condition(type="Accepted", status=not why, reason="Invalid" if why else "Accepted", message=why)
    orphans = sorted(f"{vip.vip} of {', '.join(map(shown, vip.holders))}" for vip in given if vip.orphaned)
    words = f"the pool does not offer {'; '.join(orphans)} any more: they stay until let go"[:MOST_WORDS] if orphans else ""
    orphaned = Condition(type="Orphaned", status=bool(orphans), reason="AddressesHeld" if orphans else "None", message=words)
    offered = [found for text in pool.addresses if (found := range_of(text))] if pool else []
    size = sum(int(found.last) - int(found.first) + 1 for found in offered)
    drawn = len(given) - len(orphans)
    if pool and pool.avoid_buggy_ips:
        asked_for = sum(buggy(found) for vip in given if not vip.orphaned and (found := range_of(vip.vip)))
        drawn += sum(map(buggy, offered)) - asked_for
    drawn += len({address for found in offered if (address := anycast(found))} - {vip.vip for vip in given})
    full = 0 < size <= drawn
    room = Condition(type="Full", status=full, reason="Used" if full else "Room")
    judged = max((each.root.generation for each in (pool, rejected) if each and each.root), default=0)
    conditions = [_condition(each, "", before, now) | {"observedGeneration": judged} for each in (accepted, orphaned, room)]
    return {"used": len(given), "total": str(size), "conditions": conditions}


def node_status(
    seen: NodeSeen,
    applied: AppliedThrough | None,
    before: Mapping[str, Any],
    now: str,
    *,
    lost: bool,
    silent: bool = False,
    conflicts: Sequence[str] = (),
) -> Json:
    """`status` of an LBNode.

    conflicts: VIPs that are addresses of its own or of its gateways besides, in words.
    lost: its Node is not Ready, or not heard of; a machine that is no node of the cluster has none.   silent: nothing is heard of it.
    """
    refused = [f"{each.entity}: {each.reason}" for each in applied.rejected] if applied else []
    why = "Rejected" if refused else "Programmed" if applied else "Pending"
    ready = Condition(type="Ready", status=True, reason="Forwarding", message=f"{seen.attached} on {', '.join(seen.interfaces)}")
    programmed = Condition(type="Programmed", status=why == "Programmed", reason=why, message="; ".join(refused)[:MOST_WORDS])
    if silent:
        words = f"nothing is heard of the node, whose kernel may still forward; {how_to_end(seen.node)}"
        ready = Condition(type="Ready", status=False, unknown=True, reason="NodeSilent", message=words)
        programmed = Condition(type="Programmed", status=False, unknown=True, reason="NodeSilent", message=words)
    elif lost:
        words = "the Node is not Ready: whether it forwards is not known"
        ready = Condition(type="Ready", status=False, reason="NodeNotReady", message=words)
    words = "; ".join(conflicts)[:MOST_WORDS]
    conflict = Condition(type="AddressConflict", status=bool(conflicts), reason="AddressIsVIP" if conflicts else "None", message=words)
    conditions = [_condition(each, "", before, now) for each in (ready, programmed, conflict)]
    return {"hook": seen.attached, "interfaces": list(seen.interfaces), "conditions": conditions}


def is_held(world: World, service: str) -> bool:
    """Whether the Service has an address, or had one that a node may still forward for.  It does not wait for a node that is silent.

    world: with the index "holder" of the watcher.
    """
    if world.find("holder", service, VipAllocated):
        return True
    releasing = world.count("holder", service) > 0
    return releasing and not any(is_silent(world, seen.node) for seen in counted(world))


def same(wanted: Json, stands: Mapping[str, Any]) -> bool:
    """Whether writing `wanted` would change nothing; times of conditions follow from the rest."""
    return _timeless(wanted) == _timeless(stands)


def digest(status: Mapping[str, Any]) -> int:
    """Of all that `same` compares; within this process."""
    return hash(msgspec.json.encode(_timeless(status), order="sorted"))


def _timeless(status: Mapping[str, Any]) -> Json:
    conditions = sorted((_known(each) for each in status.get("conditions") or ()), key=lambda each: str(each["type"]))
    rest = {name: value for name, value in status.items() if name != "conditions" and value not in ([], "", {}, None, {"ingress": []})}
    return {**rest, "conditions": [{**each, "lastTransitionTime": ""} for each in conditions]}


def _ingress(vip: str, ports: Sequence[ServicePort], host: str) -> Json:
    served = [{"port": port.port, "protocol": port.protocol} for port in ports]
    told = {"hostname": _told_as(vip, host)} if host else {"ip": vip, "ipMode": "VIP"}
    return {**told, "ports": served} if served else told


def _told_as(vip: str, host: str) -> str:
    """A hostname takes no colons, and ends in a letter or digit: 2001:db8:: is told as 2001:db8::0."""
    address = f"{vip}0" if vip.endswith(":") else vip
    return f"{host}-{address.replace(':', '-')}" if host else vip


def _condition(condition: Condition, domain: str, before: Mapping[str, Any], now: str) -> Json:
    """meta/v1 Condition; the time is that of the last change of `status`, as the API has it."""
    word = _word(condition)
    stood: Mapping[str, Any] = next((each for each in before.get("conditions") or () if each.get("type") == domain + condition.type), {})
    since = stood.get("lastTransitionTime", now) if stood.get("status") == word else now
    told = {"type": domain + condition.type, "status": word, "reason": condition.reason, "message": condition.message}
    return {**told, "lastTransitionTime": since}


def _word(condition: Condition) -> str:
    return "True" if condition.status else "Unknown" if condition.unknown else "False"


def _known(condition: Mapping[str, Any]) -> Json:
    return {name: condition.get(name, "") for name in ("type", "status", "reason", "message", "lastTransitionTime", "observedGeneration")}


def _note(condition: Condition, stood: Mapping[str, Any], vips: Sequence[str], nodes: Sequence[str]) -> Note | None:
    if (stood.get("status"), stood.get("reason", "")) == (_word(condition), condition.reason):
        return None  # other words for the same are in the condition
    if not condition.status:
        passing = condition.reason in ("Pending", "NoNode", "NodeSilent")  # between a plan and its ack, or told by the LBNode
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
