"""A log with ipam on it, and events as tests say them."""

from collections.abc import Sequence
from typing import Any

from services.ipam.core import Ipam
from weir.decider import Fact, Fold
from weir.events import (
    AnyEvent,
    AppliedThrough,
    NodeAddressesObserved,
    NodeObserved,
    NodeSeen,
    PoolGone,
    PoolObserved,
    RecordObserved,
    ServiceGone,
    ServiceObserved,
    VipAllocated,
    VipDenied,
    VipReleased,
    VipWithdrawn,
    key_of,
)
from weir.model import Family, Requirement, Root, Selector, ServicePort, shown


def root(path: str, kind: str = "Service", generation: int = 0) -> Root:
    """path: "namespace/name", or a name in namespace shop."""
    source, _, rest = path.rpartition(":")
    namespace, _, name = rest.rpartition("/")
    return Root(
        kind=kind, name=name, namespace="" if kind in ("VIPPool", "Node") else namespace or "shop", source=source, generation=generation
    )


def service(path: str, *requested: str, families: Sequence[Family] = (), generation: int = 0, **fields: Any) -> ServiceObserved:
    fields = {"exposed": True, **fields}
    return ServiceObserved(root=root(path, generation=generation), requested=requested, families=tuple(families), **fields)


def gone(name: str) -> ServiceGone:
    return ServiceGone(root=root(name))


def pool(name: str, *addresses: str, **fields: Any) -> PoolObserved:
    return PoolObserved(root=root(name, "VIPPool"), addresses=addresses, **fields)


def pool_gone(name: str) -> PoolGone:
    return PoolGone(root=root(name, "VIPPool"))


def node(name: str) -> NodeSeen:
    return NodeSeen(node=name, hook="tc", layout=1, interfaces=("eth0",))


def addresses(name: str, *own: str, gateways: Sequence[str] = ()) -> NodeAddressesObserved:
    return NodeAddressesObserved(node=name, addresses=own, gateways=tuple(gateways))


TIER = Selector(labels={"tier": "web"})
NOT_TIER = Selector(expressions=(Requirement(key="tier", operator="NotIn", values=("web",)),))
SHOP = Selector(labels={"kubernetes.io/metadata.name": "shop"})
TEAM = Selector(expressions=(Requirement(key="team", operator="Exists"),))


class Log:
    """The log and ipam on it: what is said is appended, heard and answered."""

    def __init__(self, *events: AnyEvent, reported: bool = True) -> None:
        """reported: an LB node has reported its addresses, of which no pool here has any."""
        self.facts: list[Fact] = []
        self.fold = Fold(Ipam(), "ipam")
        for event in (*([addresses("lb-0", "198.51.100.1")] if reported else []), *events):
            self.say(event)

    def say(self, event: AnyEvent) -> list[AnyEvent]:
        """What follows from `event`."""
        decided, _ = self.fold.hear([self._append(event)])
        self.fold.acked(decided, len(self.facts) + 1)
        for item in decided:
            assert self.fold.hear([self._append(item.event)]) == ([], [])
        return [item.event for item in decided]

    def restart(self) -> list[AnyEvent]:
        """A new life, begun from the last fact per entity; what it owes is appended."""
        before = self.fold.world.facts
        self.fold = Fold(Ipam(), "ipam")
        for fact in sorted({key_of(fact.event): fact for fact in self.facts}.values()):
            self.fold.load(fact)
        self.fold.position = len(self.facts)
        assert self.fold.world.facts == before
        owed = self.fold.caught_up()
        self.causes = [(type(item.event).__name__, item.cause) for item in owed]
        self.fold.acked(owed, len(self.facts) + 1)
        for item in owed:
            self.fold.hear([self._append(item.event)])
        return [item.event for item in owed]

    def withdraw(self, vip: str) -> list[AnyEvent]:
        """The planner answers the release of `vip`."""
        released = next(event for event in self.fold.world.of(VipReleased) if event.vip == vip)
        return self.say(VipWithdrawn(vip=vip, release=self.fold.world.seq(released), root=released.root))

    def applied(self, name: str) -> list[AnyEvent]:
        """A node has applied everything so far."""
        return self.say(AppliedThrough(node=name, seq=len(self.facts)))

    def vips(self) -> dict[str, str]:
        """VIP -> its Service."""
        return {event.vip: shown(event.holders[0]) for event in self.fold.world.of(VipAllocated)}

    def holders(self) -> dict[str, tuple[str, ...]]:
        """VIP -> all its Services."""
        return {event.vip: tuple(map(shown, event.holders)) for event in self.fold.world.of(VipAllocated)}

    def denied(self, name: str) -> VipDenied:
        (claim,) = [claim for claim in self.fold.world.of(VipDenied) if claim.owner == f"Service/shop/{name}"]
        return claim

    def _append(self, event: AnyEvent) -> Fact:
        self.facts.append(Fact(len(self.facts) + 1, event))
        return self.facts[-1]


def record(path: str, *vips: str) -> RecordObserved:
    return RecordObserved(root=root(path, "LBService"), vips=vips)


def cluster_node(name: str, *addresses: str) -> NodeObserved:
    return NodeObserved(root=root(name, "Node"), addresses=addresses)


PORT_80, PORT_443 = (ServicePort(port=80),), (ServicePort(port=443),)
