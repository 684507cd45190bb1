"""Flows in every mode: packet in, verdict, packet out, map dump."""

import time
from dataclasses import replace

import pytest

from services.dataplane.layout import (
    BACKEND_SHARED,
    FRONTEND_AFFINITY,
    FRONTEND_LOCAL,
    FRONTEND_SOURCES,
    ID,
    INTERFACE_STACK,
    KINDS,
    MODES,
    NO_BACKEND,
    STATES,
    Backend,
    Flow,
    FlowKey,
    Frontend,
    FrontendKey,
    Interface,
    Origin,
    source_range_key,
    table_pairs,
)
from tests.dataplane.frames import ACK, FIN, RST, SYN, Packet
from tests.dataplane.lab import BACKEND_MAC, CLIENT_HOP_MAC, MAC, PASS, Lab
from weir.pins import address_bytes

ONEARM, FULLNAT = MODES.index("onearm"), MODES.index("fullnat")
SECOND = 1_000_000_000


class Net:
    """The addresses of one family."""

    def __init__(self, family: str) -> None:
        v4 = family == "v4"
        self.vip, self.other_vip = ("198.51.100.1", "198.51.100.2") if v4 else ("fd03::1", "fd03::2")
        self.client, self.other_client = ("192.0.2.1", "192.0.2.2") if v4 else ("fd02::1", "fd02::2")
        self.backends = [f"10.1.0.1{i}" if v4 else f"fd01::1{i}" for i in range(1, 7)]
        self.ours = "10.1.0.1" if v4 else "fd01::1"


@pytest.fixture(params=["v4", "v6"])
def net(request: pytest.FixtureRequest) -> Net:
    return Net(request.param)


@pytest.fixture(params=["TCP", "UDP"])
def proto(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opening(net: Net, proto: str = "TCP", **changes: object) -> Packet:
    flags = SYN if proto == "TCP" else ACK
    return Packet(src=net.client, dst=net.vip, proto=proto, flags=flags).but(**changes)


def answer(out: Packet, flags: int = ACK) -> Packet:
    """What the backend sends back."""
    return out.but(src=out.dst, dst=out.src, sport=out.dport, dport=out.sport, ttl=64, flags=flags if out.proto == "TCP" else ACK)


def only_forward(lab: Lab) -> tuple[FlowKey, Flow]:
    forward = [(key, flow) for key, flow in lab.flows().items() if KINDS[flow.kind] == "forward"]
    assert len(forward) == 1
    return forward[0]


def age(lab: Lab, seconds: float) -> None:
    """Make every flow as old as that.  On a machine that is younger the time wraps, as the programs' difference does."""
    then = (time.clock_gettime_ns(time.CLOCK_MONOTONIC) - int(seconds * SECOND)) % 2**64
    for key, flow in lab.flows().items():
        lab.change_flow(key, replace(flow, last_seen_ns=then))


def state(lab: Lab) -> str:
    return STATES[only_forward(lab)[1].state]


# The ways there and back


def test_default_mode_keeps_the_client_and_costs_one_entry(lab: Lab, net: Net, proto: str) -> None:
    lab.serve(net.vip, net.backends[:1], protocol=proto, plan_seq=77)
    there = opening(net, proto)
    out = lab.out(there, "forwarded")
    assert out == there.but(dst=net.backends[0], dport=8080, ttl=63)
    back = answer(out, SYN | ACK)
    assert lab.out(back, "replied") == back.but(src=net.vip, sport=80, ttl=63)
    (key, flow), *more = lab.flows().items()
    assert not more
    assert key == FlowKey(net.client, net.vip, 40000, 80, proto)
    assert (flow.new_source, flow.new_destination, flow.new_destination_port) == (net.client, net.backends[0], 8080)
    assert (flow.packets_in, flow.packets_out, flow.plan_seq) == (1, 1, 77)
    assert (flow.bytes_in, flow.bytes_out) == (len(there.frame()), len(back.frame()))
    assert flow.idle_timeout_s == (1800 if proto == "TCP" else 120)


def test_source_is_the_vip_in_fullnat(lab: Lab, net: Net, proto: str) -> None:
    lab.serve(net.vip, net.backends[:1], protocol=proto, mode=FULLNAT)
    there = opening(net, proto)
    out = lab.out(there, "forwarded")
    assert out == there.but(src=net.vip, dst=net.backends[0], sport=out.sport, dport=8080, ttl=63)
    assert 1024 <= out.sport <= 65535
    back = answer(out)
    assert lab.out(back, "replied") == back.but(src=net.vip, dst=net.client, sport=80, dport=40000, ttl=63)
    assert sorted(KINDS[flow.kind] for flow in lab.flows().values()) == ["forward", "reverse"]
    assert lab.out(there.but(flags=ACK), "forwarded").sport == out.sport


def test_source_is_the_egress_interface_in_onearm(lab: Lab, net: Net, proto: str) -> None:
    lab.serve(net.vip, net.backends[:1], protocol=proto, mode=ONEARM)
    out = lab.out(opening(net, proto), "forwarded")
    assert (out.src, out.dst) == (net.ours, net.backends[0])
    assert 61000 <= out.sport <= 65535
    back = answer(out)
    assert lab.out(back, "replied") == back.but(src=net.vip, dst=net.client, sport=80, dport=40000, ttl=63)


def test_onearm_without_an_address_says_so(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1], mode=ONEARM)
    lab.map("interfaces").put(ID.pack(lab.index("back")), Interface(MAC).pack())
    lab.dropped(opening(net), "no_interface")


def test_client_on_a_backend_host_gets_fullnat(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:2])
    lab.map("backend_hosts").put(address_bytes(net.backends[0]), b"\1")
    there = opening(net, src=net.backends[0])
    out = lab.out(there, "forwarded")
    assert out.src == net.vip
    assert lab.out(answer(out), "replied") == answer(out).but(src=net.vip, dst=net.backends[0], sport=80, dport=40000, ttl=63)


def test_two_clients_do_not_share_a_nat_port(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1], mode=ONEARM)
    ports = {lab.out(opening(net, sport=port), "forwarded").sport for port in range(20000, 20400)}
    assert len(ports) == 400


def test_nat_ports_run_out_by_name_and_come_back(lab: Lab) -> None:
    net = Net("v4")
    lab.serve(net.vip, net.backends[:1], mode=ONEARM)
    lab.out(opening(net), "forwarded")
    reverse = next(flow for flow in lab.flows().values() if KINDS[flow.kind] == "reverse")
    taken = replace(reverse, kind=0)  # a forward entry in the way is never given up
    keys = [FlowKey(net.backends[0], net.ours, 8080, port, "TCP").pack() for port in range(61000, 65536)]
    small = keys[: lab.map("conntrack").max_entries * 3 // 4]
    lab.map("conntrack").put_many((key, taken.pack()) for key in small)
    verdicts = [lab.send(opening(net, sport=port))[0] for port in range(1000, 1200)]
    assert verdicts.count("nat_ports_exhausted") in range(1, 60)
    lab.map("conntrack").delete_many(small)
    lab.out(opening(net, sport=999), "forwarded")


def test_port_of_a_flow_that_is_over_is_taken_again(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1], mode=FULLNAT)
    first = lab.out(opening(net), "forwarded")
    lab.map("conntrack").delete(FlowKey(net.client, net.vip, 40000, 80, "TCP").pack())  # as the LRU may
    assert lab.out(opening(net), "forwarded").sport == first.sport


def test_who_took_the_port_of_a_flow_that_is_over_keeps_it(lab: Lab, net: Net) -> None:
    """The client of the old one dials anew from where it did."""
    lab.serve(net.vip, net.backends[:1], mode=ONEARM)
    lab.out(opening(net), "forwarded")
    key, flow = only_forward(lab)
    taken = lab.out(opening(net, src=net.other_client), "forwarded")
    lab.change_flow(key, replace(flow, new_source_port=taken.sport, state=STATES.index("closed")))
    lab.out(opening(net), "forwarded")
    assert lab.out(answer(taken), "replied").dst == net.other_client


def test_flow_whose_nat_port_was_lost_gets_another(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1], mode=FULLNAT)
    out = lab.out(opening(net), "forwarded")
    age(lab, 1)
    lab.map("conntrack").delete(FlowKey(net.backends[0], net.vip, 8080, out.sport, "TCP").pack())
    again = lab.out(opening(net, flags=ACK), "forwarded")
    back = answer(again)
    assert lab.out(back, "replied").dst == net.client


def test_backend_of_several_frontends_answers_for_the_right_one(lab: Lab, net: Net) -> None:
    vips = [f"{net.vip[:-1]}{i}" for i in range(1, 7)]
    for number, vip in enumerate(vips, 1):
        lab.serve(vip, net.backends[:1], frontend=number, first=1, shared=BACKEND_SHARED)
    lab.map("origins").put(Backend(net.backends[0], 8080, "TCP").key(), Origin(1, ()).pack())  # not even a candidate
    for number, vip in enumerate(vips):
        out = lab.out(opening(net, dst=vip, sport=3000 + number), "forwarded")
        assert lab.out(answer(out), "replied").src == vip
    assert len(lab.flows()) == 2 * len(vips)


def test_two_vips_of_one_backend_dialled_from_the_same_port_do_not_meet(lab: Lab, net: Net) -> None:
    for number, vip in enumerate((net.vip, net.other_vip), 1):
        lab.serve(vip, net.backends[:1], frontend=number, first=1, shared=BACKEND_SHARED)
    first = lab.out(opening(net), "forwarded")
    second = lab.out(opening(net, dst=net.other_vip), "forwarded")
    assert (first.src, first.sport) == (net.client, opening(net).sport), "the first keeps its own port"
    assert second.src == net.client, "the client is kept"
    assert second.sport != first.sport
    for out, vip in ((first, net.vip), (second, net.other_vip)):
        back = lab.out(answer(out), "replied")
        assert (back.src, back.dst, back.dport) == (vip, net.client, first.sport)
    age(lab, 1)
    assert lab.out(opening(net, dst=net.other_vip, flags=ACK), "forwarded").sport == second.sport


def test_candidates_are_told_apart_by_their_flows(lab: Lab, net: Net) -> None:
    for number, vip in enumerate((net.vip, net.other_vip), 1):
        lab.serve(vip, net.backends[:1], frontend=number, first=1)
    names = tuple(FrontendKey(vip, 80, "TCP") for vip in (net.vip, net.other_vip))
    lab.map("origins").put(Backend(net.backends[0], 8080, "TCP").key(), Origin(1, names).pack())
    out = lab.out(opening(net, dst=net.other_vip), "forwarded")
    assert lab.out(answer(out), "replied").src == net.other_vip


def test_what_a_backend_says_to_others_passes_untouched(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1])
    lab.passed(Packet(src=net.backends[0], dst=net.client, sport=8080, dport=40000))
    lab.passed(Packet(src=net.client, dst=net.backends[0], sport=40000, dport=8080))


def test_next_hop_macs_are_written(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1])
    out = lab.out(opening(net), "forwarded")
    first = lab.macs
    lab.out(opening(net), "forwarded")
    assert lab.macs == BACKEND_MAC + MAC
    assert first == (opening(net).eth if lab.hook == "tc" else BACKEND_MAC + MAC), "tc sends the first by the neighbour code"
    lab.out(answer(out), "replied")
    lab.out(answer(out), "replied")
    assert lab.macs == CLIENT_HOP_MAC + MAC


def test_overlay_gets_it_from_tc_alone_and_from_xdp_through_the_stack(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1])
    lab.map("interfaces").put(ID.pack(lab.index("back")), Interface(MAC, flags=INTERFACE_STACK).pack())
    for _ in range(2):
        if lab.hook == "tc":
            lab.out(opening(net), "forwarded")
            continue
        verdict, action, frame = lab.send(opening(net))
        assert (verdict, action) == ("forwarded", PASS)
        assert frame == opening(net, dst=net.backends[0], dport=8080).frame(), "and the stack counts down the TTL"


def test_l7_frontend_is_counted_and_left_to_the_stack(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1], flags=FRONTEND_LOCAL)
    lab.passed(opening(net), "delivered")
    assert lab.stats("frontend_stats", 1).packets_in == 1
    assert not lab.flows()


def test_everything_is_counted(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1])
    there = opening(net)
    out = lab.out(there, "forwarded")
    lab.out(there.but(flags=ACK), "forwarded")
    lab.out(answer(out), "replied")
    for name in ("frontend_stats", "backend_stats"):
        stats = lab.stats(name, 1)
        assert (stats.packets_in, stats.packets_out, stats.flows) == (2, 1, 1)
        assert (stats.bytes_in, stats.bytes_out) == (2 * len(there.frame()), len(answer(out).frame()))


# TCP states and time


def test_tcp_states(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1])
    out = lab.out(opening(net), "forwarded")
    assert state(lab) == "half_open"
    for flags in (SYN | ACK, ACK):
        lab.out(answer(out, flags), "replied")
        assert state(lab) == "half_open", "the client has not confirmed"
    lab.out(opening(net, flags=ACK), "forwarded")
    assert state(lab) == "established"
    lab.out(opening(net, flags=FIN | ACK), "forwarded")
    assert state(lab) == "closing"
    lab.out(answer(out, FIN | ACK), "replied")
    assert state(lab) == "closed"


@pytest.mark.parametrize("side", ["client", "backend"])
def test_reset_closes(lab: Lab, net: Net, side: str) -> None:
    lab.serve(net.vip, net.backends[:1])
    out = lab.out(opening(net), "forwarded")
    lab.out(*((opening(net, flags=RST), "forwarded") if side == "client" else (answer(out, RST), "replied")))
    assert state(lab) == "closed"


@pytest.mark.parametrize(
    ("flags", "alive_s", "over_s"), [((), 20, 31), ((ACK,), 1790, 1801), ((ACK, FIN | ACK), 20, 31), ((ACK, RST), 1, 6)]
)
def test_flow_ends_by_the_time_of_its_state(lab: Lab, net: Net, flags: tuple[int, ...], alive_s: int, over_s: int) -> None:
    lab.serve(net.vip, net.backends[:1])
    lab.out(opening(net), "forwarded")
    for each in flags:
        lab.out(opening(net, flags=each), "forwarded")
    age(lab, alive_s)
    lab.out(opening(net, flags=ACK), "forwarded")
    assert lab.stats("frontend_stats", 1).flows == 1
    if not flags:
        return  # that packet has just established it
    lab_state = state(lab)
    age(lab, over_s)
    lab.out(opening(net, flags=ACK), "forwarded")
    assert lab.stats("frontend_stats", 1).flows == 2, lab_state


def test_half_open_flow_ends(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1])
    lab.out(opening(net), "forwarded")
    age(lab, 31)
    lab.out(opening(net), "forwarded")
    assert lab.stats("frontend_stats", 1).flows == 2


@pytest.mark.parametrize(("configured", "age_s", "flows"), [(0, 110, 1), (0, 121, 2), (20, 10, 1), (20, 21, 2), (300, 290, 1)])
def test_udp_flow_ends_by_the_frontends_time(lab: Lab, net: Net, configured: int, age_s: int, flows: int) -> None:
    lab.serve(net.vip, net.backends[:1], protocol="UDP", idle_timeout_s=configured)
    lab.out(opening(net, "UDP"), "forwarded")
    age(lab, age_s)
    lab.out(opening(net, "UDP"), "forwarded")
    assert lab.stats("frontend_stats", 1).flows == flows


def test_reply_of_a_flow_that_is_over_is_not_ours(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1])
    out = lab.out(opening(net, flags=ACK), "forwarded")
    age(lab, 1801)
    lab.passed(answer(out))


def test_mid_stream_packet_without_entry_starts_an_established_flow(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1])
    lab.out(opening(net, flags=ACK), "forwarded")
    assert state(lab) == "established"


def test_new_connection_on_a_closed_flows_ports_chooses_anew(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1])
    lab.out(opening(net), "forwarded")
    lab.out(opening(net, flags=RST), "forwarded")
    lab.map("tables").put_many(table_pairs(1, [2]))
    lab.map("backends").put(ID.pack(2), Backend(net.backends[1], 8080, "TCP").pack())
    assert lab.out(opening(net), "forwarded").dst == net.backends[1]
    assert state(lab) == "half_open"


def test_drained_backend_keeps_its_flows_and_gets_no_new_ones(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1])
    lab.out(opening(net, flags=ACK), "forwarded")
    lab.map("backends").put(ID.pack(2), Backend(net.backends[1], 8080, "TCP").pack())
    lab.map("tables").put_many(table_pairs(1, [2]))
    assert lab.out(opening(net, flags=ACK), "forwarded").dst == net.backends[0]
    assert lab.out(opening(net, sport=40001), "forwarded").dst == net.backends[1]


# Choosing


def spread(lab: Lab, net: Net, count: int = 300, **changes: object) -> dict[str, int]:
    chosen = [lab.out(opening(net, sport=10000 + i, **changes), "forwarded").dst for i in range(count)]
    return {backend: chosen.count(backend) for backend in sorted(set(chosen))}


def test_flows_spread_over_the_table(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:3])
    counts = spread(lab, net)
    assert len(counts) == 3
    assert min(counts.values()) > 60


def test_both_hooks_choose_alike(labs: dict[str, Lab], net: Net) -> None:
    chosen = []
    for lab in labs.values():
        lab.clear()
        lab.serve(net.vip, net.backends)
        chosen.append([lab.out(opening(net, sport=port), "forwarded").dst for port in range(100, 150)])
    assert chosen[0] == chosen[1]


def test_affinity_looks_at_the_client_alone(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends, flags=FRONTEND_AFFINITY)
    assert len(spread(lab, net, 50)) == 1


def test_round_robin_takes_turns(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:3], algorithm=1)
    assert set(spread(lab, net, 30).values()) == {10}


def test_backend_that_is_down_gets_no_new_flow(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:3])
    lab.down(net.backends[1])
    assert set(spread(lab, net, 100)) == {net.backends[0], net.backends[2]}


def test_all_down_is_all_up(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:3])
    lab.down(*net.backends[:3])
    assert len(spread(lab, net, 100)) == 3


def test_table_larger_than_a_chunk(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:2])
    lab.map("tables").put_many(table_pairs(9, [1] * 64 + [2] * 86))
    replace_frontend(lab, net, set_id=9, size=150)
    counts = spread(lab, net)
    assert counts[net.backends[1]] > counts[net.backends[0]] > 60


def replace_frontend(lab: Lab, net: Net, **changes: int) -> None:
    key = FrontendKey(net.vip, 80, "TCP").pack()
    frontend = replace(Frontend.unpack(lab.map("frontends").get(key) or b""), **changes)
    lab.map("frontends").put(key, frontend.pack())


def test_syn_again_leaves_a_backend_that_went_down(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:2])
    first = lab.out(opening(net), "forwarded").dst
    lab.down(first)
    assert lab.out(opening(net), "forwarded").dst != first
    assert lab.stats("frontend_stats", 1).flows == 2


def test_established_tcp_stays_with_a_backend_that_is_down(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:2])
    first = lab.out(opening(net, flags=ACK), "forwarded").dst
    lab.down(first)
    assert lab.out(opening(net, flags=ACK), "forwarded").dst == first


@pytest.mark.parametrize("how", ["down", "gone"])
def test_udp_leaves_a_backend_that_is_down_or_gone(lab: Lab, net: Net, how: str) -> None:
    lab.serve(net.vip, net.backends[:2], protocol="UDP")
    first = lab.out(opening(net, "UDP"), "forwarded").dst
    if how == "down":
        lab.down(first, protocol="UDP")
    else:
        lab.map("backends").put(ID.pack(1 + net.backends.index(first)), NO_BACKEND)
    age(lab, 1)  # within one tick nothing is checked twice
    assert lab.out(opening(net, "UDP"), "forwarded").dst != first


def test_udp_stays_when_there_is_nowhere_else(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:2], protocol="UDP", mode=FULLNAT)
    lab.down(*net.backends[:2], protocol="UDP")
    first = lab.out(opening(net, "UDP"), "forwarded")
    age(lab, 1)
    again = lab.out(opening(net, "UDP"), "forwarded")
    assert (again.dst, again.sport) == (first.dst, first.sport)
    assert lab.stats("frontend_stats", 1).flows == 1


def test_frontend_without_backend(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1])
    replace_frontend(lab, net, size=0)
    lab.dropped(opening(net), "no_backend")


def test_vip_without_frontend(lab: Lab, net: Net, proto: str) -> None:
    lab.serve(net.vip, net.backends[:1], protocol=proto)
    lab.dropped(opening(net, proto, dport=81), "no_frontend")


def test_only_the_given_sources(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1], flags=FRONTEND_SOURCES)
    lab.dropped(opening(net), "source_denied")
    lab.map("source_ranges").put(source_range_key(1, net.client, 24 if ":" not in net.client else 64), b"\1")
    lab.out(opening(net), "forwarded")
    lab.dropped(opening(net, src="203.0.113.1" if ":" not in net.client else "fd09::1"), "source_denied")


def test_a_mix_of_families_is_refused(lab: Lab) -> None:
    lab.serve("198.51.100.1", ["fd01::11"])
    lab.dropped(opening(Net("v4")), "unsupported")
