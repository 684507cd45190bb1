"""The part that plans VIPs: nodes answer for what is allocated, in turns where there are several, and stop where it is released."""

from collections.abc import Mapping

from services.planner.announcers import INDEXES, announcers, touched
from services.planner.bgp import routes
from services.planner.shared.programmed import vip_planned
from weir.decider import Change, Index, World
from weir.events import (
    AnnouncersPlanned,
    AnyEvent,
    BgpAdvertisementObserved,
    BgpPeerObserved,
    BgpRoutePlanned,
    Event,
    NodeCordoned,
    PoolObserved,
    VipAllocated,
    VipFreed,
    VipPlanned,
    VipReleased,
    VipTaken,
    VipWithdrawn,
    key,
)


class Vips:
    """See the module.  An owner is "VIP/192.0.2.1"; a VIP that is freed keeps its withdrawal."""

    kinds = ("VIP",)
    indexes: Mapping[str, Index] = INDEXES
    subscribes: tuple[type[Event], ...] = (
        *(VipAllocated, VipPlanned, AnnouncersPlanned, NodeCordoned, PoolObserved, VipTaken),
        *(BgpAdvertisementObserved, BgpPeerObserved, BgpRoutePlanned),
    )

    def owners(self, world: World) -> list[str]:
        """All that are allocated or released."""
        return [f"VIP/{event.vip}" for kind in (VipAllocated, VipReleased) for event in world.of(kind)]

    def touched(self, world: World, change: Change) -> set[str]:
        """The VIP whose holders changed, and those that other nodes may announce now."""
        match change.fact.event:
            case VipAllocated(vip=vip) | VipReleased(vip=vip) | VipFreed(vip=vip):
                return {f"VIP/{vip}"} | touched(world, change)
        return touched(world, change) | routes.touched(world, change)

    def plan(self, world: World, owner: str) -> list[AnyEvent]:
        """What nodes are to do for the VIP."""
        match world.get(key("ipam", "vip", "", owner.removeprefix("VIP/"))):
            case VipAllocated() as event:
                order = announcers(world, event)
                return [vip_planned(event), *order, *routes.routes(world, event, order)]
            case VipReleased() as event:
                return [VipWithdrawn(vip=event.vip, release=world.seq(event), root=event.root)]
        return []
