"""By which way a packet leaves: the kernel's rules and routes hold, whichever flow asked first."""

from collections.abc import Iterator

import pytest

from tests.dataplane.frames import ACK, SYN, Packet
from tests.dataplane.lab import BACKEND_MAC, CLIENT_HOP_MAC, Lab, run_program, sh
from weir.pins import Map

VIPS = {"v4": ("198.51.100.1", "198.51.100.2"), "v6": ("fd03::1", "fd03::2")}
CLIENT = {"v4": "192.0.2.1", "v6": "fd02::1"}
DO_NOT = 0x4000  # fragment
GSO_SIZE_AT = 176  # in struct __sk_buff
BACKEND = {"v4": "10.1.0.11", "v6": "fd01::11"}


@pytest.fixture(params=["v4", "v6"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def second_uplink(lab: Lab, family: str) -> Iterator[None]:
    """What comes from the second VIP leaves by `back`."""
    ip = "ip -6" if family == "v6" else "ip"
    network, via = ("fd02::/64", "fd01::11") if family == "v6" else ("192.0.2.0/24", "10.1.0.11")
    sh(f"{ip} rule add from {VIPS[family][1]} lookup 200; {ip} route add {network} via {via} dev back table 200")
    yield
    sh(f"{ip} rule del from {VIPS[family][1]} lookup 200; {ip} route flush table 200")


@pytest.mark.usefixtures("second_uplink")
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first asks first", "second asks first"])
def test_each_vip_answers_by_its_own_uplink(lab: Lab, family: str, order: tuple[int, int]) -> None:
    for number, vip in enumerate(VIPS[family], 1):
        lab.serve(vip, [BACKEND[family]], frontend=number, first=1)
    left = {}
    for number in order:
        sent = Packet(src=CLIENT[family], dst=VIPS[family][number], flags=SYN, sport=40000 + number)
        out = lab.out(sent, "forwarded")
        back = out.but(src=out.dst, dst=out.src, sport=out.dport, dport=out.sport, flags=SYN | ACK, ttl=64)
        for _ in range(2):  # on tc the first goes out by the kernel's neighbour code
            lab.out(back, "replied")
        left[number] = lab.macs[:6]
    assert left == {0: CLIENT_HOP_MAC, 1: BACKEND_MAC}


def test_mtu_of_a_route_holds(lab: Lab, family: str) -> None:
    """A locked one, of IPv4, which the kernel heeds when it forwards; in IPv6 any."""
    ip = "ip -6" if family == "v6" else "ip"
    lab.serve(VIPS[family][0], [BACKEND[family]])
    forget(lab.map("next_hops"))
    sent = Packet(src=CLIENT[family], dst=VIPS[family][0], flags=SYN, body=bytes(1300), fragment=0 if family == "v6" else DO_NOT)
    sh(f"{ip} route add {BACKEND[family]} dev back mtu lock 1300")
    try:
        assert lab.send(sent)[0] == "told_too_big"
        lab.out(sent.but(body=bytes(1200)), "forwarded")
    finally:
        sh(f"{ip} route del {BACKEND[family]} dev back")
        forget(lab.map("next_hops"))


@pytest.mark.parametrize("lab", ["tc"], indirect=True)  # XDP sees no packet that is yet to be cut
@pytest.mark.parametrize("options", [0, 12], ids=["plain", "timestamps"])
def test_segments_that_a_device_cuts_fit_the_mtu_with_their_own_header(lab: Lab, family: str, options: int) -> None:
    """Behind PPPoE, 1,492 bytes.  Timestamps make a TCP header of 32 bytes."""
    ip, ip_header, l4_at = ("ip -6", 40, 54) if family == "v6" else ("ip", 20, 34)
    lab.serve(VIPS[family][0], [BACKEND[family]])
    forget(lab.map("next_hops"))
    whole = Packet(src=CLIENT[family], dst=VIPS[family][0], body=bytes(options + 2900), fragment=0 if family == "v6" else DO_NOT).frame()
    frame = bytearray(whole)
    frame[l4_at + 12] = (20 + options) // 4 << 4
    most = 1492 - ip_header - 20 - options
    sh(f"{ip} route add {BACKEND[family]} dev back mtu lock 1492")
    try:
        for size, verdict in ((most, "forwarded"), (most + 1, "told_too_big")):
            before = lab.verdicts()
            run_program(lab.program, bytes(frame), context=bytes(GSO_SIZE_AT) + size.to_bytes(4, "little") + bytes(12))
            after = lab.verdicts()
            assert [name for name in after if after[name] != before[name]] == [verdict], size
    finally:
        sh(f"{ip} route del {BACKEND[family]} dev back")
        forget(lab.map("next_hops"))


def forget(hops: Map) -> None:
    """What is known for a second otherwise."""
    hops.put_many((key, bytes(len(value))) for key, value in list(hops.filled()))
