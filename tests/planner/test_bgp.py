"""Sessions with routers: who has them, what is offered in them, and who tells of a VIP."""

from msgspec.structs import replace

from tests.planner.test_touched import Log, seen, served
from weir.events import (
    AnyEvent,
    BgpAdvertisementGone,
    BgpAdvertisementObserved,
    BgpPeerGone,
    BgpPeerObserved,
    BgpRoutePlanned,
    BgpSessionPlanned,
    EndpointSliceObserved,
    NodeCordoned,
    NodeHeard,
    NodeLeft,
    NodeObserved,
    NodeSilent,
    NodeUncordoned,
    PoolGone,
    PoolObserved,
    ServiceObserved,
    VipAllocated,
    VipTaken,
)
from weir.model import BgpOffer, BgpSession, Endpoint, Requirement, Root, Selector

RACK_1 = (Selector(labels={"rack": "1"}),)


def peer(name: str = "tor", nodes: tuple[Selector, ...] = (), source: str = "") -> BgpPeerObserved:
    session = BgpSession(local_asn=65001, peer_asn=65000, address="192.0.2.254")
    return BgpPeerObserved(root=Root(kind="BGPPeer", name=name, source=source), session=session, nodes=nodes)


def advertisement(name: str = "all", offer: BgpOffer = BgpOffer(), source: str = "", **more: tuple[str, ...]) -> BgpAdvertisementObserved:
    return BgpAdvertisementObserved(root=Root(kind="BGPAdvertisement", name=name, source=source), offer=offer, **more)  # type: ignore[arg-type]


def pool(name: str, *addresses: str) -> PoolObserved:
    return PoolObserved(root=Root(kind="VIPPool", name=name), addresses=addresses)


def node(name: str, **labels: str) -> NodeObserved:
    return NodeObserved(root=Root(kind="Node", name=name), labels=labels)


def log(*events: AnyEvent) -> Log:
    found = Log()
    found.take(seen("lb-1"), seen("lb-2"), *events)
    return found


def sessions(log: Log) -> dict[str, tuple[str, ...]]:
    return {planned.peer: planned.nodes for planned in log.fold.world.of(BgpSessionPlanned)}


def offers(log: Log, name: str = "tor") -> tuple[BgpOffer, ...]:
    return next(planned.offers for planned in log.fold.world.of(BgpSessionPlanned) if planned.peer == name)


def routes(log: Log) -> dict[str, tuple[str, ...]]:
    return {planned.vip: planned.nodes for planned in log.fold.world.of(BgpRoutePlanned)}


def test_all_nodes_have_a_session_or_those_that_are_selected() -> None:
    found = log(peer(), peer("rack", RACK_1), node("lb-1", rack="1"))
    assert sessions(found) == {"tor": ("lb-1", "lb-2"), "rack": ("lb-1",)}
    found.take(node("lb-1", rack="2"), node("lb-2", rack="1"))
    assert sessions(found)["rack"] == ("lb-2",)
    found.take(node("lb-2", rack="2"))
    assert sessions(found) == {"tor": ("lb-1", "lb-2")}
    found.take(seen("lb-3"), NodeLeft(lbnode="lb-1"))
    assert sessions(found) == {"tor": ("lb-2", "lb-3")}
    found.take(BgpPeerGone(root=peer().root))
    assert sessions(found) == {}


def test_a_box_that_is_no_node_of_a_cluster_is_selected_by_its_hostname() -> None:
    by_name = Selector(expressions=(Requirement(key="kubernetes.io/hostname", operator="In", values=("lb-2", "lb-3")),))
    assert sessions(log(peer("tor", (by_name,)))) == {"tor": ("lb-2",)}


def test_an_advertisement_offers_the_ranges_of_its_pools() -> None:
    found = log(peer(), advertisement(pools=("a", "b")), pool("a", "203.0.113.0/28"), pool("c", "198.51.100.0/28"))
    assert offers(found) == (BgpOffer(nodes=("lb-1", "lb-2"), ranges=("203.0.113.0/28",)),)
    found.take(pool("b", "2001:db8::/124"))
    assert offers(found)[0].ranges == ("203.0.113.0/28", "2001:db8::/124")
    found.take(PoolGone(root=pool("a").root), PoolGone(root=pool("b").root))
    assert offers(found) == (), "with no pool left it is not everything that is offered"
    found.take(advertisement())
    assert offers(found) == (BgpOffer(nodes=("lb-1", "lb-2")),)
    found.take(BgpAdvertisementGone(root=advertisement().root))
    assert offers(found) == ()


def test_a_vip_that_its_pool_offers_no_more_is_offered_on() -> None:
    vip = VipAllocated(vip="203.0.113.99", pool="a", holders=("Service/shop/web",), root=Root(kind="Service", name="web", namespace="shop"))
    found = log(peer(), advertisement(pools=("a",)), pool("a", "203.0.113.0/28"), vip)
    found.take(replace(vip, orphaned=True))
    assert offers(found)[0].ranges == ("203.0.113.0/28", "203.0.113.99")


def test_an_advertisement_is_for_some_routers_and_from_some_nodes() -> None:
    found = log(peer("a"), peer("b"), node("lb-1", rack="1"))
    found.take(replace(advertisement("to-a", BgpOffer(med=5), peers=("a",)), nodes=RACK_1))
    assert offers(found, "a") == (BgpOffer(med=5, nodes=("lb-1",)),)
    assert offers(found, "b") == ()


def test_names_are_of_the_objects_own_cluster() -> None:
    found = log(peer(), peer(source="east"), advertisement(source="east", peers=("tor",)))
    assert (offers(found), len(offers(found, "east:tor"))) == ((), 1)


def test_every_node_tells_of_a_vip_that_is_advertised() -> None:
    found = log(peer(), *served(1))
    assert routes(found) == {}
    found.take(advertisement())
    assert {vip: {*nodes} for vip, nodes in routes(found).items()} == {"192.0.2.1": {"lb-1", "lb-2"}}
    found.take(seen("lb-3"))
    assert {*routes(found)["192.0.2.1"]} == {"lb-1", "lb-2", "lb-3"}
    found.take(advertisement(pools=("other",)))
    assert routes(found) == {}


def test_a_cordoned_node_tells_of_none_as_long_as_another_does() -> None:
    found = log(peer(), advertisement(), *served(1))
    ((vip, _),) = routes(found).items()
    found.take(NodeCordoned(lbnode="lb-1"))
    assert routes(found) == {vip: ("lb-2",)}
    found.take(NodeCordoned(lbnode="lb-2"))
    assert {*routes(found)[vip]} == {"lb-1", "lb-2"}, "somebody has to"
    found.take(NodeUncordoned(lbnode="lb-1"))
    assert routes(found) == {vip: ("lb-1",)}


def test_a_cordoned_node_tells_on_where_no_other_can() -> None:
    found = log(peer("tor", RACK_1), node("lb-1", rack="1"), advertisement(), *served(1))
    assert routes(found) == {"192.0.2.1": ("lb-1",)}, "lb-2 has no session"
    found.take(NodeCordoned(lbnode="lb-1"))
    assert routes(found) == {"192.0.2.1": ("lb-1",)}
    found.take(node("lb-2", rack="1"))
    assert routes(found) == {"192.0.2.1": ("lb-2",)}
    found.take(NodeSilent(lbnode="lb-2"))
    assert {*routes(found)["192.0.2.1"]} == {"lb-1", "lb-2"}, "nothing is heard of the other"
    found.take(NodeHeard(lbnode="lb-2"))
    assert routes(found) == {"192.0.2.1": ("lb-2",)}
    found.take(BgpPeerGone(root=peer().root))
    assert routes(found) == {}
    assert not list(found.core.reconcile(found.fold.world))


def test_who_took_a_vip_over_is_the_first_to_be_preferred() -> None:
    found = Log()
    found.take(*(replace(seen(name), hellos=True) for name in ("lb-1", "lb-2")), peer(), advertisement(), *served(1))
    ((vip, (first, second)),) = routes(found).items()
    found.take(VipTaken(node=second, vip=vip, interfaces=("eth0",)))
    assert routes(found) == {vip: (second, first)}


def test_a_node_without_a_session_tells_of_nothing_though_it_announces() -> None:
    found = Log()
    hellos = (replace(seen(name), hellos=True) for name in ("lb-1", "lb-2"))
    found.take(*hellos, node("lb-1", rack="1"), peer("tor", RACK_1), advertisement(), *served(1))
    assert routes(found) == {"192.0.2.1": ("lb-1",)}


def test_only_nodes_with_a_backend_tell_of_a_service_that_wants_its_own_nodes() -> None:
    observed, slice_of_it, _ = events = list(served(1))
    assert isinstance(observed, ServiceObserved)
    assert isinstance(slice_of_it, EndpointSliceObserved)
    found = log(peer(), advertisement(), node("lb-1"), node("lb-2"), *events)
    found.take(replace(observed, local=True))
    assert routes(found) == {}, "its endpoint names no node"
    for name in ("lb-2", "lb-1"):
        found.take(replace(slice_of_it, endpoints=(Endpoint(address="10.0.0.1", node=name),)))
        assert routes(found) == {"192.0.2.1": (name,)}
    assert not list(found.core.reconcile(found.fold.world))
