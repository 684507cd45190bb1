"""Packets as nobody sane sends them: each owned one ends in a named drop, each other one passes untouched."""

import random
import struct

import pytest

from services.dataplane.l4.layout import FIRST_DROP, FRONTEND_LOCAL, FRONTEND_SOURCES, VERDICTS, source_range_key
from tests.dataplane.frames import ACK, CLIENT_MAC, HOST_MAC, RST, SYN, Packet, checksum, put, read
from tests.dataplane.lab import DROP, MAC, PASS, Lab
from weir.pins import address_bytes

V4 = Packet(src="192.0.2.1", dst="198.51.100.1")
V6 = Packet(src="fd02::1", dst="fd03::1")
STRANGER = {False: "192.0.2.254", True: "fd02::fe"}


@pytest.fixture(params=[V4, V6], ids=["v4", "v6"])
def packet(request: pytest.FixtureRequest, lab: Lab) -> Packet:
    for good in (V4, V6):
        backend = "fd01::11" if good.v6 else "10.1.0.11"
        lab.serve(good.dst, [backend], frontend=1 + good.v6, first=1 + good.v6)
        lab.serve(good.dst, [backend], frontend=3 + good.v6, first=3 + good.v6, protocol="UDP")
        lab.serve(good.dst, [backend], frontend=5 + good.v6, first=5 + good.v6, protocol="SCTP", to=80)
    assert isinstance(request.param, Packet)
    return request.param


def edited(packet: Packet, at: int, *words: int) -> bytes:
    """16-bit words of the IP packet replaced, counted in bytes from the IP header; the IPv4 checksum mended."""
    ip = packet.ip()
    for index, word in enumerate(words):
        ip = put(ip, at + 2 * index, word)
    if not packet.v6:
        head = (ip[0] & 15) * 4
        ip = put(put(ip, 10, 0), 10, checksum(put(ip[:head], 10, 0)))
    return packet.frame()[:14] + ip


def test_ttl_is_counted_down(lab: Lab, packet: Packet) -> None:
    assert lab.out(packet.but(ttl=2), "forwarded").ttl == 1
    assert lab.out(packet.but(ttl=255), "forwarded").ttl == 254


@pytest.mark.parametrize("proto", ["TCP", "UDP", "SCTP"])
def test_options_are_stepped_over(lab: Lab, packet: Packet, proto: str) -> None:
    for words in range(0, 11, 2) if not packet.v6 else (0,):
        sent = packet.but(proto=proto, options=b"\x01" * 4 * words)
        out = lab.out(sent, "forwarded")
        assert out == sent.but(dst=out.dst, dport=out.dport, ttl=63)


@pytest.mark.parametrize("proto", ["TCP", "UDP", "SCTP"])
def test_truncated_anywhere(lab: Lab, packet: Packet, proto: str) -> None:
    frame = packet.but(proto=proto).frame()
    head = 14 + (40 if packet.v6 else 20)
    for length in range(head if lab.hook == "tc" else 15, len(frame)):  # tc test runs want the IP header
        verdict, action, out = lab.send(frame[:length])
        expected = ("malformed", DROP) if length >= head else ("passed", PASS)
        assert (verdict, action) == expected, length
        assert action == DROP or out == frame[:length]


def test_header_lengths_that_lie(lab: Lab, packet: Packet) -> None:
    if packet.v6:
        lies = [edited(packet, 4, 2000), edited(packet, 0, 0x4000)]
    else:
        lies = [edited(packet, 0, word) for word in (0x4000, 0x4400, 0x4F00, 0x6500)]
        lies += [edited(packet, 2, length) for length in (19, 39, 2000)]
    for frame in lies:
        lab.dropped(frame, "malformed")


def test_tcp_data_offset_below_its_header(lab: Lab, packet: Packet) -> None:
    at = (40 if packet.v6 else 20) + 12
    lab.dropped(edited(packet, at, 0x4010), "malformed")


@pytest.mark.parametrize("length", [0, 7, 14, 4000])
def test_udp_length_that_lies(lab: Lab, packet: Packet, length: int) -> None:
    at = (40 if packet.v6 else 20) + 4
    lab.dropped(edited(packet.but(proto="UDP"), at, length), "malformed") if length != 14 else lab.out(packet.but(proto="UDP"), "forwarded")


def test_protocols_nobody_serves(lab: Lab, packet: Packet) -> None:
    for number in (2, 47, 50, 58 if not packet.v6 else 1, 0, 43, 60, 255):
        frame = edited(packet, 6, number << 8 | 64) if packet.v6 else edited(packet, 8, 64 << 8 | number)
        lab.dropped(frame, "unsupported")


def test_udp_without_checksum_stays_without(lab: Lab, packet: Packet) -> None:
    out = lab.out(packet.but(proto="UDP", udp_checksum=False), "forwarded")
    assert not out.udp_checksum


def test_udp_checksum_that_comes_out_as_zero_is_written_as_ones(lab: Lab, packet: Packet) -> None:
    """Among all values of one payload word there is one for which the new checksum is zero."""
    sent = packet.but(proto="UDP", body=bytes(2))
    out = lab.out(sent, "forwarded")
    word = struct.unpack("!H", out.frame()[(54 if packet.v6 else 34) + 6 :][:2])[0]
    lab.out(sent.but(body=struct.pack("!H", word)), "forwarded")
    assert lab.out(sent.but(body=struct.pack("!H", word)), "forwarded").udp_checksum


def test_sctp_keeps_its_port_or_is_refused(lab: Lab, packet: Packet) -> None:
    sent = packet.but(proto="SCTP")
    assert lab.out(sent, "forwarded").dport == 80
    lab.serve(packet.dst, ["fd01::11" if packet.v6 else "10.1.0.11"], frontend=9, first=9, protocol="SCTP", port=81, to=8080)
    lab.dropped(sent.but(dport=81), "unsupported")


def test_checksum_that_was_wrong_stays_wrong(lab: Lab, packet: Packet) -> None:
    """A checksum is mended by difference, so a broken packet is not made good."""
    at = 14 + (40 if packet.v6 else 20) + 16
    frame = packet.frame()
    bad = put(frame, at, struct.unpack("!H", frame[at : at + 2])[0] ^ 0x1234)
    with pytest.raises(AssertionError, match="checksum"):
        lab.out(bad, "forwarded")


def test_packet_that_looks_partly_summed_is_mended_either_way(lab: Lab, packet: Packet) -> None:
    """On tc the field is compared with the pseudo header's sum; a full checksum may equal it by chance, as this one does."""
    plain = packet.but(body=bytes(2)).l4()
    pseudo = ~checksum(packet.pseudo(len(plain))) & 0xFFFF
    (field,) = struct.unpack("!H", plain[16:18])
    chance = packet.but(body=struct.pack("!H", (field - pseudo) % 0xFFFF))
    assert struct.unpack("!H", chance.l4()[16:18]) == (pseudo,)
    out = lab.out(chance, "forwarded")
    assert out == chance.but(dst=out.dst, dport=8080, ttl=63)


@pytest.mark.parametrize("source", ["0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255", "198.51.100.1"])
def test_martians_v4(lab: Lab, packet: Packet, source: str) -> None:
    lab.dropped(V4.but(src=source, flags=SYN), "martian")


@pytest.mark.parametrize("source", ["::", "::1", "ff02::1", "fd03::1"])
def test_martians_v6(lab: Lab, packet: Packet, source: str) -> None:
    lab.dropped(V6.but(src=source, flags=SYN), "martian")


def test_frames_to_others_and_other_protocols_pass(lab: Lab, packet: Packet) -> None:
    lab.passed(HOST_MAC + CLIENT_MAC + b"\x81\x00\x00\x05" + packet.frame()[12:])
    lab.passed(HOST_MAC + CLIENT_MAC + b"\x88\xcc" + bytes(40))
    if lab.hook == "tc":
        lab.passed(packet.but(eth=bytes.fromhex("020000000099") + CLIENT_MAC))
        lab.passed(packet.but(eth=b"\xff" * 6 + CLIENT_MAC))


def test_unrelated_traffic_is_untouched(lab: Lab, packet: Packet) -> None:
    for proto in ("TCP", "UDP", "SCTP"):
        lab.passed(packet.but(dst=STRANGER[packet.v6], proto=proto))
    lab.passed(packet.but(dst=STRANGER[packet.v6], ttl=1))
    lab.passed(edited(packet.but(dst=STRANGER[packet.v6]), 2 if not packet.v6 else 4, 9))


def test_no_way_to_the_backend(lab: Lab) -> None:
    lab.serve("198.51.100.1", ["203.0.113.5"])
    lab.dropped(V4, "no_route")


def test_packet_larger_than_the_way_out(lab: Lab, packet: Packet) -> None:
    head = 40 if packet.v6 else 20
    lab.out(packet.but(body=bytes(1500 - head - 20)), "forwarded")
    assert lab.send(packet.but(body=bytes(1500 - head - 19), fragment=0x4000))[0] == "told_too_big"


# ICMP errors: path MTU discovery through the VIP


def too_big(about: Packet, router: str, to: str) -> Packet:
    """A router's complaint about `about`, to `to`."""
    if about.v6:
        return Packet(src=router, dst=to, proto="ICMPV6", sport=2, dport=0, body=struct.pack("!I", 1280) + about.ip()[:48])
    return Packet(src=router, dst=to, proto="ICMP", sport=3, dport=4, body=struct.pack("!HH", 0, 1400) + about.ip()[:28])


def quoted(error: Packet, v6: bool) -> tuple[str, str, int, int]:
    """Ends of the packet that the error quotes."""
    import socket

    ip = error.body[4:]
    at, size, family = (8, 16, socket.AF_INET6) if v6 else (12, 4, socket.AF_INET)
    src, dst = (socket.inet_ntop(family, ip[at + n * size :][:size]) for n in (0, 1))
    if not v6:
        assert checksum(ip[:20]) == 0, "quoted IPv4 header checksum"
    return src, dst, *struct.unpack("!HH", ip[40 if v6 else 20 :][:4])


@pytest.mark.parametrize("mode", [0, 1, 2], ids=["default", "onearm", "fullnat"])
def test_error_about_a_packet_to_the_backend_reaches_the_client(lab: Lab, packet: Packet, mode: int) -> None:
    backend = "fd01::11" if packet.v6 else "10.1.0.11"
    lab.serve(packet.dst, [backend], mode=mode)
    out = lab.out(packet, "forwarded")
    router = "fd01::99" if packet.v6 else "10.1.0.99"
    error = lab.out(too_big(out, router, out.src), "icmp_forwarded")
    assert (error.src, error.dst) == (router, packet.src)
    assert quoted(error, packet.v6) == (packet.src, packet.dst, packet.sport, packet.dport)


@pytest.mark.parametrize("mode", [0, 1, 2], ids=["default", "onearm", "fullnat"])
def test_error_about_a_reply_reaches_the_backend(lab: Lab, packet: Packet, mode: int) -> None:
    backend = "fd01::11" if packet.v6 else "10.1.0.11"
    lab.serve(packet.dst, [backend], mode=mode)
    out = lab.out(packet, "forwarded")
    back = packet.but(src=packet.dst, dst=packet.src, sport=80, dport=40000)
    router = "fd02::99" if packet.v6 else "192.0.2.99"
    error = lab.out(too_big(back, router, packet.dst), "icmp_forwarded")
    assert (error.src, error.dst) == (router, backend)
    assert quoted(error, packet.v6) == (backend, out.src, out.dport, out.sport)


def test_other_errors_pass_or_are_dropped(lab: Lab, packet: Packet) -> None:
    stranger = packet.but(src=STRANGER[packet.v6], dport=9, sport=9)
    router = "fd02::99" if packet.v6 else "192.0.2.99"
    lab.passed(too_big(stranger, router, STRANGER[packet.v6]))
    lab.dropped(too_big(packet.but(src=packet.dst, dst=packet.src), router, packet.dst), "unsupported")
    error = too_big(packet, router, packet.dst)
    lab.dropped(error.but(body=error.body[:20]), "unsupported")


def test_mutations_never_escape(lab: Lab, packet: Packet) -> None:
    """Bits flipped at random: whatever comes out has a verdict, and what passes is as it came."""
    dice = random.Random(20261121)
    seeds = [packet.but(proto=proto).frame() for proto in ("TCP", "UDP", "SCTP")]
    seeds.append(too_big(packet.but(src=packet.dst, dst=packet.src), "fd02::99" if packet.v6 else "192.0.2.99", packet.dst).frame())
    lab.map("vips").put(address_bytes("198.51.100.3"), bytes(16))
    for turn in range(3000):
        frame = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 4)):
            frame[dice.randrange(14, len(frame))] = dice.randrange(256)
        sent = bytes(frame[: dice.choice((len(frame), len(frame), dice.randint(54 if packet.v6 else 34, len(frame))))])
        verdict, action, out = lab.send(sent)
        number = next(key for key, name in VERDICTS.items() if name == verdict)
        assert (action == DROP) == (number >= FIRST_DROP), turn
        assert action != PASS or verdict in ("forwarded", "replied", "icmp_forwarded") or out == sent, turn
    assert lab.send(packet.but(flags=ACK))[0] == "forwarded"


# Frames that are not plain ones to us


TAG = b"\x81\x00"


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_frame_of_another_machine_is_not_balanced(labs: dict[str, Lab], family: str) -> None:
    """XDP sees what a switch floods, or a promiscuous interface takes."""
    lab = labs["xdp"]
    lab.clear()
    packet = _to_vip(lab, family)
    for mac in ("0200000000ff", "ffffffffffff", "01005e000001"):
        lab.passed(packet.but(eth=bytes.fromhex(mac) + packet.eth[6:]))
    assert not lab.flows()
    lab.out(packet.but(eth=MAC + packet.eth[6:]), "forwarded")


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_tag_of_vlan_0_is_taken_off_and_any_other_passes(labs: dict[str, Lab], family: str) -> None:
    lab = labs["xdp"]
    lab.clear()
    packet = _to_vip(lab, family)
    frame = packet.frame()
    lab.passed(frame[:12] + TAG + b"\xe0\x07" + frame[12:])
    verdict, _, out = lab.send(frame[:12] + TAG + b"\xe0\x00" + frame[12:])
    assert verdict == "forwarded"
    assert read(out).but(eth=packet.eth) == packet.but(dst="fd01::11" if family == "v6" else "10.1.0.11", dport=8080, ttl=63)


def test_v4_mapped_addresses_on_the_wire_do_not_meet_ipv4(lab: Lab) -> None:
    """Such a packet closed an IPv4 flow."""
    packet = _to_vip(lab, "v4")
    lab.out(packet, "forwarded")
    before = lab.flows()
    lab.dropped(
        Packet(src=f"::ffff:{packet.src}", dst=f"::ffff:{packet.dst}", flags=RST, sport=packet.sport, dport=packet.dport), "malformed"
    )
    assert lab.flows() == before


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_vip_as_the_source_of_a_datagram_is_no_client(lab: Lab, family: str) -> None:
    """Two Services would answer each other for ever."""
    packet = _to_vip(lab, family).but(proto="UDP")
    lab.serve(packet.dst, ["fd01::11" if packet.v6 else "10.1.0.11"], protocol="UDP", frontend=2, first=2)
    other = "fd03::9" if packet.v6 else "198.51.100.9"
    lab.map("vips").put(address_bytes(other), bytes(16))
    lab.dropped(packet.but(src=other), "martian")


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_source_ranges_hold_for_what_a_local_proxy_serves(lab: Lab, family: str) -> None:
    packet = _to_vip(lab, family, FRONTEND_LOCAL | FRONTEND_SOURCES)
    lab.dropped(packet, "source_denied")
    lab.map("source_ranges").put(source_range_key(1, packet.src, 128 if packet.v6 else 32), b"\1")
    lab.passed(packet, "delivered")


def _to_vip(lab: Lab, family: str, flags: int = 0) -> Packet:
    v6 = family == "v6"
    packet = Packet(src="fd02::1" if v6 else "192.0.2.1", dst="fd03::1" if v6 else "198.51.100.1", flags=SYN)
    lab.serve(packet.dst, ["fd01::11" if v6 else "10.1.0.11"], flags=flags)
    return packet


def test_error_about_an_answer_of_this_machines_proxy_reaches_its_stack(lab: Lab, packet: Packet) -> None:
    lab.serve(packet.dst, [], flags=FRONTEND_LOCAL)
    lab.passed(packet, "delivered")
    answer = packet.but(src=packet.dst, dst=packet.src, sport=80, dport=40000)
    router = "fd02::99" if packet.v6 else "192.0.2.99"
    lab.passed(too_big(answer, router, packet.dst), "delivered")
    other = answer.but(sport=81)
    assert lab.send(too_big(other, router, packet.dst))[1] == "drop", "that port is not served"
