"""What LB nodes have to do with VIPs: which wait for them, and which are addresses of theirs."""

import pytest
from ipam_log import PORT_80, PORT_443, Log, addresses, cluster_node, gone, node, pool, pool_gone, root, service

from weir.events import (
    AppliedThrough,
    ClaimSettled,
    NodeHeard,
    NodeLeft,
    NodeRetired,
    NodeSilent,
    VipAllocated,
    VipDenied,
    VipFreed,
    VipPlanned,
    VipWithdrawn,
    key,
)
from weir.model import Family, Rejection, ServicePort, endpoint_name, shown


def test_released_address_is_given_on_only_when_every_node_has_let_go() -> None:
    log = Log(node("n1"), node("n2"), pool("p", "192.0.2.1/32"), service("a"), service("b"), service("c"), gone("a"))
    assert log.vips() == {}
    assert log.applied("n1") == log.applied("n2") == [], "they hold the plan as it was before the planner heard"
    assert log.withdraw("192.0.2.1") == []
    assert log.applied("n1") == []
    assert [type(event) for event in log.applied("n2")] == [VipFreed, VipAllocated, ClaimSettled, VipDenied]
    assert log.vips() == {"192.0.2.1": "shop/b"}
    assert log.denied("c").holders == ("Service/shop/b",)


def test_node_that_could_not_let_go_keeps_the_address() -> None:
    log = Log(node("n1"), pool("p", "192.0.2.1/32"), service("a"), gone("a"))
    log.withdraw("192.0.2.1")
    refused = Rejection(entity=key("planner", "planvip", "", "192.0.2.1"), reason="map vips: delete: Input/output error")
    assert log.say(AppliedThrough(node="n1", seq=len(log.facts), rejected=(refused,))) == []
    assert [type(event) for event in log.applied("n1")] == [VipFreed]


@pytest.mark.parametrize(("vip", "other"), [("192.0.2.1", "192.0.2.11"), ("2001:db8::1", "2001:db8::11")])
def test_a_node_that_still_forwards_for_an_address_keeps_it(vip: str, other: str) -> None:
    def forwards_for(address: str) -> Rejection:
        name = endpoint_name(address, 80, "TCP")
        return Rejection(entity=key("planner", "frontend", "", name), reason="map frontends: delete: Input/output error")

    log = Log(node("n1"), pool("p", f"{vip}-{vip}"), service("a"), gone("a"))
    log.withdraw(vip)
    assert log.say(AppliedThrough(node="n1", seq=len(log.facts), rejected=(forwards_for(vip),))) == []
    freed = log.say(AppliedThrough(node="n1", seq=len(log.facts), rejected=(forwards_for(other),)))
    assert [type(event) for event in freed] == [VipFreed], "a frontend of another VIP holds up nothing"


def test_a_node_that_left_is_not_waited_for() -> None:
    log = Log(pool("p", "192.0.2.0/32"), node("n1"), node("n2"), service("a"), gone("a"))
    log.withdraw("192.0.2.0")
    assert log.applied("n1") == []
    (freed,) = log.say(NodeLeft(lbnode="n2"))
    assert isinstance(freed, VipFreed)


def test_who_waits_is_told_of_an_address_that_is_released_while_a_node_is_silent() -> None:
    log = Log(pool("p", "192.0.2.1/32"), node("n1"), service("a"), service("b"), NodeSilent(lbnode="n1"))
    assert "waits for" not in log.denied("b").message
    log.say(gone("a"))
    assert "192.0.2.1 is released, and waits for n1" in log.denied("b").message
    assert log.restart() == []


def test_an_address_that_a_silent_node_may_forward_for_waits_and_says_for_whom_until_the_node_is_retired() -> None:
    log = Log(pool("p", "192.0.2.1/32"), node("n1"), node("n2"), service("a"), gone("a"), service("b"))
    log.withdraw("192.0.2.1")
    log.applied("n1")
    assert "waits for" not in log.denied("b").message
    log.say(NodeSilent(lbnode="n2"))
    assert log.denied("b").message == (
        "every IPv4 address of p is held; 192.0.2.1 is released, and waits for n2, of which nothing is heard;"
        " if it is gone: kubectl delete lbnode n2, or weir leave --node n2"
    )
    assert log.say(service("c", "192.0.2.1"))[-1].message.startswith("192.0.2.1 is held by shop/a; 192.0.2.1 is released")  # type: ignore[union-attr]
    log.say(NodeHeard(lbnode="n2"))
    assert log.denied("b").message == "every IPv4 address of p is held"
    log.say(NodeRetired(lbnode="n2"))
    assert log.vips() == {"192.0.2.1": "shop/b"}


def test_a_node_that_reports_itself_after_it_was_retired_is_waited_for_again() -> None:
    log = Log(pool("p", "192.0.2.0/31"), node("n1"), node("n2"), service("a"), service("b"), NodeRetired(lbnode="n2"), node("n2"))
    log.say(gone("a"))
    log.withdraw("192.0.2.0")
    assert log.applied("n1") == []
    assert [type(event) for event in log.applied("n2")] == [VipFreed]


def test_withdrawal_of_an_earlier_release_does_not_count() -> None:
    log = Log(node("n1"), pool("p", "192.0.2.1/32"), service("a"), gone("a"))
    log.withdraw("192.0.2.1")
    log.applied("n1")
    log.say(service("b"))
    log.say(VipPlanned(vip="192.0.2.1", root=root("b")))
    log.say(gone("b"))
    assert log.applied("n1") == []
    old = next(fact for fact in log.facts if isinstance(fact.event, VipWithdrawn))
    assert log.say(old.event) == log.applied("n1") == []


def test_an_address_of_a_node_is_nobodys_vip() -> None:
    log = Log(cluster_node("n1", "192.0.2.0"), pool("p", "192.0.2.0/31"), service("web"), service("api", "192.0.2.0"))
    assert log.vips() == {"192.0.2.1": "shop/web"}
    assert (log.denied("api").reason, log.denied("api").message) == ("AddressInUse", "192.0.2.0 is node n1's own address")
    log.say(cluster_node("n1", "192.0.2.9"))
    assert log.vips() == {"192.0.2.1": "shop/web", "192.0.2.0": "shop/api"}


def test_nothing_is_given_before_an_lb_node_reported_its_addresses() -> None:
    log = Log(pool("p", "192.0.2.1-192.0.2.3"), service("web"), service("api", "192.0.2.1"), reported=False)
    log.say(service("dual", families=("IPv4", "IPv6"), family_policy="PreferDualStack"))
    assert (log.vips(), log.denied("web").reason) == ({}, "NoNode")
    log.say(node("lb-1"))
    assert log.vips() == {}
    log.say(addresses("lb-1", "192.0.2.1"))
    assert log.vips() == {"192.0.2.2": "shop/web", "192.0.2.3": "shop/dual"}
    assert log.denied("api").reason == "AddressInUse"
    assert log.restart() == []


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_an_address_of_an_lb_node_or_of_its_gateway_is_never_drawn_and_denied_by_name(family: Family) -> None:
    own, gateway, free = ("192.0.2.1", "192.0.2.2", "192.0.2.3") if family == "IPv4" else ("fd00::1", "fd00::2", "fd00::3")
    log = Log(node("lb-1"), addresses("lb-1", own, gateways=[gateway]), pool("p", f"{own}-{free}"), service("web", families=[family]))
    assert log.vips() == {free: "shop/web"}
    log.say(service("a", own))
    log.say(service("b", gateway))
    assert {shown(claim.owner): (claim.reason, claim.message) for claim in log.fold.world.of(VipDenied)} == {
        "shop/a": ("AddressInUse", f"{own} is LB node lb-1's own address; pool p can share it by ports: shareWithNodes"),
        "shop/b": ("AddressInUse", f"{gateway} is the default gateway of LB node lb-1"),
    }
    log.say(addresses("lb-1", "198.51.100.7"))
    assert log.vips() == {free: "shop/web", own: "shop/a", gateway: "shop/b"}
    assert log.restart() == []


def test_addresses_of_a_node_that_left_are_given_to_those_who_wait_until_it_comes_back() -> None:
    log = Log(node("lb-1"), addresses("lb-1", "192.0.2.1"), pool("p", "192.0.2.1/32"), service("web"))
    words = "every IPv4 address of p is held; 192.0.2.1 of LB nodes or their gateways is given only on request"
    assert (log.denied("web").reason, log.denied("web").message) == ("PoolExhausted", words)
    log.say(NodeLeft(lbnode="lb-1"))
    assert log.vips() == {"192.0.2.1": "shop/web"}
    (marked,) = log.say(node("lb-1"))
    assert isinstance(marked, VipAllocated)
    assert (marked.holders, marked.in_use_by) == (("Service/shop/web",), "LB node lb-1's own address")


def test_an_address_that_a_machine_comes_to_have_is_marked_and_stays_with_its_service() -> None:
    log = Log(node("lb-1"), pool("p", "192.0.2.0/30"), service("web"), service("api"), service("dns"))
    log.say(addresses("lb-1", "192.0.2.0", gateways=["192.0.2.1"]))
    log.say(cluster_node("n1", "192.0.2.2"))
    assert log.holders() == {"192.0.2.0": ("shop/web",), "192.0.2.1": ("shop/api",), "192.0.2.2": ("shop/dns",)}
    assert {vip.vip: vip.in_use_by for vip in log.fold.world.of(VipAllocated)} == {
        "192.0.2.0": "LB node lb-1's own address",
        "192.0.2.1": "the default gateway of LB node lb-1",
        "192.0.2.2": "node n1's own address",
    }
    assert log.restart() == []
    log.say(addresses("lb-1"))
    log.say(cluster_node("n1"))
    assert {vip.in_use_by for vip in log.fold.world.of(VipAllocated)} == {""}


def test_a_pool_may_share_an_lb_nodes_address_by_ports_with_those_who_name_it() -> None:
    own = (node("lb-1"), addresses("lb-1", "192.0.2.1", gateways=["192.0.2.2"]), cluster_node("n1", "192.0.2.3"))
    granted = pool("p", "192.0.2.1-192.0.2.3", share="ports", share_with_nodes=True)
    log = Log(*own, granted, service("drawn", ports=PORT_80), service("a", "192.0.2.1", ports=PORT_80))
    for name, vip in {"b": "192.0.2.1", "gateway": "192.0.2.2", "node": "192.0.2.3"}.items():
        log.say(service(name, vip, ports=PORT_443))
    log.say(service("unnamed", ports=(ServicePort(port=53),)))
    assert log.holders() == {"192.0.2.1": ("shop/a", "shop/b")}
    assert [vip.shared_with_node for vip in log.fold.world.of(VipAllocated)] == [True]
    assert {log.denied(name).reason for name in ("gateway", "node")} == {"AddressInUse"}
    assert {log.denied(name).reason for name in ("drawn", "unnamed")} == {"PoolExhausted"}
    assert log.restart() == []


def test_sharing_follows_the_pool_and_the_machine() -> None:
    granted = pool("p", "192.0.2.1/32", share_with_nodes=True)
    log = Log(node("lb-1"), pool("p", "192.0.2.1/32"), service("web"))

    def shared() -> bool:
        (vip,) = log.fold.world.of(VipAllocated)
        return vip.shared_with_node

    assert not shared()
    log.say(granted)
    assert not shared()  # no machine has it
    log.say(addresses("lb-1", "192.0.2.1"))
    assert shared()
    log.say(pool_gone("p"))
    assert shared()  # nothing is taken from the machine by an edit
    log.say(pool("p", "192.0.2.1/32"))
    assert not shared()
    log.say(granted)
    log.say(addresses("lb-1"))
    assert not shared()
