"""The flow table as the agent sees and ends flows, on the kernel's own maps."""

import time

import pytest

from services.dataplane.l4.conntrack import FlowTable, Parted
from services.dataplane.l4.layout import STATES
from tests.dataplane.frames import ACK, FIN, RST, SYN, Packet
from tests.dataplane.lab import Lab

V4 = Packet(src="192.0.2.1", dst="198.51.100.1")
V6 = Packet(src="fd02::1", dst="fd03::1")
SECOND = 10**9


@pytest.fixture(params=[V4, V6], ids=["v4", "v6"])
def packet(request: pytest.FixtureRequest) -> Packet:
    sent: Packet = request.param
    return sent


@pytest.fixture
def table(lab: Lab) -> FlowTable:
    return FlowTable(lab.map("flows"), lab.map("constants"))


def backends(packet: Packet, count: int) -> list[str]:
    return [f"fd01::1{number}" if packet.v6 else f"10.1.0.1{number}" for number in range(1, count + 1)]


def establish(lab: Lab, packet: Packet) -> Packet:
    out = lab.out(packet.but(flags=SYN), "forwarded")
    lab.out(out.but(src=out.dst, dst=out.src, sport=out.dport, dport=out.sport, flags=SYN | ACK, ttl=64), "replied")
    return lab.out(packet.but(flags=ACK), "forwarded")


@pytest.mark.parametrize(
    ("steps", "lives_s", "over_s", "state"),
    [("", 39, 41, "opening"), ("a", 1809, 1811, "established"), ("f", 1809, 1811, "half_closed"), ("r", 1809, 1811, "reset")],
)
def test_flow_goes_ten_seconds_after_it_is_over(
    lab: Lab, table: FlowTable, packet: Packet, steps: str, lives_s: int, over_s: int, state: str
) -> None:
    lab.serve(packet.dst, backends(packet, 1), first=7)
    if steps:
        establish(lab, packet)
    lab.out(packet.but(flags={"": SYN, "a": ACK, "f": FIN | ACK, "r": RST}[steps]), "forwarded")
    (flow,) = lab.flows().values()
    assert STATES[flow.state] == state
    seen_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert table.sweep(seen_ns) == ({7}, 0)
    assert table.sweep(seen_ns + lives_s * SECOND) == (set() if steps == "r" else {7}, 0), "a reset flow keeps no backend"
    assert table.sweep(seen_ns + over_s * SECOND) == (set(), 1)
    assert table.sweep(seen_ns + over_s * SECOND) == (set(), 0)
    assert table.count() == 0
    lab.age(1)  # within one tick nothing is checked twice
    lab.out(packet.but(flags=SYN), "forwarded")
    assert table.count() == 1, "another in its place"


def test_mark_of_another_flow_concerns_none(lab: Lab, table: FlowTable, packet: Packet) -> None:
    """The slot was taken between the agent's look and its mark."""
    lab.serve(packet.dst, backends(packet, 1), first=7)
    establish(lab, packet)
    (flow,) = lab.flows().values()
    table._cut(lab.slots()[flow.key] * 128, flow.seq - 2)
    lab.age(1)
    lab.out(packet.but(flags=ACK), "forwarded")
    assert lab.stats("frontend_stats", 1).flows == 1
    table._cut(lab.slots()[flow.key] * 128, flow.seq)
    lab.age(1)
    lab.out(packet.but(flags=ACK), "forwarded")
    assert lab.stats("frontend_stats", 1).flows == 2, "its own ends it"


def test_flows_of_one_backend_are_cut_and_go_to_another(lab: Lab, table: FlowTable, packet: Packet) -> None:
    first, second = backends(packet, 2)
    lab.serve(packet.dst, [first], frontend=1, first=7)
    lab.serve(packet.dst, [first], frontend=2, first=7, port=81)
    for port in (80, 81):
        establish(lab, packet.but(dport=port, sport=4000 + port))
    lab.serve(packet.dst, [second], frontend=1, first=8)
    assert lab.out(packet.but(sport=4080, flags=ACK), "forwarded").dst == first, "it drains"
    assert table.cut({(1, 7)}) == 1
    lab.age(1)
    assert lab.out(packet.but(sport=4080, flags=ACK), "forwarded").dst == second, "who will reset it"
    assert lab.out(packet.but(sport=4081, dport=81, flags=ACK), "forwarded").dst == first, "of another frontend"


@pytest.mark.parametrize("how", ["left", "leaving", "frontend"])
def test_connections_go_on_where_a_backend_parts_and_new_ones_do_not(lab: Lab, table: FlowTable, packet: Packet, how: str) -> None:
    first, second = backends(packet, 2)
    lab.serve(packet.dst, [first], frontend=1, first=7)
    establish(lab, packet)
    lab.serve(packet.dst, [second], frontend=1, first=8)
    parted = Parted({(1, 7)} if how == "left" else set(), {(1, 7)} if how == "leaving" else set(), {1} if how == "frontend" else set())
    assert table.part(parted) == 1
    assert table.part(parted) == 0, "once"
    lab.age(1)
    assert lab.out(packet.but(flags=ACK), "forwarded").dst == first
    assert lab.out(packet.but(flags=SYN), "forwarded").dst == second


@pytest.mark.parametrize("how", ["left", "leaving", "frontend"])
def test_datagrams_go_elsewhere_once_their_backend_has_left(lab: Lab, table: FlowTable, packet: Packet, how: str) -> None:
    """Nobody says when a sender is done: it would go on to a backend that serves another Service for ever."""
    first, second = backends(packet, 2)
    datagram = packet.but(proto="UDP")
    lab.serve(packet.dst, [first], protocol="UDP", frontend=1, first=7)
    lab.serve(packet.dst, [first], protocol="UDP", frontend=2, first=7, port=81)
    for port in (80, 81):
        lab.out(datagram.but(dport=port), "forwarded")
    lab.serve(packet.dst, [second], protocol="UDP", frontend=1, first=8)
    table.part(Parted({(1, 7)} if how == "left" else set(), {(1, 7)} if how == "leaving" else set(), {1} if how == "frontend" else set()))
    lab.age(1)
    assert lab.out(datagram, "forwarded").dst == (first if how == "leaving" else second)
    assert lab.out(datagram.but(dport=81), "forwarded").dst == first
