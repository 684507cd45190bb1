"""Who gets which VIP: rows for the rules."""

from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest
from ipam_log import SHOP, TEAM, Log, gone, node, pool, pool_gone, root, service

from services.ipam.core import SUBSCRIBES
from services.ipam.pools import blocks_of, first_free
from weir.events import (
    AppliedThrough,
    ClaimSettled,
    NamespaceGone,
    NamespaceObserved,
    PoolGone,
    PoolObserved,
    ServiceGone,
    ServiceObserved,
    VipAllocated,
    VipDenied,
    VipFreed,
    VipReleased,
    VipWithdrawn,
)
from weir.model import Family, Requirement, Root, Selector, selects


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
