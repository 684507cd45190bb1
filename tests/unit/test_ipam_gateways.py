"""Gateways ask ipam for addresses as Services do."""

from typing import Any

import pytest
from ipam_log import Log, pool, root, service

from weir.events import GatewayClassGone, GatewayClassObserved, GatewayGone, GatewayObserved, VipAllocated, VipDenied, VipReleased
from weir.model import GatewayAddress, Listener, Root, ServicePort

CLASS = Root(kind="GatewayClass", name="weir")
OURS = GatewayClassObserved(root=CLASS, controller="weir.dev/weir", ours=True)
LAN = pool("lan", "192.0.2.0/29")


def gateway(name: str, *addresses: str, ports: tuple[int, ...] = (80,), **fields: Any) -> GatewayObserved:
    """addresses: "" is any."""
    return GatewayObserved(
        root=root(name, "Gateway"),
        class_name="weir",
        listeners=tuple(Listener(name=f"l{port}", port=port, protocol="HTTP") for port in ports),
        addresses=tuple(GatewayAddress(value=address) for address in addresses),
        **fields,
    )


def held(log: Log) -> dict[str, tuple[str, ...]]:
    return {vip.vip: vip.holders for vip in log.fold.world.of(VipAllocated)}


def denied(log: Log) -> list[tuple[str, str, str]]:
    return [(denial.owner, denial.reason, denial.message) for denial in log.fold.world.of(VipDenied)]


@pytest.mark.parametrize(
    ("addresses", "vips"),
    [
        ((), ["192.0.2.0"]),
        (("",), ["192.0.2.0"]),
        (("", ""), ["192.0.2.0", "192.0.2.1"]),
        (("192.0.2.5",), ["192.0.2.5"]),
        (("192.0.2.5", ""), ["192.0.2.0", "192.0.2.5"]),
        (("192.0.2.5", "192.0.2.6"), ["192.0.2.5", "192.0.2.6"]),
    ],
)
def test_a_gateway_gets_the_addresses_that_it_names_and_one_for_each_without_a_value(addresses: tuple[str, ...], vips: list[str]) -> None:
    log = Log(OURS, LAN, gateway("edge", *addresses))
    assert held(log) == dict.fromkeys(vips, ("Gateway/shop/edge",))
    assert log.restart() == []


def test_an_address_more_leaves_those_held_and_one_less_releases_one() -> None:
    log = Log(OURS, LAN, gateway("edge", ""))
    log.say(gateway("edge", "", "", ""))
    assert sorted(held(log)) == ["192.0.2.0", "192.0.2.1", "192.0.2.2"]
    log.say(gateway("edge", "", ""))
    assert sorted(held(log)) == ["192.0.2.0", "192.0.2.1"]
    assert [vip.vip for vip in log.fold.world.of(VipReleased)] == ["192.0.2.2"]


def test_a_gateway_and_a_service_of_one_name_are_two_owners() -> None:
    log = Log(OURS, LAN, gateway("web"), service("web"))
    assert held(log) == {"192.0.2.0": ("Gateway/shop/web",), "192.0.2.1": ("Service/shop/web",)}
    log.say(GatewayGone(root=root("web", "Gateway")))
    assert held(log) == {"192.0.2.1": ("Service/shop/web",)}


def test_a_gateway_of_a_class_that_is_not_ours_asks_for_nothing_until_it_is() -> None:
    log = Log(LAN, gateway("edge"))
    assert held(log) == {}
    log.say(OURS)
    assert held(log) == {"192.0.2.0": ("Gateway/shop/edge",)}
    log.say(GatewayClassGone(root=CLASS))
    assert held(log) == {}
    assert log.restart() == []


def test_messages_name_the_kind_that_asks() -> None:
    log = Log(OURS, pool("lan", "192.0.2.0/29"), gateway("edge", "203.0.113.9"))
    assert denied(log) == [("Gateway/shop/edge", "AddressOutsidePools", "203.0.113.9 is in no pool; pools offer 192.0.2.0/29")]
    log = Log(OURS, LAN, service("web", "192.0.2.1"), gateway("edge", "192.0.2.1"))
    assert denied(log) == [("Gateway/shop/edge", "AddressHeld", "192.0.2.1 is held by shop/web")]
    log = Log(OURS, LAN, gateway("edge", "192.0.2.1"), service("web", "192.0.2.1"))
    assert denied(log) == [("Service/shop/web", "AddressHeld", "192.0.2.1 is held by Gateway/shop/edge")]
    log = Log(OURS, LAN, gateway("edge"), reported=False)
    assert denied(log) == [
        ("Gateway/shop/edge", "NoNode", "no LB node has reported its addresses yet, which must not be given to a Gateway")
    ]


def test_a_gateway_shares_a_vip_with_a_service_by_key_on_other_ports_and_draws_from_the_pool_that_it_names() -> None:
    asked = {"weir.dev/share-key": "k", "weir.dev/pool": "dmz"}
    log = Log(OURS, LAN, pool("dmz", "203.0.113.0/29", auto_assign=False), gateway("edge", requested=asked, ports=(80, 443)))
    other = service("web", share_key="k", pools=("dmz",), ports=(ServicePort(port=25),))
    log.say(other)
    assert held(log) == {"203.0.113.0": ("Gateway/shop/edge", "Service/shop/web")}
    log.say(service("mail", share_key="k", pools=("dmz",), ports=(ServicePort(port=443),)))
    assert held(log)["203.0.113.1"] == ("Service/shop/mail",), "443 is the Gateway's"
    assert log.restart() == []
