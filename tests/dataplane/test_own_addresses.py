"""What a machine reports of its own addresses and gateways, read in a namespace of its own."""

import os
import select
import socket
from collections.abc import Iterator

import pytest

from services.dataplane.own_addresses import own_addresses, subscribe
from tests.dataplane.conftest import needs_kernel
from tests.dataplane.lab import inside, sh
from weir.events import NodeAddressesObserved

pytestmark = needs_kernel
SPACE = f"wb-own-{os.getpid()}"


@pytest.fixture
def space() -> Iterator[None]:
    # Without duplicate address detection, whose end is a message of its own, a second later.
    sh(f"""set -e; ip netns add {SPACE}; ip netns exec {SPACE} sysctl -qw net.ipv6.conf.default.accept_dad=0
        ip -n {SPACE} link add eth0 type veth peer name eth1
        ip -n {SPACE} link set lo up; ip -n {SPACE} link set eth0 up; ip -n {SPACE} link set eth1 up
        ip -n {SPACE} address add 192.0.2.7/24 dev eth0; ip -n {SPACE} address add fd01::7/64 dev eth0 nodad""")
    try:
        with inside(SPACE):
            yield
    finally:
        sh(f"ip netns delete {SPACE}")


def found(*addresses: str, gateways: tuple[str, ...] = ()) -> NodeAddressesObserved:
    return NodeAddressesObserved(node="n1", addresses=addresses, gateways=gateways)


def test_every_address_of_every_interface_is_reported_by_family_then_number(space: None) -> None:
    sh("""set -e; ip address add 192.0.2.100/24 dev eth0; ip address add 192.0.2.9/24 dev eth0 label eth0:1
        ip address add 10.0.0.1/32 dev lo; ip address add fd00::1/128 dev lo; ip address add 198.51.100.1 peer 198.51.100.2 dev eth1""")
    assert own_addresses("n1") == found("10.0.0.1", "192.0.2.7", "192.0.2.9", "192.0.2.100", "198.51.100.1", "fd00::1", "fd01::7")


def test_addresses_that_kube_proxy_binds_for_services_are_not_the_machines_own(space: None) -> None:
    sh("ip link add kube-ipvs0 type veth peer name other && ip address add 203.0.113.10/32 dev kube-ipvs0")
    assert own_addresses("n1") == found("192.0.2.7", "fd01::7")


@pytest.mark.parametrize(
    ("routes", "gateways"),
    {
        "one": ("ip route add default via 192.0.2.1", ("192.0.2.1",)),
        "IPv6": ("ip -6 route add default via fd01::1 dev eth0", ("fd01::1",)),
        "link-local": ("ip -6 route add default via fe80::1 dev eth0", ()),
        "two metrics": ("ip route add default via 192.0.2.2; ip route add default via 192.0.2.1 metric 9", ("192.0.2.1", "192.0.2.2")),
        "next hops": ("ip route add default nexthop via 192.0.2.1 nexthop via 192.0.2.2", ("192.0.2.1", "192.0.2.2")),
        "next hops of IPv6": ("ip -6 route add default nexthop via fd01::1 nexthop via fd01::2", ("fd01::1", "fd01::2")),
        "a next hop of the other family": ("ip route add default via inet6 fd01::1 dev eth0", ("fd01::1",)),
        "a next hop object": ("ip nexthop add id 7 via 192.0.2.1 dev eth0; ip route add default nhid 7", ("192.0.2.1",)),
        "another table": ("ip route add default via 192.0.2.1 table 100", ("192.0.2.1",)),
        "none": ("ip route add default dev eth0; ip route add 10.0.0.0/8 via 192.0.2.1", ()),
        "unreachable": ("ip route add unreachable default", ()),
    }.values(),
)
def test_gateways_are_those_of_default_routes(space: None, routes: str, gateways: tuple[str, ...]) -> None:
    sh(f"set -e; {routes}")
    assert own_addresses("n1") == found("192.0.2.7", "fd01::7", gateways=gateways)


@pytest.mark.parametrize(
    ("command", "concerns"),
    {
        "an address comes": ("ip address add 192.0.2.8/24 dev eth0", True),
        "an address goes": ("ip address del 192.0.2.7/24 dev eth0", True),
        "an IPv6 address comes": ("ip address add fd01::8/64 dev eth0 nodad", True),
        "a default route": ("ip route add default via 192.0.2.1", True),
        "a default route of IPv6": ("ip -6 route add default via fd01::1 dev eth0", True),
        "a route of a router": ("ip route add 10.0.0.0/8 via 192.0.2.1; ip -6 route add fd77::/64 via fd01::1", False),
    }.values(),
)
def test_only_what_may_change_the_report_wakes_the_agent(space: None, command: str, concerns: bool) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE) as netlink:
        subscribe(netlink)
        while wakes(netlink, 0.2):  # an IPv6 address is announced by a work queue: that of the fixture, perhaps
            netlink.recv(1 << 16)
        sh(f"set -e; {command}")
        assert wakes(netlink, 30 if concerns else 0.2) is concerns


def wakes(netlink: socket.socket, patience_s: float) -> bool:
    """Whether something comes in that time."""
    poll = select.poll()  # not select(), which takes no descriptor above 1,023
    poll.register(netlink, select.POLLIN)
    return bool(poll.poll(patience_s * 1000))
