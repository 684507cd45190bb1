"""A full flow table, with nobody there to sweep it: new flows go on, in the place of those that matter least."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.dataplane.layout import KINDS, MODES, STATES
from tests.dataplane.frames import ACK, SYN, Packet
from tests.dataplane.lab import Lab

V4 = Packet(src="192.0.2.1", dst="198.51.100.1", flags=SYN)
V6 = Packet(src="fd02::1", dst="fd03::1", flags=SYN)


@pytest.fixture(params=[V4, V6], ids=["v4", "v6"])
def packet(request: pytest.FixtureRequest) -> Packet:
    sent: Packet = request.param
    return sent


@pytest.fixture(scope="module")
def small(labs: dict[str, Lab]) -> Iterator[dict[str, Lab]]:
    """Labs of a table that is soon full, in the namespace of the large ones."""
    small = {hook: Lab(hook, 512, "room") for hook in labs}
    yield small
    for lab in small.values():
        lab.close()


@pytest.fixture(params=["tc", "xdp"])
def lab(small: dict[str, Lab], request: pytest.FixtureRequest) -> Lab:
    lab = small[request.param]
    lab.clear()
    return lab


def fill(lab: Lab, packet: Packet, flags: int = SYN) -> int:
    """Flows until the table is full; returns how many entries it takes."""
    most = lab.map("conntrack").max_entries
    for number in range(most):
        lab.out(packet.but(sport=1024 + number % 50000, dport=80, flags=flags), "forwarded")
    assert len(lab.flows()) == most
    return most


@pytest.mark.parametrize("mode", MODES)
def test_full_table_goes_on_taking_flows(lab: Lab, packet: Packet, mode: str) -> None:
    backend = ["fd01::11" if packet.v6 else "10.1.0.11"]
    lab.serve(packet.dst, backend)
    most = fill(lab, packet)
    lab.serve(packet.dst, backend, mode=MODES.index(mode), port=81, frontend=2, first=2, to=8081)
    for number in range(300):
        out = lab.out(packet.but(sport=1024 + number, dport=81), "forwarded")
        back = out.but(src=out.dst, dst=out.src, sport=out.dport, dport=out.sport, flags=SYN | ACK, ttl=64)
        assert lab.out(back, "replied").dst == packet.src, number
    assert 0 < len(lab.flows()) <= most


def test_flows_that_may_never_be_go_first(lab: Lab, packet: Packet) -> None:
    """As a flood of openings would leave it: none of the established flows is lost to it."""
    lab.serve(packet.dst, ["fd01::11" if packet.v6 else "10.1.0.11"])
    fill(lab, packet, SYN)
    kept = [packet.but(sport=1024 + number * 5, flags=ACK) for number in range(60)]
    for each in kept:
        lab.out(each, "forwarded")
    for number in range(1000):
        lab.out(packet.but(src="fd02::2" if packet.v6 else "192.0.2.2", sport=1024 + number), "forwarded")
    alive = {key.source_port for key, flow in lab.flows().items() if STATES[flow.state] == "established"}
    assert {each.sport for each in kept} <= alive


def test_of_a_pair_both_entries_go(lab: Lab, packet: Packet) -> None:
    lab.serve(packet.dst, ["fd01::11" if packet.v6 else "10.1.0.11"], mode=MODES.index("fullnat"))
    most = lab.map("conntrack").max_entries
    for number in range(most // 2 + 200):
        assert lab.send(packet.but(sport=1024 + number))[0] == "forwarded", number
    kinds = [KINDS[flow.kind] for flow in lab.flows().values()]
    assert abs(kinds.count("forward") - kinds.count("reverse")) < 5


def test_long_unseen_goes_before_the_lately_seen(lab: Lab, packet: Packet) -> None:
    lab.serve(packet.dst, ["fd01::11" if packet.v6 else "10.1.0.11"])
    fill(lab, packet, ACK)
    old = [key for key in lab.flows() if key.source_port % 2]
    for key, flow in lab.flows().items():
        if not key.source_port % 2:
            lab.change_flow(key, replace(flow, last_seen_ns=flow.last_seen_ns + 600 * 10**9))
    for number in range(100):
        lab.out(packet.but(src="fd02::2" if packet.v6 else "192.0.2.2", sport=1024 + number, flags=ACK), "forwarded")
    held = lab.flows()
    lost_old = sum(key not in held for key in old)
    assert lost_old > 90
