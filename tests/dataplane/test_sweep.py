"""The flow table swept from user space, on the kernel's own map."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from services.dataplane.flows import cut, sweep
from services.dataplane.layout import KINDS, MODES
from tests.dataplane.frames import ACK, RST, SYN, Packet
from tests.dataplane.lab import Lab
from weir.pins import Map

V4 = Packet(src="192.0.2.1", dst="198.51.100.1")
V6 = Packet(src="fd02::1", dst="fd03::1")
SECOND = 10**9


@pytest.fixture(params=[V4, V6], ids=["v4", "v6"])
def packet(request: pytest.FixtureRequest) -> Packet:
    sent: Packet = request.param
    return sent


def backends(packet: Packet, count: int) -> list[str]:
    return [f"fd01::1{number}" if packet.v6 else f"10.1.0.1{number}" for number in range(1, count + 1)]


@pytest.mark.parametrize(("flags", "lives_s", "over_s"), [((SYN,), 39, 41), ((ACK,), 1809, 1811), ((ACK, RST), 14, 16)])
def test_flow_goes_ten_seconds_after_it_is_over(lab: Lab, packet: Packet, flags: tuple[int, ...], lives_s: int, over_s: int) -> None:
    lab.serve(packet.dst, backends(packet, 1), first=7)
    for each in flags:
        lab.out(packet.but(flags=each), "forwarded")
    ((_, flow),) = lab.flows().items()
    alive, gone = sweep(lab.map("conntrack"), flow.last_seen_ns + lives_s * SECOND)
    assert (alive, gone) == (set() if RST in flags else {7}, 0)
    assert sweep(lab.map("conntrack"), flow.last_seen_ns + over_s * SECOND) == (set(), 1)
    assert not lab.flows()


@pytest.mark.parametrize("mode", ["onearm", "fullnat"])
def test_reverse_entry_goes_with_its_flow_and_not_before(lab: Lab, packet: Packet, mode: str) -> None:
    lab.serve(packet.dst, backends(packet, 1), mode=MODES.index(mode))
    lab.out(packet, "forwarded")
    (_, forward), (key, reverse) = sorted(lab.flows().items(), key=lambda pair: KINDS[pair[1].kind])
    assert [KINDS[flow.kind] for flow in (forward, reverse)] == ["forward", "reverse"]
    assert sweep(lab.map("conntrack"), forward.last_seen_ns)[1] == 0
    later = forward.last_seen_ns + 2000 * SECOND
    lab.change_flow(key, replace(reverse, last_seen_ns=later))
    assert sweep(lab.map("conntrack"), later)[1] == 2
    assert not lab.flows()


def test_what_another_flow_took_meanwhile_stays(lab: Lab, packet: Packet) -> None:
    """A port of source NAT that was left behind, and a client's own port."""
    lab.serve(packet.dst, backends(packet, 1), mode=MODES.index("onearm"))
    for port in (40000, 40001):
        lab.out(packet.but(sport=port), "forwarded")
    later = time.clock_gettime_ns(time.CLOCK_MONOTONIC) + 2000 * SECOND
    old = lab.flows()
    begun = {key: replace(flow, last_seen_ns=later) for key, flow in old.items()}
    for key, flow in begun.items():
        lab.change_flow(key, flow)
    first, second = (key for key, flow in begun.items() if KINDS[flow.kind] == "forward")
    lab.map("conntrack").delete(first.pack())
    lab.change_flow(second, old[second])

    def begin_again() -> None:
        lab.change_flow(first, begun[first])
        lab.change_flow(second, begun[second])

    assert sweep(Meanwhile(lab.map("conntrack"), begin_again), later)[1] == 0
    assert lab.flows() == begun


class Meanwhile(Map):
    """A table to which something happens whenever a reader has gone through it."""

    def __init__(self, table: Map, happens: Callable[[], None]) -> None:
        super().__init__(table.fd, table.name)
        self._happens = happens

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        yield from super().items()
        self._happens()


def test_flows_of_one_backend_are_cut_and_go_to_another(lab: Lab, packet: Packet) -> None:
    first, second = backends(packet, 2)
    lab.serve(packet.dst, [first], frontend=1, first=7)
    lab.serve(packet.dst, [first], frontend=2, first=7, port=81)
    for port in (80, 81):
        lab.out(packet.but(dport=port, flags=ACK), "forwarded")
    lab.serve(packet.dst, [second], frontend=1, first=8)
    assert lab.out(packet.but(flags=ACK), "forwarded").dst == first, "it drains"
    assert cut(lab.map("conntrack"), {(1, 7)}) == 1
    assert [key.destination_port for key in lab.flows()] == [81], "of another frontend"
    assert lab.out(packet.but(flags=ACK), "forwarded").dst == second, "who will reset it"
