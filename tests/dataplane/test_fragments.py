"""Datagrams in fragments: forwarded with their first, bounded, and no way round it."""

import random
import socket
import time
from collections.abc import Iterator
from itertools import permutations

import pytest

from services.dataplane.l4.layout import FRAGMENT, FRAGMENTS, MODES, Vip
from tests.dataplane.conftest import needs_kernel
from tests.dataplane.frames import ACK, CLIENT_MAC, SYN, Packet, cut, joined, part
from tests.dataplane.lab import DROP, OUT, PASS, Lab, inside, run_program, sh
from tests.dataplane.test_wire import checksum_errors
from tests.dataplane.wire import VIPS, Wire, name, wire
from weir.pins import address_bytes

V4 = Packet(src="192.0.2.1", dst="198.51.100.1", proto="UDP", body=random.Random(1).randbytes(3000))
V6 = V4.but(src="fd02::1", dst="fd03::1")
BACKEND = {False: "10.1.0.11", True: "fd01::11"}
STRANGER = {False: "192.0.2.254", True: "fd02::fe"}


@pytest.fixture(params=[V4, V6], ids=["v4", "v6"])
def packet(request: pytest.FixtureRequest, lab: Lab) -> Packet:
    assert isinstance(request.param, Packet)
    serve(lab, request.param)
    return request.param


def serve(lab: Lab, packet: Packet, mode: str = "default") -> None:
    """One backend, at the frontend's own port, as SCTP wants it."""
    backend = BACKEND[packet.v6]
    lab.map("backend_hosts").put(address_bytes(backend), b"\1")
    for number, protocol in enumerate(("TCP", "UDP", "SCTP"), 1):
        lab.serve(packet.dst, [backend], to=80, protocol=protocol, frontend=number, first=number, mode=MODES.index(mode))


def through(lab: Lab, frames: list[bytes], verdict: str = "forwarded") -> tuple[Packet, int]:
    """All of them, which must leave by this verdict, as one datagram."""
    left = []
    for number, frame in enumerate(frames):
        got, action, out = lab.send(frame)
        assert (got, action) == (verdict, OUT), number
        left.append(frame[:12] + out[12:])
    return joined(left)


def answer(out: Packet, body: bytes) -> Packet:
    return out.but(src=out.dst, dst=out.src, sport=out.dport, dport=out.sport, body=body, ttl=64)


@pytest.mark.parametrize(("proto", "mode"), [*((proto, mode) for proto in ("TCP", "UDP") for mode in MODES), ("SCTP", "default")])
def test_request_and_reply_go_through_in_fragments(lab: Lab, packet: Packet, proto: str, mode: str) -> None:
    serve(lab, packet, mode)
    sent = packet.but(proto=proto, flags=SYN if proto == "TCP" else ACK)
    out, _ = through(lab, cut(sent))
    assert out == sent.but(src=out.src, sport=out.sport, dst=BACKEND[packet.v6], ttl=63)
    assert (out.src == sent.src) == (mode == "default")
    back, _ = through(lab, cut(answer(out, bytes(5000))), "replied")
    assert back == answer(sent, bytes(5000)).but(ttl=63)
    flow = next(iter(lab.flows().values()))
    assert (flow.packets_in, flow.packets_out) == (3, 4)


def test_one_datagram_without_checksum(lab: Lab, packet: Packet) -> None:
    assert not through(lab, cut(packet.but(udp_checksum=False)))[0].udp_checksum


def test_ip_options_are_stepped_over(lab: Lab, packet: Packet) -> None:
    sent = packet.but(options=b"" if packet.v6 else b"\1" * 40)
    assert through(lab, cut(sent))[0] == sent.but(dst=BACKEND[packet.v6], ttl=63)


def test_later_fragments_follow_in_any_order(lab: Lab, packet: Packet) -> None:
    for ident, order in enumerate(permutations(range(1, 4))):
        frames = cut(packet, ident, size=800)
        out, _ = through(lab, [frames[0], *(frames[at] for at in order)])
        assert out.body == packet.body


def test_a_fragment_ahead_of_its_first_is_seen_again(lab: Lab, packet: Packet) -> None:
    """On tc; in XDP there is no queue to put it in."""
    first, *others = cut(packet)
    for frame in others:
        expected = ("fragment_retried", OUT) if lab.hook == "tc" else ("fragment", DROP)
        assert lab.send(frame)[:2] == expected
    through(lab, [first, *others])


def test_how_often_it_is_seen_again_is_bounded(lab: Lab, packet: Packet) -> None:
    """For each packet, and for each CPU: 20,000 times a second.  A test run repeats with the same packet, as the queue does."""
    frame = cut(packet)[1]
    assert repeated(lab, frame, 17) == ((16, 1) if lab.hook == "tc" else (0, 17))
    again, dropped = repeated(lab, frame, 200_000)
    assert again + dropped == 200_000
    assert again < 100_000, "16 of 17 without a limit"
    assert not lab.flows()


def repeated(lab: Lab, frame: bytes, times: int) -> tuple[int, int]:
    """How often it was to be seen again, and dropped."""
    before = lab.verdicts()
    run_program(lab.program, frame, repeat=times)
    after = lab.verdicts()
    return after["fragment_retried"] - before["fragment_retried"], after["fragment"] - before["fragment"]


def test_fragments_to_others_pass(lab: Lab, packet: Packet) -> None:
    for frame in cut(packet.but(dst=STRANGER[packet.v6])):
        lab.passed(frame)
    assert not list(lab.map("fragments").items())


def test_what_a_backend_sends_to_others_passes(lab: Lab, packet: Packet) -> None:
    sent = packet.but(src=BACKEND[packet.v6], dst=STRANGER[packet.v6])
    for frame in cut(sent):
        lab.passed(frame)


def test_a_backends_fragment_without_its_first_never_passes(lab: Lab, packet: Packet) -> None:
    """It may be an answer, and would show the backend's address."""
    frame = cut(packet.but(src=BACKEND[packet.v6], dst=STRANGER[packet.v6]))[1]
    assert lab.send(frame)[:2] == (("fragment_retried", OUT) if lab.hook == "tc" else ("fragment", DROP))


def test_a_first_fragment_has_its_header_whole(lab: Lab, packet: Packet) -> None:
    """RFC 1858, section 3."""
    for proto in ("TCP", "SCTP"):
        sent = packet.but(proto=proto)
        lab.dropped(part(sent, 7, 0, sent.l4()[:8], more=True), "bad_fragment")
        lab.dropped(part(sent.but(src=BACKEND[packet.v6], dst=STRANGER[packet.v6]), 7, 0, sent.l4()[:8], more=True), "bad_fragment")
    lab.passed(part(packet.but(proto="TCP", dst=STRANGER[packet.v6]), 7, 0, bytes(8), more=True))
    assert not lab.flows()


def test_no_fragment_begins_within_the_header(lab: Lab, packet: Packet) -> None:
    """RFC 3128: it would overwrite the flags, or the ports, by which the first was let through."""
    sent = packet.but(proto="TCP", flags=SYN)
    lab.send(cut(sent)[0])
    for offset in (8, 16):
        lab.dropped(part(sent, 7, offset, bytes(1400), more=True), "bad_fragment")
    assert lab.send(part(sent, 7, 24, bytes(1400), more=True))[0] == "forwarded"


def test_fragments_of_impossible_length(lab: Lab, packet: Packet) -> None:
    lab.dropped(part(packet, 7, 0, packet.l4()[:1001], more=True), "bad_fragment")
    lab.dropped(part(packet, 7, 65528, bytes(8), more=False), "bad_fragment")
    if packet.v6:
        lab.dropped(part(packet, 7, 800, b"", more=False), "bad_fragment")


def test_the_last_first_fragment_of_an_id_holds(lab: Lab, packet: Packet) -> None:
    """Ids come round: what follows belongs to the new datagram."""
    through(lab, cut(packet))
    out, _ = through(lab, cut(packet.but(sport=40001)))
    assert out.sport == 40001


@pytest.mark.parametrize("mode", MODES)
def test_ids_of_one_source_differ_at_the_receiver(lab: Lab, packet: Packet, mode: str) -> None:
    serve(lab, packet, mode)
    clients = ["fd02::1", "fd02::2"] if packet.v6 else ["192.0.2.1", "192.0.2.2"]
    requests = [through(lab, cut(packet.but(src=client))) for client in clients]
    replies = [through(lab, cut(answer(out, bytes(3000))), "replied") for out, _ in requests]
    assert len({ident for _, ident in requests + replies}) == 4


def test_a_note_is_of_no_use_after_30_s(lab: Lab, packet: Packet) -> None:
    frames = cut(packet)
    through(lab, frames)
    held = lab.map("fragments")
    ((key, value),) = list(held.items())
    sport, dport, ident, seen, kind, header = FRAGMENT.unpack(value)
    held.put(key, FRAGMENT.pack(sport, dport, ident, seen - 31 * lab.constants.hz & 0xFFFFFFFF, kind, header))
    assert lab.send(frames[1])[0] != "forwarded"


def test_later_fragments_begin_no_flow_and_end_with_it(lab: Lab, packet: Packet) -> None:
    frames = cut(packet)
    lab.send(frames[0])
    lab.age(121)
    lab.dropped(frames[1], "fragment")
    lab.empty()
    lab.dropped(frames[1], "fragment")


def test_an_echo_in_fragments_is_answered(lab: Lab, packet: Packet) -> None:
    kind, done = (128, 129) if packet.v6 else (8, 0)
    ping = packet.but(proto="ICMPV6" if packet.v6 else "ICMP", sport=kind, dport=0)
    out, _ = through(lab, cut(ping), "echo_answered")
    assert out == ping.but(src=ping.dst, dst=ping.src, sport=done, eth=out.eth)
    lab.dropped(cut(ping.but(sport=3), 8)[0], "fragment")
    assert lab.send(cut(ping, 9)[1])[0] != "echo_answered"


@pytest.mark.parametrize("size", [1440, 1448])
def test_a_fragment_too_big_for_the_way_out_is_told(lab: Lab, packet: Packet, size: int) -> None:
    sh("ip link set back mtu 1400")
    try:
        seen = [lab.send(frame) for frame in cut(packet, size=size)]
    finally:
        sh("ip link set back mtu 1500")
    if packet.v6:
        assert [verdict for verdict, *_ in seen[:2]] == ["told_too_big", "fragment_retried" if lab.hook == "tc" else "fragment"]
    else:
        assert [each[:2] for each in seen[:2]] == [("forwarded", PASS)] * 2, "the stack cuts them again"


def test_an_error_about_a_fragment_is_turned_back(lab: Lab, packet: Packet) -> None:
    """By a router behind us: too big, as IPv6 has it, or unreachable."""
    frames = cut(packet)
    lab.send(frames[0])
    quoted = lab.send(frames[0])[2][14 : 14 + 100]
    proto, kind, to = ("ICMPV6", 2, STRANGER) if packet.v6 else ("ICMP", 3, STRANGER)
    error = packet.but(src=to[packet.v6], dst=packet.src, proto=proto, sport=kind, dport=0, body=bytes(4) + quoted)
    out = lab.out(error, "icmp_forwarded")
    assert out.dst == packet.src
    assert out.body[4:][: len(quoted)].find(address_bytes(packet.dst)[-4:]) > 0
    assert out.body[4:][48 if packet.v6 else 20 :][:4] == packet.l4()[:4]


def test_a_flood_of_fragments_ends_no_flow(lab: Lab, packet: Packet) -> None:
    established = [packet.but(sport=sport, body=b"x") for sport in range(50000, 50200)]
    for each in established:
        out = lab.out(each, "forwarded")
        lab.out(answer(out, b"y"), "replied")
    dice = random.Random(2)
    for frame in flood(packet, dice, 10_000):
        lab.send(frame)
    assert len(list(lab.map("fragments").items())) <= FRAGMENTS
    for each in established:
        lab.out(each, "forwarded")
    through(lab, cut(packet.but(sport=49999), 0x77))
    assert not lab.faults()


def flood(packet: Packet, dice: random.Random, count: int) -> Iterator[bytes]:
    """Firsts of few flows and others of none, under any id."""
    for turn in range(count):
        ident = dice.randrange(1 << 32 if packet.v6 else 1 << 16)
        if turn % 2:
            yield part(packet.but(sport=40000 + turn % 16), ident, 0, packet.l4()[:16], more=True)
        else:
            yield part(packet, ident, 1400, bytes(8), more=False)


def big_datagrams_arrive(vip: str) -> None:
    """3,000 bytes to the backends and as many back, of several clients at once, with no bad checksum anywhere."""
    before = [checksum_errors(space) for space in ("c", "b1", "b2")]
    with inside(name("c")):
        sockets = [udp(vip) for _ in range(8)]
    for turn, each in enumerate(sockets):
        each.send(bytes([turn]) * 3000)
    answers = [each.recv(65536) for each in sockets]
    for each in sockets:
        each.close()
    assert [data[3:] for data in answers] == [bytes([turn]) * 3000 for turn in range(8)]
    assert {data[:2] for data in answers} == {b"b1", b"b2"}
    assert [checksum_errors(space) for space in ("c", "b1", "b2")] == before


def raw_ip(vip: str) -> socket.socket:
    """Takes packets from the IP header on."""
    return socket.socket(socket.AF_INET6 if ":" in vip else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def udp(vip: str, icmp: bool = False, port: int = 0) -> socket.socket:
    v6 = ":" in vip
    proto = 0 if not icmp else socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
    found = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM, proto)
    found.settimeout(5)
    found.bind(("::" if v6 else "0.0.0.0", port))
    found.connect((vip, 80))
    return found


@pytest.fixture(scope="module")
def built() -> Iterator[Wire]:
    with wire() as built:
        yield built


@needs_kernel
@pytest.mark.parametrize("vip", VIPS)
@pytest.mark.parametrize("mode", MODES)
def test_datagrams_beyond_the_mtu_between_real_stacks(built: Wire, vip: str, mode: str) -> None:
    w = built.without_flows()
    w.serve("b1", "b2", mode=MODES.index(mode))
    big_datagrams_arrive(vip)


@needs_kernel
@pytest.mark.parametrize("vip", VIPS)
def test_a_fragment_whose_first_never_comes_goes_round_and_ends(built: Wire, vip: str) -> None:
    w = built.without_flows()
    w.serve("b1")
    before = w.verdict("fragment_retried"), w.verdict("fragment")
    with inside(name("lb")):
        mac = bytes.fromhex(sh("ip -o link show front").split("link/ether ")[1][:17].replace(":", ""))
    with inside(name("c")), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0))
        sent = (V6 if ":" in vip else V4).but(eth=mac + CLIENT_MAC)
        raw.send(part(sent, 99, 1400, bytes(1400), more=False))
    until = time.monotonic() + 5
    while w.verdict("fragment") == before[1]:
        assert time.monotonic() < until, "not dropped"
    assert (w.verdict("fragment_retried") - before[0], w.verdict("fragment") - before[1]) == (16, 1)


@needs_kernel
@pytest.mark.parametrize("vip", VIPS)
def test_a_first_fragment_overtakes_what_came_ahead_of_it(built: Wire, vip: str) -> None:
    """The client's stack holds both back until the VIP answers for its MAC, and lets them go in one breath."""
    w = built.without_flows()
    w.serve("b1")
    sent = V6.but(dst=vip) if ":" in vip else V4.but(dst=vip)
    before = w.verdict("fragment_retried"), w.verdict("fragment")
    w.map("vips").delete(address_bytes(vip))
    with inside(name("c")), udp(vip, port=sent.sport) as sock, raw_ip(vip) as raw:
        sh(f"ip neigh del {vip} dev eth0", check=False)
        for frame in reversed(cut(sent)):
            raw.sendto(frame[14:], (vip, 0))
        w.map("vips").put(address_bytes(vip), Vip().pack())
        assert sock.recv(65536) == b"b1 " + sent.body
    assert w.verdict("fragment_retried") > before[0]
    assert w.verdict("fragment") == before[1]


@needs_kernel
@pytest.mark.parametrize("vip", VIPS)
def test_vip_answers_a_ping_of_3000_bytes(built: Wire, vip: str) -> None:
    built.without_flows().serve("b1")
    with inside(name("c")):
        sh("sysctl -qw net.ipv4.ping_group_range='0 0'")
        sock = udp(vip, icmp=True)
        head = (b"\x80" if ":" in vip else b"\x08") + bytes(7)
        sock.send(head + bytes(3000))
        data = sock.recv(65536)
        sock.close()
    assert (data[0], len(data)) == (129 if ":" in vip else 0, 3008)
