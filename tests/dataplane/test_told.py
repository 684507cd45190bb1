"""What real stacks make of our answers: path MTU discovery and traceroute through a VIP, and connections refused."""

import socket
from collections.abc import Iterator

import pytest

from services.dataplane.l4.layout import FRONTEND_REJECT, MODES, Frontend, FrontendKey
from tests.dataplane.conftest import needs_kernel
from tests.dataplane.lab import inside, sh
from tests.dataplane.test_wire import fetch
from tests.dataplane.wire import VIPS, Wire, name, wire

pytestmark = needs_kernel
IP_RECVERR, IPV6_RECVERR = 11, 25


@pytest.fixture(scope="module")
def built() -> Iterator[Wire]:
    with wire() as built:
        yield built


@pytest.fixture
def w(built: Wire) -> Iterator[Wire]:
    yield built.without_flows()
    for device in ("front", "back"):
        sh(f"ip -n {name('lb')} link set {device} mtu 1500")
    for space in ("c", "b1"):
        sh(f"ip -n {name(space)} route flush cache; ip -n {name(space)} -6 route flush cache")


@pytest.mark.parametrize("vip", VIPS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("narrow", ["front", "back"])
def test_path_mtu_is_discovered_through_the_vip(w: Wire, vip: str, mode: str, narrow: str) -> None:
    """Both ends think of 1,500 bytes; the way out of the balancer to the one or the other takes 1,400."""
    w.serve("b1", mode=MODES.index(mode))
    sh(f"ip -n {name('lb')} link set {narrow} mtu 1400")
    hops = w.map("next_hops")  # known for a second: not in this test
    hops.put_many((key, bytes(len(value))) for key, value in list(hops.items()))
    before = w.verdict("told_too_big")
    if narrow == "back":
        fetch(vip, upload=bytes(300_000))
    else:
        assert len(fetch(vip, words=100_000)) == 300_000
    assert w.verdict("told_too_big") > before


@pytest.mark.parametrize("vip", VIPS)
def test_traceroute_gets_its_answer(w: Wire, vip: str) -> None:
    w.serve("b1")
    with inside(name("c")), socket.socket(socket.AF_INET6 if ":" in vip else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        if ":" in vip:
            probe.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
        else:
            probe.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        probe.settimeout(2)
        probe.connect((vip, 80))
        probe.send(b"anyone")
        with pytest.raises(OSError, match="No route to host"):  # how Linux tells of time exceeded
            probe.recv(100)


@pytest.mark.parametrize("vip", VIPS)
def test_frontend_that_rejects_refuses_at_once(w: Wire, vip: str) -> None:
    w.serve("b1")
    for number, protocol in enumerate(("TCP", "UDP"), 1):
        key = FrontendKey(vip, 80, protocol).pack()
        w.map("frontends").put(key, Frontend(number, 0, number, flags=FRONTEND_REJECT).pack())
    family = socket.AF_INET6 if ":" in vip else socket.AF_INET
    with inside(name("c")):
        with pytest.raises(ConnectionRefusedError), socket.create_connection((vip, 80), 2):
            pass
        with socket.socket(family, socket.SOCK_DGRAM) as sent:
            sent.settimeout(2)
            sent.connect((vip, 80))
            sent.send(b"anyone")
            with pytest.raises(ConnectionRefusedError):
                sent.recv(100)
