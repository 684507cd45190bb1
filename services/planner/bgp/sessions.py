"""The part that plans sessions with routers: which LB nodes have one, and which VIPs they offer in it.

A session's offers name ranges of addresses and no VIP: what a VIP costs, when it comes or goes, is one route (`routes.py`).
"""

from collections.abc import Mapping

from msgspec.structs import replace

from weir.decider import Change, Index, World
from weir.events import (
    AnyEvent,
    BgpAdvertisementGone,
    BgpAdvertisementObserved,
    BgpPeerGone,
    BgpPeerObserved,
    BgpSessionPlanned,
    Event,
    NodeGone,
    NodeLeft,
    NodeObserved,
    NodeRetired,
    NodeSeen,
    PoolGone,
    PoolObserved,
    VipAllocated,
    VipFreed,
    VipReleased,
    key,
    object_key,
)
from weir.lbnodes import counted
from weir.model import BgpOffer, Root, Selector, name_in, selects

HOSTNAME = "kubernetes.io/hostname"  # the label by which a node is chosen that is no node of a cluster


class Sessions:
    """An owner is a "BGPPeer/tor"."""

    kinds = ("BGPPeer",)
    indexes: Mapping[str, Index] = {}
    subscribes: tuple[type[Event], ...] = (BgpPeerObserved, BgpAdvertisementObserved, BgpSessionPlanned, PoolObserved)

    def owners(self, world: World) -> list[str]:
        """All that were read."""
        return [peer.root.owner for peer in world.of(BgpPeerObserved)]

    def touched(self, world: World, change: Change) -> set[str]:
        """A router that changed; all of them, where pools, nodes or advertisements did."""
        event, before = change.fact.event, change.before
        match event:
            case BgpPeerObserved(root=root) | BgpPeerGone(root=root):
                return {root.owner}
            case VipAllocated() | VipReleased() | VipFreed():
                return {*self.owners(world)} if _is_orphaned(event) or _is_orphaned(before) else set()
            case BgpAdvertisementObserved() | BgpAdvertisementGone() | PoolObserved() | PoolGone():
                return {*self.owners(world)}
        return {*self.owners(world)} if chooses_anew(change) else set()

    def plan(self, world: World, owner: str) -> list[AnyEvent]:
        """The session, where a node is to have it."""
        peer = world.get(object_key(owner))
        nodes = chosen(world, peer.nodes) if isinstance(peer, BgpPeerObserved) else ()
        if not isinstance(peer, BgpPeerObserved) or not nodes:
            return []
        advertisements = sorted(world.of(BgpAdvertisementObserved), key=lambda each: each.root.path)
        offers = tuple(offer for each in advertisements if concerns(each, peer) and (offer := _offer(world, each, nodes)))
        return [BgpSessionPlanned(peer=peer.root.path, session=peer.session, nodes=nodes, offers=offers, root=peer.root)]


def covers(advertisement: BgpAdvertisementObserved, vip: VipAllocated) -> bool:
    """Whether the VIP is of a pool that is advertised."""
    return not advertisement.pools or vip.pool in _paths(advertisement.root, advertisement.pools)


def concerns(advertisement: BgpAdvertisementObserved, peer: BgpPeerObserved) -> bool:
    """Whether the router is told of what is advertised."""
    return not advertisement.peers or peer.root.path in _paths(advertisement.root, advertisement.peers)


def chooses_anew(change: Change) -> bool:
    """Whether other LB nodes may be `chosen` after `change`: one came or went, or has other labels."""
    event, before = change.fact.event, change.before
    if isinstance(event, NodeObserved):
        return not isinstance(before, NodeObserved) or event.labels != before.labels
    return isinstance(event, NodeGone | NodeSeen | NodeRetired | NodeLeft)


def chosen(world: World, selectors: tuple[Selector, ...]) -> tuple[str, ...]:
    """The LB nodes that one of `selectors` selects; all of them where there is none."""
    nodes = sorted(seen.node for seen in counted(world))
    return tuple(node for node in nodes if not selectors or any(selects(each, _labels(world, node)) for each in selectors))


def _labels(world: World, node: str) -> dict[str, str]:
    observed = world.get(key("watcher", "node", "", node))
    return {HOSTNAME: node, **(observed.labels if isinstance(observed, NodeObserved) else {})}


def _offer(world: World, advertisement: BgpAdvertisementObserved, having: tuple[str, ...]) -> BgpOffer | None:
    """What these nodes offer by an advertisement; None where they or its pools offer nothing.

    A VIP that its pool does not offer any more is told on as long as it is held.
    """
    nodes = tuple(node for node in chosen(world, advertisement.nodes) if node in having)
    if not advertisement.pools:
        return replace(advertisement.offer, nodes=nodes) if nodes else None
    pools = _paths(advertisement.root, advertisement.pools)
    ranges = [text for pool in world.of(PoolObserved) if pool.root.path in pools for text in pool.addresses]
    ranges += [vip.vip for vip in world.of(VipAllocated) if vip.orphaned and vip.pool in pools]
    return replace(advertisement.offer, nodes=nodes, ranges=tuple(ranges)) if nodes and ranges else None


def _paths(root: Root, names: tuple[str, ...]) -> set[str]:
    """Names that an object gives are of its own cluster."""
    return {name_in(root.source, name) for name in names}


def _is_orphaned(event: AnyEvent | None) -> bool:
    return isinstance(event, VipAllocated) and event.orphaned
