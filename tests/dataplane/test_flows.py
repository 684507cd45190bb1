"""Flows in every mode: packet in, verdict, packet out, map dump."""

from dataclasses import replace

import pytest

from services.dataplane.l4.layout import (
    ALGORITHMS,
    FRONTEND_AFFINITY,
    FRONTEND_LOCAL,
    FRONTEND_SOURCES,
    ID,
    INTERFACE_STACK,
    MODES,
    NO_BACKEND,
    STATES,
    Backend,
    Flow,
    FlowKey,
    Frontend,
    FrontendKey,
    Interface,
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


def only_flow(lab: Lab) -> Flow:
    (flow,) = lab.flows().values()
    return flow


def age(lab: Lab, seconds: float) -> None:
    """Make every flow as old as that."""
    lab.age(seconds)


def state(lab: Lab) -> str:
    return STATES[only_flow(lab).state]


def established(lab: Lab, net: Net, proto: str = "TCP", **changes: object) -> Packet:
    """A flow that both sides have taken part in; what goes to the backend."""
    out = lab.out(opening(net, proto, **changes), "forwarded")
    lab.out(answer(out, SYN | ACK), "replied")
    return lab.out(opening(net, proto, **changes).but(flags=ACK), "forwarded")


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
    assert (flow.packets_in, flow.packets_out) == (1, 1)
    assert lab.plan_seq(flow) == 77
    assert (flow.bytes_in, flow.bytes_out) == (len(there.frame()), len(back.frame()))
    assert flow.idle_s == (1800 if proto == "TCP" else 120)


def test_source_is_the_vip_in_fullnat(lab: Lab, net: Net, proto: str) -> None:
    lab.serve(net.vip, net.backends[:1], protocol=proto, mode=FULLNAT)
    there = opening(net, proto)
    out = lab.out(there, "forwarded")
    assert out == there.but(src=net.vip, dst=net.backends[0], sport=out.sport, dport=8080, ttl=63)
    assert 1024 <= out.sport <= 65535
    back = answer(out)
    assert lab.out(back, "replied") == back.but(src=net.vip, dst=net.client, sport=80, dport=40000, ttl=63)
    assert len(lab.flows()) == 1
    assert lab.out(there.but(flags=ACK), "forwarded").sport == out.sport


def test_source_is_the_egress_interface_in_onearm(lab: Lab, net: Net, proto: str) -> None:
    lab.serve(net.vip, net.backends[:1], protocol=proto, mode=ONEARM)
    out = lab.out(opening(net, proto), "forwarded")
    assert (out.src, out.dst) == (net.ours, net.backends[0])
    assert 1024 <= out.sport < 32768 or out.sport >= 61000, "not where this machine dials from"
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


def test_nat_ports_run_out_by_name_and_come_back(labs: dict[str, Lab]) -> None:
    net, lab = Net("v4"), Lab("tc", conntrack=131072, name="ports")
    try:
        lab.clear()
        lab.serve(net.vip, net.backends[:1], mode=ONEARM)
        lab.out(opening(net), "forwarded")
        flow = only_flow(lab)
        lab.empty()
        ports = [*range(1024, 32768), *range(61000, 65536)]
        keys = [replace(flow.key, source=f"10.9.{number // 250}.{number % 250}") for number in range(len(ports))]
        held = [replace(flow, key=key, new_source_port=port, state=2) for key, port in zip(keys, ports, strict=True)]
        lab.fill(held)
        assert {lab.send(opening(net, sport=port))[0] for port in range(1000, 1200)} == {"nat_ports_exhausted"}
        lab.empty()
        lab.fill(held[::2])
        assert [lab.send(opening(net, sport=port))[0] for port in range(1000, 1200)].count("forwarded") > 190
    finally:
        lab.close()


def test_port_of_a_flow_that_is_over_is_taken_again(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1], mode=FULLNAT)
    first = lab.out(opening(net), "forwarded")
    age(lab, 31)
    assert lab.out(opening(net), "forwarded").sport == first.sport


def test_port_of_a_closed_flow_rests(lab: Lab, net: Net) -> None:
    """The backend holds it in TIME_WAIT for a minute."""
    lab.serve(net.vip, net.backends[:1], mode=FULLNAT)
    out = established(lab, net)
    lab.out(opening(net, flags=FIN | ACK), "forwarded")
    lab.out(answer(out, FIN | ACK), "replied")
    lab.change_flow(replace(only_flow(lab), new_source_port=out.sport))
    ports = {lab.out(opening(net, sport=port), "forwarded").sport for port in range(41000, 41500)}
    assert out.sport not in ports


def test_who_took_the_port_of_a_flow_that_is_over_keeps_it(lab: Lab, net: Net) -> None:
    """The client of the old one dials anew from where it did."""
    lab.serve(net.vip, net.backends[:1], mode=ONEARM)
    lab.out(opening(net), "forwarded")
    taken = lab.out(opening(net, src=net.other_client), "forwarded")
    old = next(flow for key, flow in lab.flows().items() if key.source == net.client)
    lab.change_flow(replace(old, new_source_port=taken.sport, state=STATES.index("closed")))
    lab.out(opening(net), "forwarded")
    assert lab.out(answer(taken), "replied").dst == net.other_client


def test_backend_of_several_frontends_answers_for_the_right_one(lab: Lab, net: Net) -> None:
    vips = [f"{net.vip[:-1]}{i}" for i in range(1, 10)]
    lab.serve(vips[0], net.backends[:1], frontend=1, first=1)
    before = established(lab, net, dst=vips[0])
    for number, vip in enumerate(vips[1:], 2):
        lab.serve(vip, net.backends[:1], frontend=number, first=1)
        out = lab.out(opening(net, dst=vip, sport=3000 + number), "forwarded")
        assert lab.out(answer(out), "replied").src == vip
        assert lab.out(answer(before), "replied").src == vips[0], "it was there before the backend had others"
    assert len(lab.flows()) == len(vips)
    for number, vip in enumerate(vips[1:], 2):
        lab.map("frontends").delete(FrontendKey(vip, 80, "TCP").pack())
        assert lab.out(answer(before), "replied").src == vips[0], f"{number} frontends before"


def test_hundred_frontends_come_and_go_and_touch_no_flow_of_another(lab: Lab) -> None:
    """A thousand connections of the first; the others serve by the same backend, and have flows of their own."""
    net = Net("v4")
    lab.serve(net.vip, net.backends[:1], frontend=1, first=1)
    held = {port: established(lab, net, sport=port) for port in range(10_000, 11_000)}
    vips = [f"198.51.100.{number}" for number in range(101, 201)]
    for number, vip in enumerate(vips, 2):
        lab.serve(vip, net.backends[:1], frontend=number, first=1)
        lab.out(opening(net, dst=vip, sport=10_000 + number), "forwarded")
    for answered in range(2):
        for port, out in held.items():
            back = lab.out(answer(out), "replied")
            assert (back.src, back.sport, back.dport) == (net.vip, 80, port), answered
            assert lab.out(opening(net, sport=port, flags=ACK), "forwarded").dst == net.backends[0]
        for vip in vips:
            lab.map("frontends").delete(FrontendKey(vip, 80, "TCP").pack())
            lab.map("vips").delete(address_bytes(vip))
    assert lab.stats("frontend_stats", 1).flows == 1000, "none began again"
    assert lab.faults() == []


def test_two_vips_of_one_backend_dialled_from_the_same_port_do_not_meet(lab: Lab, net: Net) -> None:
    for number, vip in enumerate((net.vip, net.other_vip), 1):
        lab.serve(vip, net.backends[:1], frontend=number, first=1)
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


def test_direct_connection_from_the_port_of_a_closed_flow(lab: Lab, net: Net) -> None:
    """What is not ours is never rewritten: the client talks to the VIP, and then from there to the backend itself."""
    lab.serve(net.vip, net.backends[:1])
    out = established(lab, net)
    lab.out(opening(net, flags=FIN | ACK), "forwarded")
    lab.out(answer(out, FIN | ACK), "replied")
    lab.out(answer(out), "replied")
    direct = opening(net, dst=net.backends[0], dport=8080)
    lab.passed(direct)
    for flags in (SYN | ACK, ACK, FIN | ACK):
        lab.passed(answer(direct, flags))
    assert lab.out(opening(net), "forwarded").dst == net.backends[0], "and the VIP takes the next"


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
    assert state(lab) == "opening"
    for flags in (SYN | ACK, ACK):
        lab.out(answer(out, flags), "replied")
        assert state(lab) == "opening", "the client has not confirmed"
    lab.out(opening(net, flags=ACK), "forwarded")
    assert state(lab) == "established"
    lab.out(opening(net, flags=FIN | ACK), "forwarded")
    assert state(lab) == "half_closed"
    lab.out(answer(out, FIN | ACK), "replied")
    assert state(lab) == "closed"


@pytest.mark.parametrize("proto", ["TCP", "UDP"])
def test_nobody_confirms_a_flow_alone(lab: Lab, net: Net, proto: str) -> None:
    """Whoever can send packets can make such flows: they must not be worth as much as those that a backend has answered."""
    lab.serve(net.vip, net.backends[:1], protocol=proto)
    for _ in range(5):
        out = lab.out(opening(net, proto, flags=ACK), "forwarded")
    assert state(lab) == "opening"
    lab.out(answer(out), "replied")
    lab.out(opening(net, proto, flags=ACK), "forwarded")
    assert state(lab) == "established"


@pytest.mark.parametrize("side", ["client", "backend"])
def test_reset_costs_a_flow_its_rank_and_no_more(lab: Lab, net: Net, side: str) -> None:
    """It may be a blind one: if both sides go on, so does the flow."""
    lab.serve(net.vip, net.backends[:1])
    out = established(lab, net)
    lab.out(*((opening(net, flags=RST), "forwarded") if side == "client" else (answer(out, RST), "replied")))
    assert state(lab) == "reset"
    age(lab, 1790)
    lab.out(answer(out), "replied")
    lab.out(opening(net, flags=ACK), "forwarded")
    assert state(lab) == "established"
    assert lab.stats("frontend_stats", 1).flows == 1


@pytest.mark.parametrize("side", ["client", "backend"])
def test_half_closed_flow_lives_as_long_as_any(lab: Lab, net: Net, side: str) -> None:
    lab.serve(net.vip, net.backends[:1], idle_timeout_s=3600)
    out = established(lab, net)
    lab.out(*((opening(net, flags=FIN | ACK), "forwarded") if side == "client" else (answer(out, FIN | ACK), "replied")))
    for _ in range(3):
        age(lab, 3590)
        lab.out(answer(out), "replied")
        age(lab, 3590)
        lab.out(opening(net, flags=ACK), "forwarded")
    assert lab.stats("frontend_stats", 1).flows == 1


@pytest.mark.parametrize(
    ("steps", "alive_s", "over_s"),
    [("i", 29, 31), ("io", 29, 31), ("ioi", 1790, 1801), ("ioiF", 1790, 1801), ("ioiFf", 119, 121), ("ioiR", 1790, 1801)],
)
def test_flow_ends_by_the_time_of_its_state(lab: Lab, net: Net, steps: str, alive_s: int, over_s: int) -> None:
    """i, o: a packet of the client, of the backend; F, f: with FIN; R: with RST."""
    for seconds, replied in ((alive_s, True), (over_s, False)):
        lab.clear()
        lab.serve(net.vip, net.backends[:1])
        out = lab.out(opening(net), "forwarded")
        for step in steps[1:]:
            flags = {"F": FIN | ACK, "f": FIN | ACK, "R": RST}.get(step, ACK)
            lab.out(*((answer(out, flags), "replied") if step in "of" else (opening(net, flags=flags), "forwarded")))
        age(lab, seconds)
        lab.out(answer(out), "replied") if replied else lab.passed(answer(out))


def test_opening_flow_ends(lab: Lab, net: Net) -> None:
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
    out = established(lab, net)
    age(lab, 1801)
    lab.passed(answer(out))


def test_timeouts_of_days_are_kept_by_the_minute(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1], idle_timeout_s=5 * 86_400 + 1)
    out = established(lab, net)
    assert only_flow(lab).idle_s == 5 * 86_400 + 60
    age(lab, 5 * 86_400)
    lab.out(answer(out), "replied")


@pytest.mark.parametrize("end", ["closed", "reset"])
def test_new_connection_on_the_ports_of_one_that_ended_chooses_anew(lab: Lab, net: Net, end: str) -> None:
    lab.serve(net.vip, net.backends[:1])
    out = established(lab, net)
    lab.out(opening(net, flags=RST if end == "reset" else FIN | ACK), "forwarded")
    if end == "closed":
        lab.out(answer(out, FIN | ACK), "replied")
    lab.map("tables").put_many(table_pairs(1, [2]))
    lab.map("backends").put(ID.pack(2), Backend(net.backends[1], 8080, "TCP").pack())
    assert lab.out(opening(net), "forwarded").dst == net.backends[1]
    assert state(lab) == "opening"


def test_drained_backend_keeps_its_flows_and_gets_no_new_ones(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1])
    established(lab, net)
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


def test_clusters_choose_each_in_its_own_way(lab: Lab, net: Net) -> None:
    """Else whoever knows Weir picks ports that all go to one backend."""
    lab.serve(net.vip, net.backends)
    chosen = []
    for seed in (1, 2, 1):
        lab.map("cluster_seed").put(ID.pack(0), seed.to_bytes(8, "little"))
        lab.empty()
        chosen.append([lab.out(opening(net, sport=port), "forwarded").dst for port in range(100, 150)])
    assert chosen[0] == chosen[2] != chosen[1]


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


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_all_down_is_all_up(lab: Lab, net: Net, algorithm: str) -> None:
    lab.serve(net.vip, net.backends[:3], algorithm=ALGORITHMS.index(algorithm))
    lab.down(*net.backends[:3])
    assert len(spread(lab, net, 100)) == 3


def test_table_larger_than_a_chunk(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:2])
    lab.map("tables").put_many(table_pairs(9, [1] * 64 + [2] * 86))
    replace_frontend(lab, net, set_id=9, size=150)
    counts = spread(lab, net)
    assert counts[net.backends[1]] > counts[net.backends[0]] > 60


def replace_frontend(lab: Lab, net: Net, proto: str = "TCP", **changes: int) -> None:
    key = FrontendKey(net.vip, 80, proto).pack()
    frontend = replace(Frontend.unpack(lab.map("frontends").get(key) or b""), **changes)
    lab.map("frontends").put(key, frontend.pack())


def test_syn_again_leaves_a_backend_that_went_down(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:2])
    first = lab.out(opening(net), "forwarded").dst
    lab.down(first)
    assert lab.out(opening(net), "forwarded").dst != first
    assert lab.stats("frontend_stats", 1).flows == 2


def test_syn_on_the_ports_of_a_live_flow_leaves_a_backend_that_is_down(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:2])
    first = established(lab, net).dst
    lab.down(first)
    assert lab.out(opening(net, flags=ACK), "forwarded").dst == first, "data stays"
    assert lab.out(opening(net), "forwarded").dst != first


def test_refused_datagram_does_not_keep_another_flow_at_its_backend(lab: Lab, net: Net) -> None:
    lab.serve(net.vip, net.backends[:1], protocol="UDP", frontend=1, first=1)
    lab.serve(net.other_vip, net.backends[1:3], protocol="UDP", frontend=2, first=2)
    refused = opening(net, "UDP")
    lab.out(refused, "forwarded")
    other = opening(net, "UDP", dst=net.other_vip)
    before = lab.out(other, "forwarded").dst
    lab.down(net.backends[0], before, protocol="UDP")
    replace_frontend(lab, net, "UDP", flags=FRONTEND_SOURCES)
    age(lab, 1)
    lab.dropped(refused, "source_denied")
    assert lab.out(other, "forwarded").dst != before


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
