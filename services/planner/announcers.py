"""Who announces a VIP: an order of LB nodes, from which they choose among themselves the first that is alive and ready.

Spread: the first order is each node's weight by a hash of node and VIP (rendezvous hashing).  Sticky: from then on it changes for a
reason only.  A node that joins comes last, one that took the VIP over comes first, and those that are cordoned, or have no backend
of a Service that wants its own node's, come behind the others.  VIPs of pools with one announcer have one order, that of the first of them.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b

from msgspec.structs import replace

from services.planner.shared.indexes import concerned
from weir.decider import Change, Index, World
from weir.events import (
    AnnouncersPlanned,
    AnyEvent,
    BackendsPlanned,
    EndpointDown,
    EndpointSliceGone,
    EndpointSliceObserved,
    EndpointUp,
    FrontendPlanned,
    NodeCordoned,
    NodeGone,
    NodeHeard,
    NodeLeft,
    NodeObserved,
    NodeRetired,
    NodeSeen,
    NodeSilent,
    NodeUncordoned,
    PoolObserved,
    ServiceGone,
    ServiceObserved,
    VipAllocated,
    VipTaken,
    key,
    key_of,
)
from weir.lbnodes import counted
from weir.model import endpoint_name, seen_from

ANNOUNCERS_MOST = 11  # of one VIP: what the kernel's map has room for


def _taken(event: AnyEvent) -> Iterable[str]:
    return (event.vip,) if isinstance(event, VipTaken) else ()


def _local(event: AnyEvent) -> Iterable[str]:
    return (event.vip,) if isinstance(event, FrontendPlanned) and event.local else ()


def _together(event: AnyEvent) -> Iterable[str]:
    return ("",) if isinstance(event, AnnouncersPlanned) and event.together else ()


INDEXES: Mapping[str, Index] = {"taken": _taken, "local frontends": _local, "together": _together}


def announcers(world: World, vip: VipAllocated) -> list[AnnouncersPlanned]:
    """The plan of who announces the VIP; empty where no node says hello, or the address is a node's own."""
    nodes = [seen.node for seen in counted(world) if seen.hellos]
    if not nodes or vip.shared_with_node:
        return []
    together = any(pool.one_announcer for pool in world.of(PoolObserved) if pool.root.path == vip.pool)
    planned = AnnouncersPlanned(vip=vip.vip, nodes=(), together=together, root=vip.root)
    held, pilot = world.get(key_of(planned)), _pilot(world) if together else None
    if pilot and pilot.vip != vip.vip:
        order = list(pilot.nodes)
    else:
        order = _kept(world, planned, held if isinstance(held, AnnouncersPlanned) else planned)
    order = [node for node in order if node in nodes]
    order += ranked("" if together else vip.vip, {*nodes} - {*order})
    cordoned, local = {event.lbnode for event in world.of(NodeCordoned)}, None if together else local_nodes(world, vip.vip)
    order.sort(key=lambda node: (node in cordoned, local is not None and node not in local))
    return [replace(planned, nodes=tuple(order[:ANNOUNCERS_MOST]))]


def _kept(world: World, planned: AnnouncersPlanned, held: AnnouncersPlanned) -> list[str]:
    """The order so far, led by the node that took the VIP since it was planned."""
    taken = max(world.find("taken", planned.vip, VipTaken), key=world.seq, default=None)
    if taken and taken.node in held.nodes and world.seq(taken) > world.seq(planned) > 0:
        return [taken.node, *(node for node in held.nodes if node != taken.node)]
    return [*held.nodes]


def _pilot(world: World) -> AnnouncersPlanned | None:
    """The VIP whose order all that have one announcer follow: the first of them.  So one that is moved moves all, and a new one joins."""
    return min(world.find("together", "", AnnouncersPlanned), key=lambda planned: planned.vip, default=None)


def touched(world: World, change: Change) -> set[str]:
    """The VIPs whose order may differ after `change`, as "VIP/192.0.2.1"."""
    event, before = change.fact.event, change.before
    match event:
        case NodeSeen(hellos=hellos):
            said = before.hellos if isinstance(before, NodeSeen) and not _is_new(world, event) else False
            return {f"VIP/{vip.vip}" for vip in world.of(VipAllocated)} if hellos != said else set()
        case NodeRetired(lbnode=node) | NodeLeft(lbnode=node) | NodeCordoned(lbnode=node) | NodeUncordoned(lbnode=node):
            return {planned.planned_for() for planned in world.of(AnnouncersPlanned) if node in planned.nodes}
        case VipTaken(vip=vip):
            pilot = _pilot(world)
            return _together_vips(world) if pilot and pilot.vip == vip else {f"VIP/{vip}"}
        case PoolObserved(one_announcer=one, root=root):
            if one == (before.one_announcer if isinstance(before, PoolObserved) else False):
                return set()
            return {f"VIP/{vip.vip}" for vip in world.of(VipAllocated) if vip.pool == root.path} | _together_vips(world)
        case ServiceObserved(root=root) | ServiceGone(root=root):
            return {f"VIP/{frontend.vip}" for frontend in world.find("planned", root.owner, FrontendPlanned)}
        case NodeObserved() | NodeGone() | NodeSilent() | NodeHeard():
            return {f"VIP/{vip}" for vip in world.words("local frontends")}
        case EndpointSliceObserved() | EndpointSliceGone():
            return _local_vips(world, {*concerned(event), *(concerned(before) if before else ())})
        case EndpointDown() | EndpointUp():
            name = endpoint_name(event.address, event.port, event.protocol)
            return _local_vips(world, {chunk.planned_for() for chunk in world.find("backend", name, BackendsPlanned)})
    return set()


def _together_vips(world: World) -> set[str]:
    return {planned.planned_for() for planned in world.find("together", "", AnnouncersPlanned)}


def _is_new(world: World, seen: NodeSeen) -> bool:
    """Whether it was retired before, and so is none of those that have an order."""
    return any(world.get(key(kind.author, kind.kind, "", seen.node)) for kind in (NodeRetired, NodeLeft))


def _local_vips(world: World, owners: Iterable[str]) -> set[str]:
    frontends = (frontend for owner in owners for frontend in world.find("planned", owner, FrontendPlanned))
    return {f"VIP/{frontend.vip}" for frontend in frontends if frontend.local}


def local_nodes(world: World, vip: str) -> set[str] | None:
    """The nodes that have a backend for each Service on the VIP that wants its own node's (externalTrafficPolicy: Local); None: all do."""
    having: set[str] | None = None
    for frontend in world.find("local frontends", vip, FrontendPlanned):
        sets = {part.name for part in frontend.sets}
        chunks = (chunk for chunk in world.find("planned", frontend.owner, BackendsPlanned) if chunk.set in sets)
        nodes = {backend.node for chunk in chunks for backend in chunk.backends if seen_from(backend.node, backend) == "active"}
        having = nodes if having is None else having & nodes
    return having


def ranked(vip: str, nodes: Iterable[str]) -> list[str]:
    """Nodes by their weight for a VIP."""
    return sorted(nodes, key=lambda node: blake2b(f"{vip} {node}".encode(), digest_size=8).digest())
