"""Backends on another node of a cluster: behind a routed hop, and behind VXLAN, whose packets are 50 bytes shorter.

wb-c is the client, wb-lb the balancer, wb-n a node with the backends wb-b1 and wb-b2 on it.  The node's way out is not the
balancer: replies come back where the source is the balancer's own address, or the VIP, which the network leads to it.
"""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.dataplane.l4.layout import MODES
from services.dataplane.load.loader import hooks_wanted
from tests.dataplane.conftest import needs_kernel
from tests.dataplane.lab import inside, sh
from tests.dataplane.test_wire import arrives_whole, fetch
from tests.dataplane.wire import VIPS, Wire, loaded, name

pytestmark = needs_kernel

PODS = {"b1": ("10.244.1.11", "fd44:1::11"), "b2": ("10.244.1.12", "fd44:1::12")}
SPACES = ("lb", "c", "n", "b1", "b2")
WAYS = {
    "routed": ("front", "back"),
    "vxlan": ("front", "overlay"),
}


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def built(way: str) -> Iterator[Wire]:
    def build() -> None:
        _build()
        (_routes if way == "routed" else _vxlan)()

    with loaded(Wire(*WAYS[way], backends=PODS), SPACES, build) as built:
        yield built


@pytest.fixture
def w(built: Wire) -> Wire:
    return built.without_flows()


@pytest.mark.parametrize("vip", VIPS)
@pytest.mark.parametrize("mode", ["onearm", "fullnat"])
def test_backends_of_another_node_answer(w: Wire, way: str, vip: str, mode: str) -> None:
    w.serve("b1", "b2", mode=MODES.index(mode))
    _forget_path_mtu()
    told = w.verdict("told_too_big")
    fetch(vip, upload=bytes(600_000))
    assert (w.verdict("told_too_big") > told) == (way == "vxlan"), "the client learns the MTU behind the VIP, where it is smaller"
    arrives_whole(vip, fetches=8, words=200_000)


def test_without_source_nat_replies_go_another_way(w: Wire) -> None:
    w.serve("b1", mode=MODES.index("default"))
    with pytest.raises(TimeoutError):
        fetch(VIPS[0])


def test_no_hook_is_tried_that_can_hand_an_overlay_nothing(w: Wire, way: str) -> None:
    with inside(name("lb")):
        hooks = [each.mode for each in hooks_wanted(replace(w.options, hook="auto"))]
    assert hooks == (["auto", "auto"] if way == "routed" else ["tc", "tc"])


def _forget_path_mtu() -> None:
    """A route made anew remembers nothing; who learned it as a server tells it to clients as its MSS."""
    ways = [("c", "198.51.100.0/24", "dev eth0"), ("c", "fd03::/64", "dev eth0")]
    ways += [(pod, "default", f"via {gateway}") for pod in PODS for gateway in ("10.244.1.1", "fd44:1::1")]
    for space, network, by in ways:
        sh(f"ip -n {name(space)} route del {network} {by}; ip -n {name(space)} route add {network} {by}")


def _build() -> None:
    """The client's segment, the nodes' segment, and the pods' on the far node."""
    lb, c, n = (name(space) for space in ("lb", "c", "n"))
    sh(f"""set -e
    for n in {" ".join(map(name, SPACES))}; do ip netns add $n; ip -n $n link set lo up
        nsenter --net=/run/netns/$n sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0; done
    ip -n {lb} link add front type veth peer name eth0 netns {c}
    ip -n {lb} link add back type veth peer name eth0 netns {n}
    ip -n {lb} address add 192.0.2.254/24 dev front; ip -n {lb} address add fd02::fe/64 dev front nodad
    ip -n {c} address add 192.0.2.1/24 dev eth0; ip -n {c} address add fd02::1/64 dev eth0 nodad
    ip -n {lb} address add 10.1.0.1/24 dev back; ip -n {lb} address add fd01::1/64 dev back nodad
    ip -n {n} address add 10.1.0.2/24 dev eth0; ip -n {n} address add fd01::2/64 dev eth0 nodad
    ip -n {n} link add cni type bridge; ip -n {n} link set cni up
    ip -n {n} address add 10.244.1.1/24 dev cni; ip -n {n} address add fd44:1::1/64 dev cni nodad
    for i in front back; do ip -n {lb} link set $i up; done
    for n in {c} {n}; do ip -n $n link set eth0 up; done
    ip -n {c} route add 198.51.100.0/24 dev eth0; ip -n {c} route add fd03::/64 dev eth0
    nsenter --net=/run/netns/{n} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    for b in 1 2; do pod=wb-b$b-{os.getpid()}
        ip -n {n} link add p$b type veth peer name eth0 netns $pod; ip -n {n} link set p$b master cni up
        ip -n $pod link set eth0 up; ip -n $pod address add 10.244.1.1$b/24 dev eth0; ip -n $pod address add fd44:1::1$b/64 dev eth0 nodad
        ip -n $pod route add default via 10.244.1.1; ip -n $pod route add default via fd44:1::1; done""")


def _routes() -> None:
    """The nodes' network knows where pods and VIPs are."""
    lb, n = name("lb"), name("n")
    sh(f"""set -e
    ip -n {lb} route add 10.244.1.0/24 via 10.1.0.2; ip -n {lb} route add fd44:1::/64 via fd01::2
    ip -n {n} route add 198.51.100.0/24 via 10.1.0.1; ip -n {n} route add fd03::/64 via fd01::1""")


def _vxlan() -> None:
    """The nodes' network knows nodes alone."""
    for space, at, peer in (("lb", 1, 2), ("n", 2, 1)):
        device = "back" if space == "lb" else "eth0"
        sh(f"""set -e
        ip -n {name(space)} link add overlay type vxlan id 7 local 10.1.0.{at} remote 10.1.0.{peer} dstport 4789 dev {device}
        ip -n {name(space)} link set overlay up
        ip -n {name(space)} address add 10.245.0.{at}/24 dev overlay; ip -n {name(space)} address add fd45::{at}/64 dev overlay nodad""")
    sh(f"""set -e
    ip -n {name("lb")} route add 10.244.1.0/24 via 10.245.0.2; ip -n {name("lb")} route add fd44:1::/64 via fd45::2
    ip -n {name("n")} route add 198.51.100.0/24 via 10.245.0.1; ip -n {name("n")} route add fd03::/64 via fd45::1""")
