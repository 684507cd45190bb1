"""Who gets which VIP: rows for the rules, and a state machine against a model that only reads the log."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from itertools import combinations, product
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.ipam.core import SUBSCRIBES, Ipam
from services.ipam.pools import blocks_of, first_free
from weir.decider import Fact, Fold
from weir.events import (
    AnyEvent,
    AppliedThrough,
    ClaimSettled,
    NamespaceGone,
    NamespaceObserved,
    NodeAddressesObserved,
    NodeHeard,
    NodeLeft,
    NodeObserved,
    NodeRetired,
    NodeSeen,
    NodeSilent,
    PoolGone,
    PoolObserved,
    RecordGone,
    RecordObserved,
    ServiceGone,
    ServiceObserved,
    VipAllocated,
    VipDenied,
    VipFreed,
    VipPlanned,
    VipReleased,
    VipWithdrawn,
    key,
    key_of,
)
from weir.model import Family, FamilyPolicy, Rejection, Requirement, Root, Selector, ServicePort, endpoint_name, family_of, selects, shown


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


# ── rows ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_fact_it_decides_on_is_of_a_kind_it_hears() -> None:
    decided_on = (ServiceObserved, ServiceGone, PoolObserved, PoolGone, NamespaceObserved, NamespaceGone, VipWithdrawn, AppliedThrough)
    own = (VipAllocated, VipReleased, VipFreed, VipDenied, ClaimSettled)
    assert {event.kind for event in (*decided_on, *own)} <= {event.kind for event in SUBSCRIBES}


def test_exposed_service_gets_the_first_address() -> None:
    log = Log(pool("p", "192.0.2.8/30"))
    assert log.say(service("web")) == [VipAllocated(vip="192.0.2.8", pool="p", holders=("Service/shop/web",), root=root("web"))]


def test_service_that_is_not_exposed_gets_none() -> None:
    assert Log(pool("p", "192.0.2.8/30")).say(service("web", exposed=False)) == []


def test_service_before_any_pool_waits_and_is_served_when_one_comes() -> None:
    log = Log(service("web"))
    assert log.denied("web").reason == "NoPool"
    assert [type(event) for event in log.say(pool("p", "192.0.2.8/32"))] == [VipAllocated, ClaimSettled]
    assert log.vips() == {"192.0.2.8": "shop/web"}


def test_exhausted_pool_is_reported_not_raised() -> None:
    log = Log(pool("p", "192.0.2.8/31"), service("a"), service("b"))
    (denied,) = log.say(service("c"))
    assert isinstance(denied, VipDenied)
    assert (denied.reason, denied.holders, denied.since) == ("PoolExhausted", ("Service/shop/a", "Service/shop/b"), len(log.facts) - 1)
    assert "192.0.2" not in denied.message
    assert "p" in denied.message


def test_exhausted_pool_names_at_most_ten_holders() -> None:
    log = Log(pool("p", "192.0.2.0/28"), *(service(f"s{number:02}") for number in range(16)))
    log.say(service("late"))
    assert log.denied("late").holders == tuple(f"Service/shop/s{number:02}" for number in range(10))


def test_holders_are_told_whatever_their_pool_was_called() -> None:
    log = Log(pool("old", "192.0.2.8/32"), service("a"), pool_gone("old"), pool("new", "192.0.2.8/32"), service("b"))
    assert (log.denied("b").reason, log.denied("b").holders) == ("PoolExhausted", ("Service/shop/a",))


def test_address_outside_the_pools_is_denied_with_what_they_offer() -> None:
    log = Log(pool("p", "192.0.2.0/24"), pool("q", "198.51.100.1-198.51.100.9"), service("web", "203.0.113.1"))
    denied = log.denied("web")
    assert denied.reason == "AddressOutsidePools"
    assert denied.message == "203.0.113.1 is in no pool; pools offer 192.0.2.0/24, 198.51.100.1-198.51.100.9"


def test_address_that_is_held_is_denied_with_its_holder() -> None:
    log = Log(pool("p", "192.0.2.0/24"), service("a", "192.0.2.7"), service("b", "192.0.2.7"))
    assert (log.denied("b").reason, log.denied("b").holders) == ("AddressHeld", ("Service/shop/a",))


def test_released_address_is_still_held() -> None:
    log = Log(node("n1"), pool("p", "192.0.2.0/24"), service("a", "192.0.2.7"), gone("a"), service("b", "192.0.2.7"))
    assert (log.denied("b").reason, log.denied("b").holders) == ("AddressHeld", ("Service/shop/a",))


def test_requested_address_is_given_even_where_none_is_given_unasked() -> None:
    log = Log(pool("p", "192.0.2.0/24", auto_assign=False, avoid_buggy_ips=True), service("web", "192.0.2.0"), service("other"))
    assert log.vips() == {"192.0.2.0": "shop/web"}
    assert log.denied("other").reason == "NoPool"


def test_addresses_that_old_equipment_refuses_are_avoided() -> None:
    log = Log(pool("p", "192.0.2.254-192.0.3.1", avoid_buggy_ips=True), *(service(name) for name in "abc"))
    assert log.vips() == {"192.0.2.254": "shop/a", "192.0.3.1": "shop/b"}
    assert log.denied("c").reason == "PoolExhausted"


@pytest.mark.parametrize(
    ("addresses", "vips"),
    [
        ("2001:db8::/126", ["2001:db8::1", "2001:db8::2", "2001:db8::3"]),
        ("2001:db8::/127", ["2001:db8::", "2001:db8::1"]),
        ("2001:db8::/128", ["2001:db8::"]),
        ("2001:db8::-2001:db8::1", ["2001:db8::", "2001:db8::1"]),
    ],
)
def test_the_anycast_address_of_an_ipv6_subnet_is_given_to_who_asks_for_it_alone(addresses: str, vips: list[str]) -> None:
    """RFC 4291 2.6.1; whoever wrote a range, or a /127, meant its first address too."""
    log = Log(pool("p", addresses), *(service(f"s{number}") for number in range(4)))
    assert sorted(log.vips()) == vips
    asking = Log(pool("p", addresses), service("web", "2001:db8::"))
    assert asking.vips() == {"2001:db8::": "shop/web"}


def record(path: str, *vips: str) -> RecordObserved:
    return RecordObserved(root=root(path, "LBService"), vips=vips)


def test_a_service_gets_again_what_was_written_down_and_nobody_else_does() -> None:
    log = Log(
        pool("p", "192.0.2.1-192.0.2.3"), record("b", "192.0.2.1"), record("c", "192.0.2.3"), service("a"), service("b"), service("c")
    )
    assert log.vips() == {"192.0.2.2": "shop/a", "192.0.2.1": "shop/b", "192.0.2.3": "shop/c"}


def test_who_asks_by_name_for_what_was_written_down_waits_for_its_owner() -> None:
    log = Log(pool("p", "192.0.2.1-192.0.2.3"), record("b", "192.0.2.1"), service("a", "192.0.2.1"))
    assert (log.denied("a").reason, log.denied("a").holders) == ("AddressHeld", ("Service/shop/b",))
    log.say(service("b"))
    assert log.vips() == {"192.0.2.1": "shop/b"}


def test_who_waits_for_what_was_written_down_gets_it_once_the_record_names_another() -> None:
    log = Log(pool("p", "192.0.2.1-192.0.2.3"), record("b", "192.0.2.1"), service("a", "192.0.2.1"))
    log.say(record("b", "192.0.2.2"))
    assert log.vips() == {"192.0.2.1": "shop/a"}


def test_who_shared_what_was_written_down_shares_it_again_by_name() -> None:
    log = Log(pool("p", "192.0.2.1-192.0.2.3"), record("b", "192.0.2.1"), record("c", "192.0.2.1"))
    log.say(service("c", "192.0.2.1", ports=(ServicePort(port=443),), share_key="k"))
    log.say(service("b", "192.0.2.1", ports=(ServicePort(port=80),), share_key="k"))
    assert log.holders() == {"192.0.2.1": ("shop/c", "shop/b")}


def test_a_shared_address_that_was_written_down_is_shared_again() -> None:
    key = {"share_key": "k"}
    log = Log(pool("p", "192.0.2.1-192.0.2.3"), record("b", "192.0.2.2"), record("c", "192.0.2.2"))
    log.say(service("b", ports=(ServicePort(port=80),), **key))
    log.say(service("c", ports=(ServicePort(port=443),), **key))
    assert log.holders() == {"192.0.2.2": ("shop/b", "shop/c")}


def test_what_was_written_down_is_free_when_the_record_goes_and_does_not_bind_what_the_pools_no_longer_offer() -> None:
    log = Log(pool("p", "192.0.2.1/32"), record("b", "192.0.2.1"), record("c", "192.0.2.9"), service("a"))
    assert log.denied("a").reason == "PoolExhausted"
    log.say(RecordGone(root=root("b", "LBService")))
    assert log.vips() == {"192.0.2.1": "shop/a"}
    log.say(pool("q", "192.0.2.4/32"))
    log.say(service("c"))
    assert log.vips()["192.0.2.4"] == "shop/c"


@pytest.mark.parametrize("wish", ["203.0.113.99", "2001:db8:ffff::1"])
def test_a_service_whose_wish_no_pool_offers_gets_again_what_was_recorded_as_kept(wish: str) -> None:
    log = Log(pool("p", "192.0.2.8/29"), record("web", "192.0.2.9"), service("web", wish), service("a"), service("b"))
    assert log.vips() == {"192.0.2.9": "shop/web", "192.0.2.8": "shop/a", "192.0.2.10": "shop/b"}
    assert log.denied("web").message == f"{wish} is in no pool; pools offer 192.0.2.8/29; the Service keeps 192.0.2.9"
    assert log.restart() == []
    log.say(service("web", "192.0.2.11"))
    assert [vip for vip, holder in log.vips().items() if holder == "shop/web"] == ["192.0.2.11"]


def test_what_was_recorded_as_kept_is_given_again_once_a_pool_offers_it_and_a_node_has_reported() -> None:
    log = Log(record("web", "192.0.2.9"), service("web", "203.0.113.99"), reported=False)
    log.say(pool("p", "192.0.2.8/29"))
    assert log.vips() == {}
    log.say(addresses("lb-0", "198.51.100.1"))
    assert log.vips() == {"192.0.2.9": "shop/web"}


def test_one_recorded_address_is_given_again_for_each_wish_that_no_pool_offers_and_none_that_is_asked_for() -> None:
    kept = record("web", "192.0.2.9", "192.0.2.10", "192.0.2.11")
    log = Log(pool("p", "192.0.2.8/29"), kept, service("web", "203.0.113.99", "192.0.2.9"))
    assert log.vips() == {"192.0.2.9": "shop/web", "192.0.2.10": "shop/web"}
    log.say(service("web", "203.0.113.99", "192.0.2.9", generation=2))
    assert log.vips() == {"192.0.2.9": "shop/web", "192.0.2.10": "shop/web"}


def test_both_families_of_a_service_are_given_again_where_it_keeps_one_for_a_wish() -> None:
    fields = {"families": ("IPv4", "IPv6"), "family_policy": "RequireDualStack"}
    log = Log(
        pool("p", "192.0.2.8/29", "2001:db8::/125"), record("web", "192.0.2.9", "2001:db8::3"), service("web", "203.0.113.99", **fields)
    )
    assert log.vips() == {"192.0.2.9": "shop/web", "2001:db8::3": "shop/web"}


def test_a_recorded_address_that_is_drawn_again_is_not_taken_for_a_wish_that_no_pool_offers() -> None:
    fields = {"families": ("IPv4", "IPv6"), "family_policy": "PreferDualStack"}
    log = Log(pool("p", "192.0.2.8/29", "2001:db8::/125"), record("web", "2001:db8::3"), service("web", "203.0.113.99", **fields))
    assert log.vips() == {"2001:db8::3": "shop/web"}


def test_further_addresses_are_given_beside_the_one_that_is_drawn() -> None:
    log = Log(pool("p", "192.0.2.1-192.0.2.9", "2001:db8::1/128"), service("web", more_requested=("192.0.2.7", "2001:db8::1")))
    assert set(log.vips()) == {"192.0.2.1", "192.0.2.7", "2001:db8::1"}
    log.say(service("web", more_requested=("192.0.2.8",)))
    assert set(log.vips()) == {"192.0.2.1", "192.0.2.8"}, "the drawn one stays"
    log.say(service("web", more_requested=()))
    assert set(log.vips()) == {"192.0.2.1"}


def test_a_further_address_that_is_held_is_named_and_the_drawn_one_given() -> None:
    log = Log(pool("p", "192.0.2.1-192.0.2.9"), service("a", "192.0.2.7"), service("b", more_requested=("192.0.2.7",)))
    assert log.vips() == {"192.0.2.7": "shop/a", "192.0.2.1": "shop/b"}
    assert (log.denied("b").reason, log.denied("b").holders) == ("AddressHeld", ("Service/shop/a",))


def test_pools_are_drawn_from_by_priority_then_name() -> None:
    log = Log(pool("a", "192.0.2.1/32"), pool("c", "192.0.2.3/32", priority=5), pool("b", "192.0.2.2/32", priority=5))
    for name in "xyz":
        log.say(service(name))
    assert log.vips() == {"192.0.2.1": "shop/z", "192.0.2.2": "shop/x", "192.0.2.3": "shop/y"}


def test_ranges_are_drawn_from_in_the_order_written() -> None:
    log = Log(pool("p", "192.0.2.9-192.0.2.9", "192.0.2.1/32"), service("a"), service("b"))
    assert log.vips() == {"192.0.2.1": "shop/b", "192.0.2.9": "shop/a"}


@pytest.mark.parametrize(
    ("families", "expected"),
    [((), {"192.0.2.1"}), (("IPv4",), {"192.0.2.1"}), (("IPv6",), {"2001:db8::1"}), (("IPv6", "IPv4"), {"192.0.2.1", "2001:db8::1"})],
)
def test_families_are_given_as_asked(families: Sequence[Family], expected: set[str]) -> None:
    log = Log(pool("p", "192.0.2.1/32", "2001:db8::1/128"), service("web", families=families))
    assert set(log.vips()) == expected


def test_family_is_that_of_the_pools_or_of_the_address_asked_for() -> None:
    assert Log(pool("p", "2001:db8::1/128"), service("web")).vips() == {"2001:db8::1": "shop/web"}
    assert set(Log(pool("p", "192.0.2.1/32", "2001:db8::1/128"), service("web", "2001:db8::1")).vips()) == {"2001:db8::1"}


def test_second_family_may_wait_while_the_first_is_served() -> None:
    log = Log(pool("p", "192.0.2.1/32"), service("web", families=("IPv4", "IPv6")))
    assert (set(log.vips()), log.denied("web").family) == ({"192.0.2.1"}, "IPv6")
    log.say(pool("q", "2001:db8::1/128"))
    assert set(log.vips()) == {"192.0.2.1", "2001:db8::1"}
    assert log.fold.world.of(VipDenied) == []


def test_vip_stays_when_its_pool_goes_or_another_family_comes() -> None:
    log = Log(pool("p", "2001:db8::1/128"), service("web"))
    (orphaned,) = log.say(pool_gone("p"))
    assert isinstance(orphaned, VipAllocated)
    assert (orphaned.vip, orphaned.holders, orphaned.orphaned) == ("2001:db8::1", ("Service/shop/web",), True)
    assert log.say(pool("q", "192.0.2.1/32")) == []
    assert log.say(service("web", generation=2)) == []


def test_asking_for_another_address_releases_the_first_and_gives_the_second() -> None:
    log = Log(pool("p", "192.0.2.0/30"), service("web"))
    produced = log.say(service("web", "192.0.2.2"))
    assert [(type(event), event.vip) for event in produced if isinstance(event, VipReleased | VipAllocated)] == [
        (VipReleased, "192.0.2.0"),
        (VipAllocated, "192.0.2.2"),
    ]


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


def test_oldest_waiter_is_served_first_and_keeps_its_turn_through_edits() -> None:
    log = Log(service("late"), service("early"))
    since = log.denied("late").since
    log.say(service("late", generation=2))
    assert log.denied("late").since == since
    log.say(pool("p", "192.0.2.1/32"))
    assert log.vips() == {"192.0.2.1": "shop/late"}


def test_claim_of_a_service_that_goes_is_settled() -> None:
    log = Log(service("web"))
    assert log.say(gone("web")) == [ClaimSettled(owner="Service/shop/web", family="IPv4", root=root("web"))]


def test_denial_is_true_again_when_the_holders_change() -> None:
    log = Log(pool("p", "192.0.2.0/31", avoid_buggy_ips=True), service("a"), service("b"))
    assert log.denied("b").holders == ("Service/shop/a",)
    log.say(service("c", "192.0.2.0"))
    assert log.restart() == [], "what a restart would tell otherwise should have been told"


@pytest.mark.parametrize(
    ("addresses", "avoid"), [("2001:db8::/96", False), ("10.0.0.0/8", False), ("10.0.0.0/8", True), ("10.0.0.7-10.0.9.9", True)]
)
def test_addresses_are_given_in_order_without_a_gap(addresses: str, avoid: bool) -> None:
    log = Log(pool("p", addresses, avoid_buggy_ips=avoid))
    for number in range(600):
        log.say(service(f"s{number}"))
    first = int(ip_address(addresses.split("-")[0]) if "-" in addresses else ip_network(addresses)[0])
    first += addresses.endswith("/96")  # the routers' anycast address
    drawn = [number for number in range(first, first + 620) if not (avoid and number & 255 in (0, 255))]
    assert sorted(int(ip_address(vip)) for vip in log.vips()) == drawn[:600]


@pytest.mark.parametrize("avoid", [False, True])
def test_search_costs_the_full_blocks_not_the_addresses(avoid: bool) -> None:
    taken, looks = Counter[str](), Counter[str]()
    for number in range(0x0A000000, 0x0A004000):
        if not (avoid and number & 255 in (0, 255)):
            taken.update(blocks_of(ip_address(number)))

    def count(word: str) -> int:
        looks[word] += 1
        return taken[word]

    assert str(first_free(pool("p", "10.0.0.0/8", avoid_buggy_ips=avoid), "IPv4", count)) == f"10.0.64.{int(avoid)}"
    assert looks.total() < 80


# ── families ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_preferred_second_family_is_taken_when_a_pool_has_it_and_not_missed_while_none_has() -> None:
    log = Log(pool("p", "192.0.2.1/32"), service("web", family_policy="PreferDualStack"))
    assert (set(log.vips()), log.fold.world.of(VipDenied)) == ({"192.0.2.1"}, [])
    log.say(pool("q", "2001:db8::1/128"))
    assert set(log.vips()) == {"192.0.2.1", "2001:db8::1"}


def test_preference_takes_nothing_from_one_who_waits() -> None:
    log = Log(pool("p", "192.0.2.1/32"), service("a", family_policy="PreferDualStack"), service("b", families=["IPv6"]))
    log.say(pool("q", "2001:db8::1/128"))
    assert log.vips() == {"192.0.2.1": "shop/a", "2001:db8::1": "shop/b"}


def test_required_dual_stack_gives_both_or_nothing_but_takes_nothing_back() -> None:
    log = Log(pool("p", "192.0.2.0/31"), service("web", family_policy="RequireDualStack"), service("old"))
    assert (log.vips(), log.denied("web").family) == ({"192.0.2.0": "shop/old"}, "IPv6")
    log.say(service("old", family_policy="RequireDualStack", generation=2))
    assert (log.vips(), log.denied("old").family) == ({"192.0.2.0": "shop/old"}, "IPv6")
    log.say(pool("q", "2001:db8::/127"))
    assert log.vips() == {"192.0.2.0": "shop/old", "192.0.2.1": "shop/web", "2001:db8::": "shop/web", "2001:db8::1": "shop/old"}


# ── several addresses, and pools by name ───────────────────────────────────────────────────────────────────────────


def test_several_addresses_are_given_and_let_go_one_by_one() -> None:
    log = Log(pool("p", "192.0.2.0/29"), service("web", "192.0.2.1", "192.0.2.2"))
    log.say(service("web", "192.0.2.2", "192.0.2.3"))
    assert set(log.vips()) == {"192.0.2.2", "192.0.2.3"}
    assert [vip.vip for vip in log.fold.world.of(VipReleased)] == ["192.0.2.1"]


def test_one_address_more_from_each_further_pool() -> None:
    log = Log(pool("p", "192.0.2.0/31"), pool("q", "198.51.100.0/31", auto_assign=False), pool("r", "2001:db8::/127", auto_assign=False))
    log.say(service("web", more_pools=("q", "r"), family_policy="PreferDualStack"))
    assert set(log.vips()) == {"192.0.2.0", "198.51.100.0", "2001:db8::"}
    log.say(service("api", more_pools=("none",)))
    assert log.denied("api").message == "no pool named none offers IPv4 addresses"


def test_named_pools_are_drawn_from_in_the_order_named_even_those_that_give_none_unasked() -> None:
    log = Log(pool("p", "192.0.2.1/32", priority=9), pool("q", "192.0.2.2/32", auto_assign=False))
    for name in "abc":
        log.say(service(name, pools=("q", "p")))
    assert log.vips() == {"192.0.2.1": "shop/b", "192.0.2.2": "shop/a"}
    assert log.denied("c").holders == ("Service/shop/a", "Service/shop/b")


def test_asking_for_another_pool_moves_a_service_and_a_pool_that_goes_does_not() -> None:
    log = Log(pool("p", "192.0.2.1/32"), pool("q", "192.0.2.2/32"), service("web", pools=("p",)), pool_gone("p"))
    assert set(log.vips()) == {"192.0.2.1"}
    log.say(service("web", pools=("q",)))
    assert set(log.vips()) == {"192.0.2.2"}


@pytest.mark.parametrize("addresses", [("123.123.123.1/24",), ("123.123.123.7",), ("123.123.123.9/32",)])
def test_pools_with_host_bits_and_single_addresses(addresses: tuple[str, ...]) -> None:
    log = Log(pool("p", *addresses), service("web"))
    assert list(log.vips()) == [{"/24": "123.123.123.0"}.get(addresses[0][-3:], addresses[0].partition("/")[0])]


# ── selectors ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("selector", "labels", "selected"),
    [
        (Selector(), {}, True),
        (Selector(labels={"a": "1"}), {"a": "1", "b": "2"}, True),
        (Selector(labels={"a": "1", "b": "2"}), {"a": "1"}, False),
        (Selector(expressions=(Requirement(key="a", operator="In", values=("1", "2")),)), {"a": "2"}, True),
        (Selector(expressions=(Requirement(key="a", operator="In", values=("1",)),)), {}, False),
        (Selector(expressions=(Requirement(key="a", operator="NotIn", values=("1",)),)), {}, True),
        (Selector(expressions=(Requirement(key="a", operator="NotIn", values=("1",)),)), {"a": "1"}, False),
        (Selector(expressions=(Requirement(key="a", operator="Exists"),)), {"a": ""}, True),
        (Selector(expressions=(Requirement(key="a", operator="DoesNotExist"),)), {"a": ""}, False),
        (Selector(labels={"a": "1"}, expressions=(Requirement(key="b", operator="Exists"),)), {"a": "1"}, False),
    ],
)
def test_selectors_read_labels_as_kubernetes_does(selector: Selector, labels: dict[str, str], selected: bool) -> None:
    assert selects(selector, labels) is selected


def test_pool_that_selects_others_denies_and_serves_once_it_selects() -> None:
    log = Log(pool("p", "192.0.2.0/31", namespace_selector=TEAM), service("web"), service("api", "192.0.2.1"))
    assert {log.denied(name).reason for name in ("web", "api")} == {"NotSelected"}
    log.say(NamespaceObserved(root=Root(kind="Namespace", name="shop"), labels={"team": "x"}))
    assert log.vips() == {"192.0.2.0": "shop/web", "192.0.2.1": "shop/api"}


def test_namespace_has_its_name_for_a_label_though_nobody_said_so() -> None:
    log = Log(pool("p", "192.0.2.0/31", namespace_selector=SHOP), service("blog/web"), service("shop/web"))
    assert log.vips() == {"192.0.2.0": "shop/web"}


def test_a_pool_is_named_as_its_own_cluster_does_and_selects_the_namespaces_of_that_one() -> None:
    log = Log(pool("gold", "192.0.2.0/31"), pool("east:gold", "192.0.2.8/31"))
    for path in ("shop/web", "east:shop/web", "west:shop/web"):
        log.say(service(path, pools=("gold",)))
    assert log.vips() == {"192.0.2.0": "shop/web", "192.0.2.8": "east:shop/web", "192.0.2.1": "west:shop/web"}
    log = Log(pool("east:p", "192.0.2.0/31", namespace_selector=SHOP), service("shop/web"), service("east:shop/web"))
    assert log.vips() == {"192.0.2.0": "east:shop/web"}


def cluster_node(name: str, *addresses: str) -> NodeObserved:
    return NodeObserved(root=root(name, "Node"), addresses=addresses)


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


def test_what_was_written_down_is_not_given_again_where_a_node_has_it_by_now() -> None:
    log = Log(record("shop/web", "192.0.2.0"), cluster_node("n1", "192.0.2.0"), pool("p", "192.0.2.0/31"), service("web"))
    assert log.vips() == {"192.0.2.1": "shop/web"}


# ── orphans ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_edited_pool_marks_what_it_does_not_offer_any_more_and_unmarks_it_when_it_does() -> None:
    log = Log(pool("p", "192.0.2.0/30"), service("web"), service("api"))
    assert [(event.vip, event.orphaned) for event in log.say(pool("p", "192.0.2.1/32"))] == [("192.0.2.0", True)]  # type: ignore[union-attr]
    assert [(event.vip, event.orphaned) for event in log.say(pool("p", "192.0.2.0/30"))] == [("192.0.2.0", False)]  # type: ignore[union-attr]
    log.say(pool("p", "192.0.2.0/30", service_selector=TIER))
    assert {vip.orphaned for vip in log.fold.world.of(VipAllocated)} == {True}


def test_vips_of_a_pool_that_is_renamed_are_the_new_ones_but_for_those_of_who_named_the_old() -> None:
    log = Log(pool("old", "192.0.2.0/30"), service("web"), service("api", pools=("old",)))
    log.say(pool_gone("old"))
    log.say(pool("new", "192.0.2.0/30"))
    assert {shown(vip.holders[0]): (vip.pool, vip.orphaned) for vip in log.fold.world.of(VipAllocated)} == {
        "shop/web": ("new", False),
        "shop/api": ("old", True),
    }
    assert log.restart() == []


def test_orphan_is_shared_with_nobody_new() -> None:
    log = Log(pool("p", "192.0.2.0/31"), service("a", share_key="k", ports=PORT_80), pool("p", "192.0.2.1/32"))
    log.say(service("b", share_key="k", ports=PORT_443))
    assert log.vips() == {"192.0.2.0": "shop/a", "192.0.2.1": "shop/b"}


# ── sharing ────────────────────────────────────────────────────────────────────────────────────────────────────────

PORT_80, PORT_443 = (ServicePort(port=80),), (ServicePort(port=443),)


def test_services_with_one_key_share_a_vip_on_different_ports() -> None:
    log = Log(pool("p", "192.0.2.0/29"), service("a", share_key="k", ports=PORT_80), service("b", share_key="k", ports=PORT_443))
    (vip,) = log.fold.world.of(VipAllocated)
    assert (vip.vip, vip.holders, vip.share_key) == ("192.0.2.0", ("Service/shop/a", "Service/shop/b"), "k")
    log.say(service("c", share_key="k", ports=(ServicePort(port=80, protocol="UDP"),)))
    log.say(service("d", share_key="k", ports=PORT_80))
    assert {vip.vip: tuple(map(shown, vip.holders)) for vip in log.fold.world.of(VipAllocated)} == {
        "192.0.2.0": ("shop/a", "shop/b", "shop/c"),
        "192.0.2.1": ("shop/d",),
    }


def test_who_asks_for_anothers_address_by_the_same_key_of_another_namespace_is_told_why_not() -> None:
    log = Log(pool("p", "192.0.2.0/31"), service("blog/web", "192.0.2.0", share_key="k"), service("api", "192.0.2.0", share_key="k"))
    words = "192.0.2.0 is held by blog/web; a share key counts within a namespace, a pool with `share: ports` is shared by all"
    assert log.denied("api").message == words


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("shop/b", {"share_key": "other"}),
        ("shop/b", {}),
        ("shop/b", {"share_key": "k", "exclusive": True}),
        ("blog/b", {"share_key": "k"}),
    ],
)
def test_vip_is_shared_only_within_a_namespace_by_key_and_never_when_exclusive(path: str, fields: dict[str, Any]) -> None:
    log = Log(pool("p", "192.0.2.0/31"), service("a", share_key="k", ports=PORT_80))
    log.say(service(path, "192.0.2.0", ports=PORT_443, **fields))
    assert log.vips() == {"192.0.2.0": "shop/a"}
    (denied,) = log.fold.world.of(VipDenied)
    assert (denied.reason, denied.holders) == ("AddressHeld", ("Service/shop/a",))


def test_port_that_is_served_on_a_shared_address_is_denied_with_who_serves_it() -> None:
    log = Log(pool("p", "192.0.2.0/31"), service("a", "192.0.2.0", share_key="k", ports=PORT_80))
    log.say(service("b", "192.0.2.0", share_key="k", ports=PORT_80))
    assert (log.denied("b").reason, log.denied("b").message) == ("PortHeld", "192.0.2.0 serves 80/TCP for shop/a")
    log.say(service("a", "192.0.2.0", share_key="k", ports=PORT_443))
    assert [vip.holders for vip in log.fold.world.of(VipAllocated)] == [("Service/shop/a", "Service/shop/b")]


def test_of_two_that_clash_the_one_that_was_changed_gives_way() -> None:
    log = Log(pool("p", "192.0.2.0/31"))
    log.say(service("a", "192.0.2.0", share_key="k", ports=PORT_80))
    log.say(service("b", "192.0.2.0", share_key="k", ports=PORT_443))
    log.say(service("a", "192.0.2.0", share_key="k", ports=PORT_80 + PORT_443))
    assert log.vips() == {"192.0.2.0": "shop/b"}
    assert (log.denied("a").reason, log.denied("a").holders) == ("PortHeld", ("Service/shop/b",))


def test_clash_that_a_crash_left_behind_is_settled_against_the_one_that_was_changed() -> None:
    log = Log(pool("p", "192.0.2.0/31"))
    for path, ports in (("b", PORT_443), ("a", PORT_80)):
        log.say(service(path, "192.0.2.0", share_key="k", ports=ports))
    log.fold.load(log._append(service("b", "192.0.2.0", share_key="k", ports=PORT_80)))
    log.restart()
    assert log.vips() == {"192.0.2.0": "shop/a"}
    assert log.denied("b").reason == "PortHeld"


def test_what_a_restart_owes_names_the_event_it_follows_from_not_the_last_of_the_log() -> None:
    log = Log(pool("p", "192.0.2.0/31"), service("a"))
    missed = [log._append(event) for event in (service("b"), service("c"), node("n1"))]
    for fact in missed:
        log.fold.load(fact)
    assert log.restart()
    assert log.causes == [("VipAllocated", missed[0].seq), ("VipDenied", missed[1].seq)]


def test_services_of_a_pool_that_says_so_share_an_address_by_their_ports() -> None:
    log = Log(pool("p", "192.0.2.1/32", share="ports"), service("a", ports=PORT_80), service("blog/b", ports=PORT_443))
    assert log.holders() == {"192.0.2.1": ("shop/a", "blog/b")}
    (denied,) = log.say(service("c", ports=PORT_443))
    assert isinstance(denied, VipDenied)
    assert (denied.reason, denied.holders) == ("PoolExhausted", ("Service/blog/b",))
    log.say(service("blog/b", ports=(ServicePort(port=8080),)))
    assert log.holders() == {"192.0.2.1": ("shop/a", "blog/b", "shop/c")}, "the port that it let go of serves who waited"


def test_an_exclusive_service_stands_alone_in_such_a_pool_too() -> None:
    log = Log(pool("p", "192.0.2.0/31", share="ports"), service("a", ports=PORT_80, exclusive=True), service("b", ports=PORT_443))
    assert log.holders() == {"192.0.2.0": ("shop/a",), "192.0.2.1": ("shop/b",)}


def test_a_pool_that_is_not_shared_any_more_leaves_those_who_are_there_and_takes_in_nobody() -> None:
    log = Log(pool("p", "192.0.2.1/32", share="ports"), service("a", ports=PORT_80), service("b", ports=PORT_443))
    assert log.say(pool("p", "192.0.2.1/32")) == []
    assert log.restart() == []
    assert log.say(service("b", ports=PORT_443, labels={"a": "b"})) == []
    (denied,) = log.say(service("c", ports=(ServicePort(port=8080),)))
    assert isinstance(denied, VipDenied)


def test_preferred_family_is_shared_as_soon_as_there_is_somebody_to_share_with() -> None:
    log = Log(pool("p", "192.0.2.0/31"), pool("q", "2001:db8::1/128"), service("old", families=["IPv6"], ports=PORT_443))
    log.say(service("web", share_key="k", family_policy="PreferDualStack", ports=PORT_80))
    assert set(log.vips()) == {"192.0.2.0", "2001:db8::1"}
    log.say(service("old", families=["IPv6"], share_key="k", ports=PORT_443))
    assert {vip.vip: vip.holders for vip in log.fold.world.of(VipAllocated)}["2001:db8::1"] == ("Service/shop/old", "Service/shop/web")


def test_shared_vip_is_released_with_its_last_service() -> None:
    log = Log(pool("p", "192.0.2.0/31"), service("a", share_key="k", ports=PORT_80), service("b", share_key="k", ports=PORT_443))
    (left,) = log.say(gone("a"))
    assert isinstance(left, VipAllocated)
    assert (left.holders, left.root.name) == (("Service/shop/b",), "b")
    assert [type(event) for event in log.say(gone("b"))] == [VipReleased]


# ── the machine ────────────────────────────────────────────────────────────────────────────────────────────────────

SERVICES = st.sampled_from(["shop/a", "shop/b", "shop/c", "blog/d"])
NODES = ("n1", "n2")
V4, V6 = "192.0.2.", "2001:db8::"
RANGES = st.lists(
    st.sampled_from([f"{V4}0/31", f"{V4}2-{V4}3", f"{V4}4/32", f"{V6}/127", f"{V6}4-{V6}5", "198.51.100.0/32"]), min_size=1, max_size=3
).map(lambda ranges: tuple(dict.fromkeys(ranges)))
ASKED = st.lists(st.sampled_from([f"{V4}{n}" for n in range(5)] + [f"{V6}4", "203.0.113.9"]), max_size=2, unique=True).map(tuple)
MACHINES = st.lists(st.sampled_from([f"{V4}0", f"{V4}2", f"{V6}4", "198.51.100.9"]), max_size=2, unique=True)
FAMILIES = st.sampled_from([(), ("IPv4",), ("IPv6",), ("IPv4", "IPv6"), ("IPv6", "IPv4")])
POLICIES: st.SearchStrategy[FamilyPolicy] = st.sampled_from(["SingleStack", "PreferDualStack", "RequireDualStack"])
NAMED = st.sampled_from([(), (), ("p",), ("q", "p")])
MORE = st.sampled_from([(), (), (), ("q",), ("p", "q")])
PORTS = st.sets(st.sampled_from([(80, "TCP"), (443, "TCP"), (80, "UDP")]), min_size=1).map(
    lambda ports: tuple(ServicePort(port=port, protocol=protocol) for port, protocol in sorted(ports))
)


class Model:
    """What the log itself says, read without ipam's code."""

    def __init__(self) -> None:
        self.held: dict[str, VipAllocated] = {}
        self.released: dict[str, int] = {}  # VIP -> sequence
        self.withdrawn: dict[str, tuple[int, int]] = {}  # VIP -> release it answers, own sequence
        self.nodes: set[str] = set()
        self.machines: dict[str, NodeAddressesObserved] = {}
        self.applied: dict[str, int] = {}  # node -> applied through
        self.exposed: dict[str, ServiceObserved] = {}
        self.pools: dict[str, PoolObserved] = {}
        self.namespaces: dict[str, dict[str, str]] = {}
        self.waiting: dict[tuple[str, Family], int] = {}  # Service and family -> since
        self.settled: dict[str, int] = {}  # Service -> since, of claims settled by the decision under way
        self.speaker = ""  # the Service whose fact led to the decision under way

    def read(self, seq: int, event: AnyEvent) -> None:
        if event.author != "ipam":
            self.settled.clear()
            self.speaker = event.root.owner if isinstance(event, ServiceObserved | ServiceGone) else ""
        match event:
            case ServiceObserved(exposed=True):
                self.exposed[event.root.owner] = event
            case ServiceObserved() | ServiceGone():
                self.exposed.pop(event.root.owner, None)
            case PoolObserved():
                self.pools[event.root.name] = event
            case PoolGone():
                self.pools.pop(event.root.name, None)
            case NamespaceObserved(root=root, labels=labels):
                self.namespaces[root.name] = labels
            case NamespaceGone(root=root):
                self.namespaces.pop(root.name, None)
            case NodeSeen(node=name):
                self.nodes.add(name)
            case NodeAddressesObserved(node=name):
                self.machines[name] = event
            case NodeLeft(lbnode=name):
                self.nodes.discard(name)
            case AppliedThrough(node=name, seq=through):
                self.applied[name] = through
            case VipWithdrawn(vip=vip, release=release):
                self.withdrawn[vip] = (release, seq)
            case VipAllocated():
                self.allocated(event)
            case VipReleased(vip=vip, holders=services):
                before = self.held.pop(vip)
                assert before.holders == services, f"{vip} was not {services}'s"
                self.lost(vip, set(services))
                self.released[vip] = seq
            case VipFreed(vip=vip):
                release, withdrawn = self.withdrawn[vip]
                assert release == self.released.pop(vip), f"{vip}: the planner answered another release"
                assert all(self.applied.get(node, 0) >= withdrawn for node in self.nodes), f"a node may still forward for {vip}"
            case VipDenied(owner=name, family=family, since=since):
                assert since in {at for (other, _), at in self.waiting.items() if other == name} or name not in {
                    other for other, _ in self.waiting
                }, "lost its turn"
                self.waiting[name, family] = since
            case ClaimSettled(owner=name, family=family):
                self.settled[name] = self.waiting.pop((name, family))

    def lost(self, vip: str, services: set[str]) -> None:
        silent = {name for name in services - {self.speaker} if not self.moves(name, vip)}
        assert not silent, f"{vip} was pulled from {silent}, who said nothing"

    def moves(self, name: str, vip: str) -> bool:
        """Whether it kept `vip` for want of an address that it asks for by name, and that a pool offers now."""
        observed = self.exposed[name]
        asked = {*observed.requested, *observed.more_requested}
        missing = asked - {held for held, event in self.held.items() if name in event.holders}
        return vip not in asked and any(other in addresses_of(pool) for other in missing for pool in self.pools.values())

    def allocated(self, event: VipAllocated) -> None:
        before = self.held.get(event.vip)
        assert event != before, "said twice"
        assert event.vip not in self.released, f"{event.vip} was given before every node had let go"
        kept = tuple(name for name in (before.holders if before else ()) if name in event.holders)
        assert event.holders[: len(kept)] == kept, "the oldest holder comes first"
        self.lost(event.vip, set(before.holders if before else ()) - set(event.holders))
        for holder in set(event.holders) - set(kept):
            self.came(holder, event, fresh=before is None)
        self.held[event.vip] = event

    def came(self, holder: str, event: VipAllocated, *, fresh: bool) -> None:
        pool = self.pools[event.pool]
        assert event.vip in addresses_of(pool)
        assert self.wants(self.exposed[holder], event.vip, pool), f"{holder} did not ask for {event.vip}"
        mine = min([since for (name, _), since in self.waiting.items() if name == holder], default=self.settled.get(holder, 2**63))
        for (name, family), since in self.waiting.items() if fresh else ():  # nobody who would have taken it has waited longer
            other = self.exposed[name]
            would = family == family_of(event.vip) and not self.whole(name) and self.wants(other, event.vip, pool, missing=True)
            assert not would or (since, name) >= (mine, holder), f"{name} has waited longer than {holder}"

    def whole(self, name: str) -> bool:
        """It gets all or nothing."""
        return self.exposed[name].family_policy == "RequireDualStack" and not self.vips(name)

    def vips(self, name: str) -> set[str]:
        return {vip for vip, event in self.held.items() if name in event.holders}

    def wants(self, observed: ServiceObserved, vip: str, pool: PoolObserved, *, missing: bool = False) -> bool:
        """Whether it may be given `vip`; missing: which it is sure to lack."""
        if not self.selected(pool, observed):
            return False
        if self.occupied(vip) and not (vip in observed.requested and pool.share_with_nodes and self.owned(vip)):
            return False
        mine, family = self.vips(observed.root.owner), family_of(vip)
        asked = [address for address in observed.requested if family_of(address) == family]
        drawable = not (pool.avoid_buggy_ips and vip.endswith(".0"))
        if vip in observed.requested:
            return True
        if not missing and pool.root.name in observed.more_pools:
            return drawable
        named = pool.root.name in observed.pools if observed.pools else pool.auto_assign
        lacks = not missing or not any(family_of(held) == family for held in mine)
        possible = family in (observed.families or map(family_of, observed.requested) or (family,))
        possible |= observed.family_policy != "SingleStack" or not (observed.families or observed.requested)
        return possible and not asked and named and drawable and lacks

    def selected(self, pool: PoolObserved, observed: ServiceObserved) -> bool:
        namespace = observed.root.namespace
        labels = {**self.namespaces.get(namespace, {}), "kubernetes.io/metadata.name": namespace}
        web, in_shop, has_team = observed.labels.get("tier") == "web", namespace == "shop", "team" in labels
        rules = [(TIER, web), (NOT_TIER, not web), (SHOP, in_shop), (TEAM, has_team)]
        return all(met for selector, met in rules if selector in (pool.service_selector, pool.namespace_selector))

    def owned(self, vip: str) -> bool:
        """Whether it is an address of an LB node's own."""
        return any(vip in machine.addresses for name, machine in self.machines.items() if name in self.nodes)

    def occupied(self, vip: str) -> bool:
        """Whether a machine has it."""
        return self.owned(vip) or any(vip in machine.gateways for name, machine in self.machines.items() if name in self.nodes)

    def free(self) -> list[tuple[str, PoolObserved]]:
        """Addresses that nobody holds, and their pools."""
        offered = [(vip, pool) for pool in self.pools.values() for vip in sorted(addresses_of(pool))]
        return [(vip, pool) for vip, pool in offered if vip not in self.held and vip not in self.released]


def addresses_of(pool: PoolObserved) -> set[str]:
    found: set[str] = set()
    for text in pool.addresses:
        if "-" in text:
            first, last = map(ip_address, text.split("-"))
            found |= {
                str(ip_address(number) if first.version == 4 else first.__class__(number)) for number in range(int(first), int(last) + 1)
            }
        else:
            found |= {str(address) for address in ip_network(text)}
    return found


class Machine(RuleBasedStateMachine):
    """Everything that may happen to ipam, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.log, self.model, self.read = Log(), Model(), 0

    def feed(self, event: AnyEvent) -> None:
        self.log.say(event)
        self.follow()
        assert self.log.say(event) == [], "a repeated event must yield nothing new"
        self.follow()

    def follow(self) -> None:
        for fact in self.log.facts[self.read :]:
            self.model.read(*fact[:2])
        self.read = len(self.log.facts)

    @rule(
        path=SERVICES,
        asked=ASKED,
        families=FAMILIES,
        policy=POLICIES,
        pools=NAMED,
        more_pools=MORE,
        share_key=st.sampled_from(["", "k", "k", "l"]),
        exclusive=st.sampled_from([False, False, True]),
        ports=PORTS,
        web=st.booleans(),
    )
    def expose(
        self, path: str, asked: tuple[str, ...], families: tuple[Family, ...], policy: FamilyPolicy, web: bool, **fields: Any
    ) -> None:
        if families and policy == "SingleStack":  # as the watcher refuses the rest
            asked = tuple(address for address in asked if family_of(address) in families)
        observed = service(path, *asked, families=families, family_policy=policy, labels={"tier": "web"} if web else {}, **fields)
        self.feed(observed)

    @rule(path=SERVICES, remove=st.booleans())
    def withdraw(self, path: str, remove: bool) -> None:
        self.feed(gone(path) if remove else service(path, exposed=False))

    @rule(
        name=st.sampled_from(["p", "q"]),
        ranges=RANGES,
        auto_assign=st.booleans(),
        avoid_buggy_ips=st.booleans(),
        priority=st.integers(0, 1),
        share=st.sampled_from(["key", "key", "ports"]),
        share_with_nodes=st.booleans(),
        service_selector=st.sampled_from([None, None, TIER, NOT_TIER]),
        namespace_selector=st.sampled_from([None, None, SHOP, TEAM]),
    )
    def offer(self, name: str, ranges: tuple[str, ...], **fields: Any) -> None:
        others = {address for pool in self.model.pools.values() if pool.root.name != name for address in addresses_of(pool)}
        apart = [text for text in ranges if not others & addresses_of(pool(name, text))]  # the watcher refuses overlaps
        if apart:
            self.feed(pool(name, *apart, **fields))

    @rule(name=st.sampled_from(["p", "q"]))
    def remove_pool(self, name: str) -> None:
        self.feed(pool_gone(name))

    @rule(name=st.sampled_from(["shop", "blog"]), team=st.booleans(), remove=st.booleans())
    def label_namespace(self, name: str, team: bool, remove: bool) -> None:
        root = Root(kind="Namespace", name=name)
        self.feed(NamespaceGone(root=root) if remove else NamespaceObserved(root=root, labels={"team": "x"} if team else {}))

    @rule(name=st.sampled_from(NODES))
    def node_comes(self, name: str) -> None:
        self.feed(node(name))

    @rule(name=st.sampled_from(NODES), own=MACHINES, gateways=MACHINES)
    def node_reports_its_addresses(self, name: str, own: list[str], gateways: list[str]) -> None:
        self.feed(addresses(name, *own, gateways=gateways))

    @rule(name=st.sampled_from(NODES))
    def node_leaves(self, name: str) -> None:
        self.feed(NodeLeft(lbnode=name))

    @rule(name=st.sampled_from(NODES), behind=st.integers(0, 4))
    def node_applies(self, name: str, behind: int) -> None:
        self.feed(AppliedThrough(node=name, seq=max(0, len(self.log.facts) - behind)))

    @rule()
    def planner_follows(self) -> None:
        for vip, seq in sorted(self.model.released.items()):
            if self.model.withdrawn.get(vip, (0, 0))[0] != seq:
                self.feed(VipWithdrawn(vip=vip, release=seq, root=root("any")))

    @rule(data=st.data())
    def event_repeats(self, data: st.DataObject) -> None:
        """The last word of any entity once more, as a source says it that has forgotten."""
        said = [fact.event for fact in self.log.fold.world.facts.values() if fact.event.author != "ipam"]
        said = [event for event in said if not isinstance(event, VipWithdrawn | NodeLeft | NodeSeen)]  # each means what came before it
        if said:
            assert self.log.say(data.draw(st.sampled_from(said))) == []
            self.follow()

    @rule()
    def restart(self) -> None:
        assert self.log.restart() == [], "a restart owes nothing"

    @invariant()
    def world_is_what_the_log_says(self) -> None:
        assert {event.vip: event for event in self.log.fold.world.of(VipAllocated)} == self.model.held
        assert {vip.vip for vip in self.log.fold.world.of(VipReleased)} == set(self.model.released)
        assert {(claim.owner, claim.family) for claim in self.log.fold.world.of(VipDenied)} == set(self.model.waiting)

    @invariant()
    def every_exposed_service_is_served_or_waits(self) -> None:
        for name, observed in self.model.exposed.items():
            vips = self.model.vips(name)
            waits = {family for holder, family in self.model.waiting if holder == name}
            if self.model.whole(name):
                assert waits
                continue
            assert all(address in vips or family_of(address) in waits for address in self.asked(observed))
            families = observed.families or tuple(map(family_of, observed.requested))
            needed = families[:1] if observed.family_policy == "PreferDualStack" else families
            assert {family_of(vip) for vip in vips} | waits >= set(needed)
            assert vips or waits
        assert {name for vip in self.model.held.values() for name in vip.holders} <= set(self.model.exposed)

    @staticmethod
    def asked(observed: ServiceObserved) -> list[str]:
        families = {family_of(vip) for vip in observed.requested} if not observed.families else set(observed.families)
        return [vip for vip in observed.requested if family_of(vip) in families]

    @invariant()
    def nobody_waits_for_what_is_free(self) -> None:
        for name, observed in self.model.exposed.items():
            needs = {family for holder, family in self.model.waiting if holder == name}
            if observed.family_policy == "PreferDualStack":
                needs |= {"IPv4", "IPv6"} - {family_of(vip) for vip in self.model.vips(name)}
            for vip, pool in self.model.free() if not self.model.whole(name) else ():
                assert family_of(vip) not in needs or not self.model.wants(observed, vip, pool, missing=True), f"{name} could have {vip}"

    @invariant()
    def those_on_one_vip_agreed_to_share_it(self) -> None:
        for vip in self.model.held.values():
            holders = [self.model.exposed[name] for name in vip.holders]
            for one, other in combinations(holders, 2):
                assert vip.share == "ports" or one.root.namespace == other.root.namespace
                assert vip.share == "ports" or one.share_key == other.share_key == vip.share_key != ""
                assert not one.exclusive
                assert not other.exclusive
                assert not set(one.ports) & set(other.ports)

    @invariant()
    def nobody_waits_for_a_vip_that_its_pool_lets_it_share(self) -> None:
        for (name, family), vip in product(self.model.waiting, self.model.held.values()):
            observed, pool = self.model.exposed[name], self.model.pools.get(vip.pool)
            if not pool or pool.share == "key" or vip.orphaned or family_of(vip.vip) != family or self.model.whole(name):
                continue
            holders = [self.model.exposed[holder] for holder in vip.holders]
            free = not any({*observed.ports} & {*holder.ports} or holder.exclusive for holder in holders) and not observed.exclusive
            lacks = name not in vip.holders and self.model.wants(observed, vip.vip, pool, missing=True)
            assert not (free and lacks), f"{name} could stand on {vip.vip}"

    @invariant()
    def what_a_machine_has_is_marked_and_shared_where_its_pool_grants_it(self) -> None:
        for vip in self.model.held.values():
            assert bool(vip.in_use_by) is self.model.occupied(vip.vip)
            if not vip.orphaned:
                assert vip.shared_with_node is (self.model.pools[vip.pool].share_with_nodes and self.model.owned(vip.vip))

    @invariant()
    def orphans_are_marked(self) -> None:
        for vip in self.model.held.values():
            pool = self.model.pools.get(vip.pool)
            holders = [self.model.exposed[name] for name in vip.holders]
            offered = bool(pool) and vip.vip in addresses_of(pool) and all(self.model.selected(pool, holder) for holder in holders)
            assert vip.orphaned is not offered


Machine.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestMachine = Machine.TestCase

STORY = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_ipam import *
from weir.events import ENCODE
log = Log(pool("p", "192.0.2.0/29"), pool("q", "2001:db8::/126", priority=3), node("n1"), node("n2"))
for number in range(12):
    log.say(service(f"s{{number}}", families=("IPv4", "IPv6") if number % 3 else ()))
for number in range(0, 12, 2):
    log.say(gone(f"s{{number}}"))
for released in log.fold.world.of(VipReleased):
    log.withdraw(released.vip)
log.applied("n1"), log.applied("n2"), log.restart()
sys.stdout.buffer.writelines(ENCODE(fact.event) + b"\\n" for fact in log.facts)
"""


def test_log_is_the_same_byte_for_byte_under_any_hash_seed() -> None:
    def told(seed: str) -> bytes:
        return subprocess.run(
            [sys.executable, "-c", STORY], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout

    assert told("1") == told("2")
    assert b"vip_freed" in told("3")


# ── a misspelt wish ────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_said_of_a_key_does_not_depend_on_the_keys_of_other_namespaces() -> None:
    """Whose changes wake nobody here."""
    log = Log(pool("p", "192.0.2.0/31", auto_assign=False), service("b", "192.0.2.0"), service("blog/d", "192.0.2.0", share_key="k"))
    log.say(service("b", share_key="k"))
    assert log.restart() == []


@pytest.mark.parametrize("pools", [(), ("q", "p")])
def test_a_reason_in_the_log_stays_while_it_holds(pools: tuple[str, ...]) -> None:
    """All or nothing: of several reasons another may come first once an address is taken, which wakes nobody who waits."""
    log = Log(service("b", pools=pools, more_pools=("q",), family_policy="RequireDualStack"), pool("q", "192.0.2.4", auto_assign=False))
    log.say(service("a", more_pools=("q",)))
    assert log.restart() == []


@pytest.mark.parametrize("wish", ["203.0.113.99", "2001:db8:ffff::1"])
def test_a_service_that_asks_for_what_no_pool_offers_keeps_what_it_holds_and_is_told(wish: str) -> None:
    log = Log(pool("p", "192.0.2.8/29"), service("web", "192.0.2.9"))
    log.say(service("web", wish))
    assert log.vips() == {"192.0.2.9": "shop/web"}
    denied = log.denied("web")
    assert denied.reason == "AddressOutsidePools"
    assert denied.message == f"{wish} is in no pool; pools offer 192.0.2.8/29; the Service keeps 192.0.2.9"
    assert log.say(service("web", "192.0.2.10"))
    assert "192.0.2.10" in log.vips(), "a wish that can be granted moves the Service"
    assert "192.0.2.9" not in {vip for vip, holder in log.vips().items() if holder == "shop/web"}


def test_a_wish_that_a_pool_comes_to_offer_is_granted_and_what_was_kept_is_released() -> None:
    log = Log(pool("p", "192.0.2.8/29"), service("web"), service("web", "203.0.113.99"))
    assert log.vips() == {"192.0.2.8": "shop/web"}
    log.say(pool("q", "203.0.113.96/27"))
    assert [vip for vip, holder in log.vips().items() if holder == "shop/web"] == ["203.0.113.99"]


def test_a_misspelt_wish_that_is_taken_back_changes_nothing() -> None:
    log = Log(pool("p", "192.0.2.8/29"), service("web", "192.0.2.9"), service("web", "203.0.113.99"))
    assert [type(event) for event in log.say(service("web", "192.0.2.9"))] == [ClaimSettled]
    assert log.vips() == {"192.0.2.9": "shop/web"}


def test_of_several_addresses_one_is_kept_for_each_wish_that_cannot_be_granted() -> None:
    log = Log(pool("p", "192.0.2.8/29"), service("web", "192.0.2.9", "192.0.2.10"), service("web", "192.0.2.9", "203.0.113.99"))
    assert log.vips() == {"192.0.2.9": "shop/web", "192.0.2.10": "shop/web"}
    log.say(service("web", "192.0.2.9"))
    assert [vip for vip, holder in log.vips().items() if holder == "shop/web"] == ["192.0.2.9"]
