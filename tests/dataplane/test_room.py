"""A full flow table, with nobody there to sweep it: new flows go on, in the place of those that matter least."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.dataplane.l4.layout import MODES, STATES, FlowKey
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


def backend(packet: Packet) -> list[str]:
    return ["fd01::11" if packet.v6 else "10.1.0.11"]


def other(packet: Packet) -> str:
    return "fd02::2" if packet.v6 else "192.0.2.2"


def establish(lab: Lab, packet: Packet) -> None:
    out = lab.out(packet, "forwarded")
    lab.out(out.but(src=out.dst, dst=out.src, sport=out.dport, dport=out.sport, flags=SYN | ACK, ttl=64), "replied")
    lab.out(packet.but(flags=ACK), "forwarded")


def established(lab: Lab, packet: Packet) -> bool:
    """Whether there was a place for it."""
    if lab.send(packet)[0] != "forwarded":
        return False
    establish(lab, packet)
    return True


def fill(lab: Lab, packet: Packet) -> set[FlowKey]:
    """Flows that go on, until there is no place for another.  A few find both index sets of their key full before."""
    most = lab.map("flows").max_entries
    assert sum(established(lab, packet.but(sport=1024 + number)) for number in range(most * 5 // 4)) > most * 0.95
    return set(lab.flows())


@pytest.mark.parametrize("mode", MODES)
def test_full_table_goes_on_taking_flows(lab: Lab, packet: Packet, mode: str) -> None:
    lab.serve(packet.dst, backend(packet))
    most = lab.map("flows").max_entries
    for number in range(most):
        lab.out(packet.but(sport=1024 + number), "forwarded")
    assert len(lab.flows()) > most * 0.95, "a few gave way where both index sets were full"
    lab.serve(packet.dst, backend(packet), mode=MODES.index(mode), port=81, frontend=2, first=2, to=8081)
    for number in range(300):
        out = lab.out(packet.but(sport=1024 + number, dport=81), "forwarded")
        back = out.but(src=out.dst, dst=out.src, sport=out.dport, dport=out.sport, flags=SYN | ACK, ttl=64)
        assert lab.out(back, "replied").dst == packet.src, number
    assert len(lab.flows()) > most * 0.95
    assert lab.faults() == []


@pytest.mark.parametrize(("proto", "flags"), [("TCP", SYN), ("TCP", ACK), ("UDP", ACK)], ids=["SYN", "ACK", "UDP"])
def test_no_flood_throws_established_flows_out(lab: Lab, packet: Packet, proto: str, flags: int) -> None:
    """Whoever can send packets makes flows; only those that both sides take part in are worth their place.

    Half of them are seen just before the flood: none of these goes.  The others are unseen for over 30 s: where 24 looks, half of them at
    random, show only flows that go on, which is once in 4,096 for half a table of them, the one unseen for longest gives way.
    """
    lab.serve(packet.dst, backend(packet))
    lab.serve(packet.dst, backend(packet), protocol="UDP", frontend=2, first=2, idle_timeout_s=1800)  # longer than the flood takes
    kept = [packet.but(sport=1024 + number, proto=proto) for number in range(256)]
    for each in kept:
        establish(lab, each)
    lab.age(100)
    for each in kept[::2]:
        lab.out(each.but(flags=ACK), "forwarded")
    flood = packet.but(src=other(packet), proto=proto, flags=flags)
    verdicts = [lab.send(flood.but(sport=1024 + number))[0] for number in range(3000)]
    assert verdicts.count("forwarded") > 2990
    left = {key.source_port for key in lab.flows() if key.source == packet.src}
    assert {each.sport for each in kept[::2]} <= left
    assert len({each.sport for each in kept} - left) <= 3
    fresh = flood.but(sport=60000)
    establish(lab, fresh)
    assert STATES[next(flow.state for key, flow in lab.flows().items() if key.source_port == 60000)] == "established", "and new ones come"
    assert lab.faults() == []


def test_a_table_full_of_flows_that_go_on_refuses_more_by_name(lab: Lab, packet: Packet) -> None:
    lab.serve(packet.dst, backend(packet))
    held = fill(lab, packet)
    lab.dropped(packet.but(src=other(packet)), "conntrack_full")
    assert lab.flows().keys() == held
    assert lab.faults() == []
    lab.age(31)
    verdicts = [lab.send(packet.but(src=other(packet), sport=number))[0] for number in range(1024, 1124)]
    assert verdicts.count("forwarded") > 90, "but for those whose index sets are full"


def test_long_unseen_goes_before_the_lately_seen(lab: Lab, packet: Packet) -> None:
    lab.serve(packet.dst, backend(packet))
    before = fill(lab, packet)
    for key, flow in lab.flows().items():
        if key.source_port % 2:
            lab.change_flow(replace(flow, seen=(flow.seen - 60_000) & 0xFFFFFFFF))
    came = sum(established(lab, packet.but(src=other(packet), sport=1024 + number)) for number in range(100))
    lost = before - lab.flows().keys()
    assert 90 < came <= len(lost) <= 100, "one may have lost its place for one that then found its index sets full"
    assert sum(key.source_port % 2 for key in lost) > 0.95 * len(lost)
    assert lab.faults() == []
