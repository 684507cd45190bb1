"""Status of an LBNode: made for each LB node that counts, in the home cluster.  Deleting one retires its node."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from services.watcher.writer.conditions import MOST_WORDS, condition_of, same
from services.watcher.writer.status import Json, Mark, Status, View, Wanted
from weir.decider import World
from weir.events import (
    AnyEvent,
    AppliedThrough,
    NodeAddressesObserved,
    NodeGone,
    NodeHeard,
    NodeLeft,
    NodeObserved,
    NodeRetired,
    NodeSeen,
    NodeSilent,
    VipAllocated,
    key,
)
from weir.lbnodes import conflicts, counted, how_to_end, is_silent
from weir.model import Condition


def _wanted(view: View) -> Wanted | None:
    world, seen = view.world, view.seen("LBNode")
    known = next((each for each in counted(world) if each.node == view.name), None)
    if not known:
        return Wanted(deleted=True) if view.home else None
    if not seen and view.existed:
        return Wanted(states=partial(_retired, known))
    applied = next((each for each in world.of(AppliedThrough) if each.node == view.name), None)
    machine = world.get(key("watcher", "node", "", view.name))
    lost = isinstance(machine, NodeObserved) and (machine.silent or not machine.ready)
    silent, shared = is_silent(world, view.name), conflicts(world, view.name)
    status = node_status(known, applied, view.before, view.now, lost=lost, silent=silent, conflicts=shared)
    return Wanted(status=None if same(status, view.before) else status, created={})


def _retired(known: NodeSeen, world: World) -> list[AnyEvent]:
    """Somebody deleted the LBNode.  A node that is alive reports itself again, and gets another."""
    return [NodeRetired(lbnode=known.node, reason="its LBNode was deleted")] if known in counted(world) else []


def _missing(world: World) -> Iterable[Mark]:
    return (Mark("", "", seen.node) for seen in counted(world))


def _by_itself(_: World, event: NodeSeen | NodeAddressesObserved, __: AnyEvent | None) -> Iterable[Mark]:
    return (Mark("", "", event.node),)


def _by_others(_: World, event: NodeSilent | NodeHeard | NodeRetired | NodeLeft, __: AnyEvent | None) -> Iterable[Mark]:
    return (Mark("", "", event.lbnode),)


def _applied(_: World, event: AppliedThrough, before: AnyEvent | None) -> Iterable[Mark]:
    """Watermarks come all the time: the first counts, and those with a rejection."""
    return (Mark("", "", event.node),) if event.rejected or not isinstance(before, AppliedThrough) else ()


def _machine(_: World, event: NodeObserved | NodeGone, __: AnyEvent | None) -> Iterable[Mark]:
    return (Mark("", "", event.root.path),)


def _vip(world: World, event: VipAllocated, _: AnyEvent | None) -> Iterable[Mark]:
    """A VIP that somebody else uses may be an address of a node."""
    return _missing(world) if event.in_use_by else ()


STATUS: Final = Status(
    wanted=_wanted,
    marks={
        NodeSeen: _by_itself,
        NodeAddressesObserved: _by_itself,
        NodeSilent: _by_others,
        NodeHeard: _by_others,
        NodeRetired: _by_others,
        NodeLeft: _by_others,
        AppliedThrough: _applied,
        NodeObserved: _machine,
        NodeGone: _machine,
        VipAllocated: _vip,
    },
    missing=_missing,
)


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

    conflicts: VIPs that are also addresses of its own or of its gateways, in words.
    lost: its Node is not Ready; a machine that is no node of the cluster has none.   silent: it sends no heartbeats.
    """
    refused = [f"{each.entity}: {each.reason}" for each in applied.rejected] if applied else []
    why = "Rejected" if refused else "Programmed" if applied else "Pending"
    ready = Condition(type="Ready", status=True, reason="Forwarding", message=f"{seen.attached} on {', '.join(seen.interfaces)}")
    programmed = Condition(type="Programmed", status=why == "Programmed", reason=why, message="; ".join(refused)[:MOST_WORDS])
    if silent:
        words = f"no heartbeat from the node; its kernel may still forward traffic; {how_to_end(seen.node)}"
        ready = Condition(type="Ready", status=False, unknown=True, reason="NodeSilent", message=words)
        programmed = Condition(type="Programmed", status=False, unknown=True, reason="NodeSilent", message=words)
    elif lost:
        words = "the Node is not Ready; it is unknown whether it forwards traffic"
        ready = Condition(type="Ready", status=False, reason="NodeNotReady", message=words)
    words = "; ".join(conflicts)[:MOST_WORDS]
    conflict = Condition(type="AddressConflict", status=bool(conflicts), reason="AddressIsVIP" if conflicts else "None", message=words)
    conditions = [condition_of(each, "", before, now) for each in (ready, programmed, conflict)]
    return {"hook": seen.attached, "interfaces": list(seen.interfaces), "conditions": conditions}
