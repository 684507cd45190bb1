"""ARP, NDP and echo for VIPs, and who may answer."""

import struct
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.dataplane.announce.order import Alive, announcer
from services.dataplane.hello.frame import Hello, encode, frame
from services.dataplane.l4.layout import ANNOUNCERS, HELLO_SEEN, ID, LB_NODE, VIP_SHARED, Vip
from tests.dataplane.frames import ACK, CLIENT_MAC, HOST_MAC, SYN, Packet, arp, packed, read, solicitation
from tests.dataplane.lab import MAC, OUT, Lab
from weir.pins import address_bytes

VIP4, VIP6 = "198.51.100.1", "fd03::1"
SECOND = 1_000_000_000


FAR = 3600 * SECOND


def own(lab: Lab, *vips: str, order: tuple[int, ...] = ()) -> None:
    for vip in vips:
        lab.map("vips").put(address_bytes(vip), Vip(order=order).pack())


def alive(lab: Lab, slot: int, alive_ns: int, ready_ns: int) -> None:
    """Deadlines of an LB node, from now."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    lab.map("lb_nodes").put(ID.pack(slot), LB_NODE.pack(*(max(0, now + each) if each else 0 for each in (alive_ns, ready_ns))))


def answers(lab: Lab) -> bool:
    """Whether it answers ARP and solicitations alike."""
    asked = {"arp": arp(1, "192.0.2.1", VIP4), "ndp": solicitation("fd02::1", VIP6).frame()}
    said = {family: lab.send(frame)[0] for family, frame in asked.items()}
    assert said in ({"arp": "arp_answered", "ndp": "ndp_answered"}, {"arp": "not_owner", "ndp": "not_owner"})
    return said["arp"] == "arp_answered"


@pytest.mark.parametrize("sender", ["192.0.2.1", "0.0.0.0"], ids=["request", "probe"])
def test_arp_request_is_answered(lab: Lab, sender: str) -> None:
    own(lab, VIP4)
    verdict, action, frame = lab.send(arp(1, sender, VIP4))
    assert (verdict, action) == ("arp_answered", OUT)
    body = struct.pack("!HHBBH", 1, 0x800, 6, 4, 2) + MAC + packed(VIP4) + CLIENT_MAC + packed(sender)
    assert frame == CLIENT_MAC + MAC + b"\x08\x06" + body


@pytest.mark.parametrize(
    "frame",
    [
        arp(1, "192.0.2.1", "198.51.100.7"),
        arp(2, "192.0.2.1", VIP4),
        arp(1, VIP4, VIP4),
        arp(1, "192.0.2.1", VIP4)[:40],
        arp(1, "192.0.2.1", VIP4).replace(b"\x08\x06\x00\x01", b"\x08\x06\x00\x06"),
    ],
    ids=["no VIP", "reply", "gratuitous", "truncated", "not Ethernet"],
)
def test_other_arp_passes(lab: Lab, frame: bytes) -> None:
    own(lab, VIP4)
    lab.passed(frame)


@pytest.mark.parametrize("destination", [None, VIP6], ids=["multicast", "unicast"])
@pytest.mark.parametrize("option", [b"\1\1" + CLIENT_MAC, b"", b"\1\1" + CLIENT_MAC + b"\x0e\1nonce!"], ids=["usual", "none", "two"])
def test_solicitation_is_answered(lab: Lab, destination: str | None, option: bytes) -> None:
    own(lab, VIP6)
    out = lab.out(solicitation("fd02::1", VIP6, option, destination), "ndp_answered")
    assert lab.macs == CLIENT_MAC + MAC
    assert (out.src, out.dst, out.ttl, out.sport, out.dport) == (VIP6, "fd02::1", 255, 136, 0)
    assert out.body == b"\x60\0\0\0" + packed(VIP6) + b"\2\1" + MAC


def test_duplicate_address_detection_is_told_to_all(lab: Lab) -> None:
    own(lab, VIP6)
    out = lab.out(solicitation("::", VIP6, b""), "ndp_answered")
    assert lab.macs == bytes.fromhex("333300000001") + MAC
    assert (out.src, out.dst) == (VIP6, "ff02::1")
    assert out.body == b"\x20\0\0\0" + packed(VIP6) + b"\2\1" + MAC


def test_other_solicitations_pass(lab: Lab) -> None:
    own(lab, VIP6)
    lab.passed(solicitation("fd02::1", "fd03::2"))
    lab.passed(solicitation("fd02::1", VIP6).but(ttl=254))
    lab.passed(solicitation("fd02::1", VIP6).but(sport=136))
    lab.passed(solicitation("fd02::1", VIP6).but(body=bytes(4) + packed(VIP6)[:12]))


@pytest.mark.parametrize(
    ("order", "ours", "other", "answered"),
    [
        ((0, 1), (FAR, FAR), (FAR, FAR), True),
        ((1, 0), (FAR, FAR), (FAR, FAR), False),
        ((1, 0), (FAR, FAR), (-1, -1), True),
        ((1, 0), (FAR, FAR), (FAR, 0), True),
        ((0, 1), (FAR, 0), (FAR, FAR), False),
        ((0, 1), (FAR, 0), (FAR, 0), True),
        ((1, 0), (FAR, 0), (FAR, 0), False),
        ((1, 0), (FAR, 0), (-1, -1), True),
        ((0, 1), (-1, -1), (FAR, FAR), False),
        ((1,), (FAR, FAR), (FAR, FAR), False),
        ((1,), (FAR, FAR), (-1, -1), True),
    ],
)
def test_the_first_that_is_ready_answers(
    lab: Lab, order: tuple[int, ...], ours: tuple[int, int], other: tuple[int, int], answered: bool
) -> None:
    own(lab, VIP4, VIP6, order=order)
    alive(lab, 0, *ours)
    alive(lab, 1, *other)
    assert answers(lab) == answered


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.lists(st.integers(0, 6), min_size=1, max_size=ANNOUNCERS, unique=True),
    ready=st.frozensets(st.integers(0, 6)),
    also=st.frozensets(st.integers(0, 6)),
)
def test_the_kernel_and_the_processes_choose_alike(lab: Lab, order: list[int], ready: frozenset[int], also: frozenset[int]) -> None:
    own(lab, VIP4, VIP6, order=tuple(order))
    state = Alive(ready | also, ready)
    for slot in range(7):
        alive(lab, slot, FAR if slot in state.alive else 0, FAR if slot in state.ready else 0)
    lab.map("hello_seen").put(ID.pack(0), HELLO_SEEN.pack(bytes(8), time.clock_gettime_ns(time.CLOCK_MONOTONIC)))
    assert answers(lab) == (announcer(order, state) == 0)


def test_without_a_hello_process_it_answers_only_if_no_other_is_on_the_wire(lab: Lab) -> None:
    own(lab, VIP4, VIP6, order=(0, 1))
    assert answers(lab), "nobody says hello"
    hello = encode(Hello(b"ourgroup", 5, 1, 0, 100, 3, ready=True, taken=False, heard=frozenset()), b"key")
    lab.map("hello_seen").put(ID.pack(0), HELLO_SEEN.pack(b"ourgroup", 0))
    lab.passed(frame(encode(Hello(b"foreign!", 5, 1, 0, 100, 3, ready=True, taken=False, heard=frozenset()), b"key"), CLIENT_MAC))
    lab.passed(frame(hello[:14], CLIENT_MAC))
    assert answers(lab), "what is on the wire is none of ours"
    lab.passed(frame(hello, CLIENT_MAC))
    assert not answers(lab)
    past = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - 3 * SECOND
    lab.map("hello_seen").put(ID.pack(0), HELLO_SEEN.pack(b"ourgroup", max(past, 1)))
    assert answers(lab), "nobody has said hello for a while"


@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
def test_address_of_the_machine_itself_is_taken_by_the_port_alone(lab: Lab, v6: bool) -> None:
    """Its own kernel answers for it, and whoever administers the machine still reaches it."""
    vip, client = (VIP6, "fd02::1") if v6 else (VIP4, "192.0.2.1")
    lab.serve(vip, ["fd01::11" if v6 else "10.1.0.11"])
    lab.map("vips").put(address_bytes(vip), Vip(flags=VIP_SHARED).pack())
    lab.passed(solicitation(client, vip) if v6 else arp(1, client, vip))
    lab.passed(Packet(src=client, dst=vip, proto="ICMPV6" if v6 else "ICMP", sport=128 if v6 else 8, dport=0, body=b"\0\1\0\1hello"))
    for flags in (SYN, ACK):
        lab.passed(Packet(src=client, dst=vip, dport=22, flags=flags))
    lab.passed(Packet(src=client, dst=vip, dport=53, proto="UDP"))
    lab.out(Packet(src=client, dst=vip, flags=SYN), "forwarded")
    lab.out(Packet(src=client, dst=vip, flags=ACK), "forwarded")


def test_forwarding_is_not_fenced(lab: Lab) -> None:
    lab.serve(VIP4, ["10.1.0.11"])
    own(lab, VIP4, VIP6, order=(1, 0))
    alive(lab, 1, FAR, FAR)
    assert not answers(lab)
    lab.out(Packet(src="192.0.2.1", dst=VIP4), "forwarded")


def test_without_a_mac_nothing_is_claimed(lab: Lab) -> None:
    own(lab, VIP4)
    lab.map("interfaces").delete(ID.pack(1))
    lab.dropped(arp(1, "192.0.2.1", VIP4), "no_interface")


@pytest.mark.parametrize(
    ("client", "vip", "proto", "request_type", "reply_type"),
    [("192.0.2.1", VIP4, "ICMP", 8, 0), ("fd02::1", VIP6, "ICMPV6", 128, 129)],
    ids=["v4", "v6"],
)
def test_echo_is_answered(lab: Lab, client: str, vip: str, proto: str, request_type: int, reply_type: int) -> None:
    own(lab, vip)
    ping = Packet(src=client, dst=vip, proto=proto, sport=request_type, dport=0, body=b"\0\1\0\2data")
    out = lab.out(ping, "echo_answered")
    assert lab.macs == CLIENT_MAC + HOST_MAC
    assert out == ping.but(src=vip, dst=client, sport=reply_type, ttl=64)
    lab.passed(ping.but(dst="192.0.2.254" if proto == "ICMP" else "fd02::fe"))
    lab.dropped(ping.but(sport=13 if proto == "ICMP" else 140), "unsupported")


def test_answer_reads_back(lab: Lab) -> None:
    own(lab, VIP6)
    _, _, frame = lab.send(solicitation("fd02::1", VIP6))
    assert len(frame) == 86
    assert read(frame).proto == "ICMPV6"
