"""LB nodes: what each reports of itself (author: dataplane-NODE), and what others observed of it."""

from typing import ClassVar

from weir.events.base import Event
from weir.model import Rejection


class OfNode(Event, frozen=True, kw_only=True):
    """An event about one node, stated by that node."""

    author: ClassVar[str] = "dataplane"
    node: str

    def entity(self) -> tuple[str, str]:
        return "", self.node


class NodeSeen(OfNode, frozen=True, kw_only=True, tag="node_seen"):
    """A node forwards: how, and on which interfaces."""

    kind: ClassVar[str] = "lbnode"
    hook: str
    layout: int
    interfaces: tuple[str, ...]
    hooks: tuple[str, ...] = ()  # of each interface in turn: tc, xdp native, xdp generic
    local_backends: bool = False  # it serves backends at addresses of its own too
    hellos: bool = False  # it says hello to others, and so can take turns with them in announcing VIPs

    @property
    def attached(self) -> str:
        """What came of "auto", for people; what was asked for, where that is not known."""
        return ", ".join(sorted(set(filter(None, self.hooks)))) or self.hook


class NodeAddressesObserved(OfNode, frozen=True, kw_only=True, tag="node_addresses_observed"):
    """The addresses of a node's own, on all its interfaces, and its default gateways; none loopback or link-local."""

    kind: ClassVar[str] = "addresses"
    addresses: tuple[str, ...] = ()  # by family, then number
    gateways: tuple[str, ...] = ()  # likewise


class AppliedThrough(OfNode, frozen=True, kw_only=True, tag="applied_through"):
    """The node's kernel holds the plan up to sequence `seq`, read back, but for `rejected`."""

    kind: ClassVar[str] = "applied"
    seq: int
    rejected: tuple[Rejection, ...] = ()
    writes: int = 0  # map entries written or deleted to get here from the watermark before


class VipTaken(OfNode, frozen=True, kw_only=True, tag="vip_taken"):
    """The node claimed the VIP on the wire: gratuitous ARP or unsolicited NA on `interfaces`."""

    kind: ClassVar[str] = "taken"
    vip: str
    interfaces: tuple[str, ...]

    def entity(self) -> tuple[str, str]:
        return "", self.vip


class PeersObserved(OfNode, frozen=True, kw_only=True, tag="peers_observed"):
    """Which LB nodes this one hears, by their hellos; itself among them."""

    kind: ClassVar[str] = "peers"
    alive: tuple[str, ...] = ()  # by name
    ready: tuple[str, ...] = ()  # of these, who may announce VIPs


class MapPressure(OfNode, frozen=True, kw_only=True, tag="map_pressure"):
    """A kernel map passed a tenth of its size, up or down: `used_percent` is rounded down to tens."""

    kind: ClassVar[str] = "pressure"
    map: str
    used_percent: int

    def entity(self) -> tuple[str, str]:
        return "", self.map


class _OfLbNode(Event, frozen=True, kw_only=True):
    """An event about an LB node that another than itself states."""

    lbnode: str

    def entity(self) -> tuple[str, str]:
        return "", self.lbnode


class NodeSilent(_OfLbNode, frozen=True, kw_only=True, tag="node_silent"):
    """Nothing is heard of the LB node.  Its kernel may forward on; nobody waits for it, except to reassign an address."""

    author: ClassVar[str] = "watcher"
    kind: ClassVar[str] = "silence"


class NodeHeard(_OfLbNode, frozen=True, kw_only=True, tag="node_heard"):
    """The LB node is heard again, or was retired."""

    author: ClassVar[str] = "watcher"
    kind: ClassVar[str] = "silence"
    gone: ClassVar[bool] = True


class NodeRetired(_OfLbNode, frozen=True, kw_only=True, tag="node_retired"):
    """The LB node is gone: its Node or its LBNode was deleted.  It counts for nothing until it reports itself after this."""

    author: ClassVar[str] = "watcher"
    kind: ClassVar[str] = "retired"
    reason: str = ""


class NodeCordoned(_OfLbNode, frozen=True, kw_only=True, tag="node_cordoned"):
    """The LB node is the last choice to announce any VIP, until it is uncordoned (`weir node cordon`)."""

    author: ClassVar[str] = "operator"
    kind: ClassVar[str] = "cordon"


class NodeUncordoned(_OfLbNode, frozen=True, kw_only=True, tag="node_uncordoned"):
    """The LB node may announce VIPs again (`weir node uncordon`)."""

    author: ClassVar[str] = "operator"
    kind: ClassVar[str] = "cordon"
    gone: ClassVar[bool] = True


class NodeLeft(_OfLbNode, frozen=True, kw_only=True, tag="node_left"):
    """An operator removed the LB node (`weir leave`).  It counts for nothing until it reports itself after this."""

    author: ClassVar[str] = "operator"
    kind: ClassVar[str] = "left"
