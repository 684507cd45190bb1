"""Who tells routers of a VIP: every LB node that can serve it, the first in the order of its announcers before the others.

A node that is cordoned tells of none, as long as another does; nor one without a backend of a Service that wants its own node's.
"""

from services.planner.announcers import local_nodes, ranked
from services.planner.bgp.sessions import covers
from weir.decider import Change, World
from weir.events import (
    AnnouncersPlanned,
    BgpAdvertisementGone,
    BgpAdvertisementObserved,
    BgpRoutePlanned,
    NodeCordoned,
    NodeLeft,
    NodeRetired,
    NodeSeen,
    NodeUncordoned,
    VipAllocated,
)
from weir.lbnodes import counted


def routes(world: World, vip: VipAllocated, announcers: list[AnnouncersPlanned]) -> list[BgpRoutePlanned]:
    """The plan of who tells routers of the VIP; empty where nobody is to be told.   announcers: of the VIP."""
    advertised = any(covers(each, vip) for each in world.of(BgpAdvertisementObserved))
    if not advertised or vip.shared_with_node:
        return []
    order = [node for planned in announcers for node in planned.nodes]
    order += ranked(vip.vip, {seen.node for seen in counted(world)} - {*order})
    local, cordoned = local_nodes(world, vip.vip), {event.lbnode for event in world.of(NodeCordoned)}
    serving = [node for node in order if local is None or node in local]
    nodes = [node for node in serving if node not in cordoned] or serving
    return [BgpRoutePlanned(vip=vip.vip, nodes=tuple(nodes), root=vip.root)] if nodes else []


def touched(world: World, change: Change) -> set[str]:
    """The VIPs that others may tell of after `change`, as "VIP/192.0.2.1"; beside those that others may announce."""
    match change.fact.event:
        case BgpAdvertisementObserved() | BgpAdvertisementGone():
            return {f"VIP/{vip.vip}" for vip in world.of(VipAllocated)}
        case NodeSeen() | NodeRetired() | NodeLeft() | NodeCordoned() | NodeUncordoned() if world.of(BgpAdvertisementObserved):
            return {f"VIP/{vip.vip}" for vip in world.of(VipAllocated)}
    return set()
