"""BGP: what was asked for (author: watcher), what is planned of it (planner), and how sessions stand (dataplane-NODE)."""

from typing import ClassVar

from weir.events.base import ObjectEvent
from weir.events.nodes import OfNode
from weir.events.plan import Planned, Withdrawn
from weir.model import BgpOffer, BgpSession, Root, Selector, SessionState
from weir.words import few


class BgpPeerObserved(ObjectEvent, frozen=True, kw_only=True, tag="bgp_peer_observed"):
    """A BGPPeer: a router that LB nodes tell of VIPs."""

    kind: ClassVar[str] = "bgppeer"
    session: BgpSession
    nodes: tuple[Selector, ...] = ()  # LB nodes that have the session, by labels; empty: all

    def stated(self) -> str:
        return f"{self.root.path}: {self.session.address or self.session.interface} AS {self.session.peer_asn}"


class BgpPeerGone(ObjectEvent, frozen=True, kw_only=True, tag="bgp_peer_gone"):
    """The BGPPeer is no more."""

    kind: ClassVar[str] = "bgppeer"
    gone: ClassVar[bool] = True


class BgpAdvertisementObserved(ObjectEvent, frozen=True, kw_only=True, tag="bgp_advertisement_observed"):
    """A BGPAdvertisement: the VIPs of some pools are told to some routers by some nodes.  Empty: all of them."""

    kind: ClassVar[str] = "bgpadvertisement"
    offer: BgpOffer  # without ranges and nodes, which follow from the pools and the nodes that there are
    pools: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    nodes: tuple[Selector, ...] = ()

    def stated(self) -> str:
        return f"{self.root.path}: {few(self.pools) or 'all pools'} to {few(self.peers) or 'all peers'}"


class BgpAdvertisementGone(ObjectEvent, frozen=True, kw_only=True, tag="bgp_advertisement_gone"):
    """The BGPAdvertisement is no more."""

    kind: ClassVar[str] = "bgpadvertisement"
    gone: ClassVar[bool] = True


class BgpSessionPlanned(Planned, frozen=True, kw_only=True, tag="bgp_session_planned"):
    """Nodes have a session with a router, and offer it VIPs."""

    kind: ClassVar[str] = "bgpsession"
    peer: str  # the BGPPeer's path
    session: BgpSession
    nodes: tuple[str, ...]
    offers: tuple[BgpOffer, ...] = ()
    root: Root

    def entity(self) -> tuple[str, str]:
        return "", self.peer

    def planned_for(self) -> str:
        return self.root.owner

    def summary(self) -> str:
        at = f"{self.session.address or self.session.interface}, AS {self.session.peer_asn}"
        return f"{self.peer}: AS {self.session.local_asn} to {at}, from {few(self.nodes)}"

    def withdrawal(self) -> "BgpSessionWithdrawn":
        return BgpSessionWithdrawn(peer=self.peer, root=self.root)


class BgpSessionWithdrawn(Withdrawn, frozen=True, kw_only=True, tag="bgp_session_withdrawn"):
    """The session ends."""

    kind: ClassVar[str] = "bgpsession"
    peer: str

    def entity(self) -> tuple[str, str]:
        return "", self.peer


class BgpRoutePlanned(Planned, frozen=True, kw_only=True, tag="bgp_route_planned"):
    """The nodes that tell routers of a VIP, as far as the offers of a session allow: the first is preferred by those that want one."""

    kind: ClassVar[str] = "bgproute"
    vip: str
    nodes: tuple[str, ...]
    root: Root

    def entity(self) -> tuple[str, str]:
        return "", self.vip

    def planned_for(self) -> str:
        return f"VIP/{self.vip}"

    def summary(self) -> str:
        return f"{self.vip} from {few(self.nodes)}"

    def withdrawal(self) -> "BgpRouteWithdrawn":
        return BgpRouteWithdrawn(vip=self.vip, root=self.root)


class BgpRouteWithdrawn(Withdrawn, frozen=True, kw_only=True, tag="bgp_route_withdrawn"):
    """No node tells a router of the VIP."""

    kind: ClassVar[str] = "bgproute"
    vip: str

    def entity(self) -> tuple[str, str]:
        return "", self.vip


class BgpSessionsObserved(OfNode, frozen=True, kw_only=True, tag="bgp_sessions_observed"):
    """How the sessions of a node stand, by peer."""

    kind: ClassVar[str] = "bgpsessions"
    sessions: tuple[SessionState, ...] = ()

    def summary(self) -> str:
        told = (f"{each.peer} {'established' if each.established else f'down: {each.reason}'}" for each in self.sessions)
        return f"{self.node}: {'; '.join(told) or 'none'}"
