"""Who tells routers of a VIP: every LB node that has a session in which it is offered, the first in the order of its announcers first.

A node that is cordoned tells of none, as long as another that is heard does; nor one without a backend of a Service that wants its own
node's.
"""

from services.planner.announcers import local_nodes, ranked
from services.planner.bgp.sessions import chooses_anew, chosen, concerns, covers
from weir.decider import Change, World
from weir.events import (
    AnnouncersPlanned,
    BgpAdvertisementGone,
    BgpAdvertisementObserved,
    BgpPeerGone,
    BgpPeerObserved,
    BgpRoutePlanned,
    NodeCordoned,
    NodeHeard,
    NodeSilent,
    NodeUncordoned,
    VipAllocated,
)
from weir.lbnodes import heard


def routes(world: World, vip: VipAllocated, announcers: list[AnnouncersPlanned]) -> list[BgpRoutePlanned]:
    """The plan of who tells routers of the VIP; empty where nobody is to be told.   announcers: of the VIP."""
    telling = set() if vip.shared_with_node else _telling(world, vip)
    order = [node for planned in announcers for node in planned.nodes]
    order += ranked(vip.vip, telling - {*order})
    local, cordoned = local_nodes(world, vip.vip), {event.lbnode for event in world.of(NodeCordoned)}
    serving = [node for node in order if node in telling and (local is None or node in local)]
    others = [node for node in serving if node not in cordoned]
    nodes = others if {*others} & {*heard(world)} else serving
    return [BgpRoutePlanned(vip=vip.vip, nodes=tuple(nodes), root=vip.root)] if nodes else []


def _telling(world: World, vip: VipAllocated) -> set[str]:
    """The nodes with a session in which the VIP is offered."""
    found: set[str] = set()
    for advertisement in (each for each in world.of(BgpAdvertisementObserved) if covers(each, vip)):
        selected = {*chosen(world, advertisement.nodes)}
        for peer in (peer for peer in world.of(BgpPeerObserved) if concerns(advertisement, peer)):
            found |= selected & {*chosen(world, peer.nodes)}
    return found


def touched(world: World, change: Change) -> set[str]:
    """The VIPs that others may tell of after `change`, as "VIP/192.0.2.1"; beside those that others may announce."""
    match change.fact.event:
        case BgpAdvertisementObserved() | BgpAdvertisementGone() | BgpPeerObserved() | BgpPeerGone():
            return _all(world)
        case NodeCordoned() | NodeUncordoned() if _advertised(world):
            return _all(world)
        case NodeSilent() | NodeHeard() if _advertised(world) and world.of(NodeCordoned):
            return _all(world)
    return _all(world) if chooses_anew(change) and _advertised(world) else set()


def _advertised(world: World) -> bool:
    return bool(world.of(BgpAdvertisementObserved))


def _all(world: World) -> set[str]:
    return {f"VIP/{vip.vip}" for vip in world.of(VipAllocated)}
