"""Which Services share a VIP, and what becomes of it when pools change."""

from typing import Any

import pytest
from ipam_log import PORT_80, PORT_443, TIER, Log, gone, node, pool, pool_gone, service

from weir.events import VipAllocated, VipDenied, VipReleased
from weir.model import ServicePort, shown

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
