"""What was written down of VIPs, and is given again."""

import pytest
from ipam_log import Log, addresses, cluster_node, pool, record, root, service

from weir.events import RecordGone
from weir.model import ServicePort


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


def test_what_was_written_down_is_not_given_again_where_a_node_has_it_by_now() -> None:
    log = Log(record("shop/web", "192.0.2.0"), cluster_node("n1", "192.0.2.0"), pool("p", "192.0.2.0/31"), service("web"))
    assert log.vips() == {"192.0.2.1": "shop/web"}
