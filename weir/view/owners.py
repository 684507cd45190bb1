"""Owners of VIPs on the wire: which LB node announces each, and who would after it."""

from weir.decider import World
from weir.events import AnnouncersPlanned, NodeCordoned, PeersObserved, VipTaken
from weir.view.value import View


class OwnerView(View, frozen=True):
    """One VIP that LB nodes take turns in announcing.

    node: who took it last; "" before anybody did.   order: who may announce it, the first choice first.
    ready: who of these can, as `node` hears them.   cordoned: who of these is the last choice by `weir node cordon`.
    """

    vip: str
    node: str
    order: tuple[str, ...]
    ready: tuple[str, ...]
    cordoned: tuple[str, ...]


def owners(world: World) -> list[OwnerView]:
    """Return every VIP with a choice of nodes, by address."""
    taken: dict[str, VipTaken] = {}
    for event in sorted(world.of(VipTaken), key=world.seq):
        taken[event.vip] = event
    heard = {event.node: event for event in world.of(PeersObserved)}
    cordoned = {event.lbnode for event in world.of(NodeCordoned)}
    found = []
    for planned in sorted(world.of(AnnouncersPlanned), key=lambda planned: planned.vip):
        node = taken[planned.vip].node if planned.vip in taken else ""
        ready = heard[node].ready if node in heard else ()
        able, last = (tuple(name for name in planned.nodes if name in names) for names in (ready, cordoned))
        found.append(OwnerView(vip=planned.vip, node=node, order=planned.nodes, ready=able, cordoned=last))
    return found
