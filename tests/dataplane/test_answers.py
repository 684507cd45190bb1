"""What the sender of a packet is told when it is dropped: golden rows, packet in and answer out."""

import struct
import time

import pytest

from services.dataplane.l4.layout import FRONTEND_REJECT, MODES, Frontend, FrontendKey
from tests.dataplane.frames import ACK, CLIENT_MAC, FIN, HOST_MAC, RST, SYN, Packet, read
from tests.dataplane.lab import DROP, OUT, PASS, Lab

V4 = Packet(src="192.0.2.1", dst="198.51.100.1")
V6 = Packet(src="fd02::1", dst="fd03::1")
DONT_FRAGMENT = 0x4000
MOST = 64  # answers in a row, for each CPU
QUOTE = 128


@pytest.fixture(params=[V4, V6], ids=["v4", "v6"])
def packet(request: pytest.FixtureRequest) -> Packet:
    sent: Packet = request.param
    return sent if sent.v6 else sent.but(fragment=DONT_FRAGMENT)


def backend_of(packet: Packet) -> str:
    return "fd01::11" if packet.v6 else "10.1.0.11"


def without_backend(lab: Lab, packet: Packet, flags: int) -> None:
    lab.serve(packet.dst, [backend_of(packet)], protocol=packet.proto)
    key = FrontendKey(packet.dst, 80, packet.proto).pack()
    lab.map("frontends").put(key, Frontend(1, 0, 1, flags=flags).pack())


def told(lab: Lab, sent: Packet, verdict: str) -> Packet:
    """The answer; by the way the packet came, from the address it was for."""
    got, action, frame = lab.send(sent)
    assert (got, action) == (verdict, OUT)
    assert frame[:12] == CLIENT_MAC + HOST_MAC
    answer = read(frame)
    assert (answer.src, answer.dst, answer.ttl) == (sent.dst, sent.src, 64)
    return answer


def is_about(error: Packet, sent: Packet, kind: tuple[int, int], rest: int = 0) -> None:
    assert error.proto == ("ICMPV6" if sent.v6 else "ICMP")
    assert (error.sport, error.dport) == kind
    assert error.body == struct.pack("!I", rest) + sent.ip()[:QUOTE], "quoted as the sender sent it"


def too_long(sent: Packet) -> Packet:
    return sent.but(body=bytes(1600))


@pytest.mark.parametrize("proto", ["TCP", "UDP"])
@pytest.mark.parametrize("mode", MODES)
def test_packet_too_big_for_the_way_to_the_backend(lab: Lab, packet: Packet, proto: str, mode: str) -> None:
    lab.serve(packet.dst, [backend_of(packet)], protocol=proto, mode=MODES.index(mode))
    sent = too_long(packet.but(proto=proto))
    is_about(told(lab, sent, "told_too_big"), sent, (2, 0) if packet.v6 else (3, 4), rest=1500)


def test_reply_too_big_for_the_way_to_the_client(lab: Lab, packet: Packet) -> None:
    lab.serve(packet.dst, [backend_of(packet)])
    lab.out(packet, "forwarded")
    reply = too_long(packet.but(src=backend_of(packet), dst=packet.src, sport=8080, dport=40000))
    is_about(told(lab, reply, "told_too_big"), reply, (2, 0) if packet.v6 else (3, 4), rest=1500)


def test_packet_that_may_be_cut_is_left_to_the_stack(lab: Lab) -> None:
    lab.serve(V4.dst, ["10.1.0.11"])
    sent = too_long(V4)
    verdict, action, frame = lab.send(sent)
    assert (verdict, action) == ("forwarded", PASS)
    assert read(frame) == sent.but(dst="10.1.0.11", dport=8080), "rewritten, and the TTL is the stack's to count"


@pytest.mark.parametrize("ttl", [0, 1])
@pytest.mark.parametrize("options", [0, 40])
def test_time_that_ends_here(lab: Lab, packet: Packet, ttl: int, options: int) -> None:
    lab.serve(packet.dst, [backend_of(packet)])
    sent = packet.but(ttl=ttl, options=b"" if packet.v6 else b"\x01" * options)
    is_about(told(lab, sent, "told_ttl_exceeded"), sent, (3, 0) if packet.v6 else (11, 0))


@pytest.mark.parametrize(
    ("flags", "body", "number", "acknowledged", "answer_flags"),
    [
        (SYN, b"", 0, 2, RST | ACK),
        (SYN, b"early", 0, 7, RST | ACK),
        (FIN, b"ab", 0, 4, RST | ACK),
        (ACK, b"hello", 1, 0, RST),
        (SYN | ACK, b"", 1, 0, RST),
    ],
)
def test_no_backend_resets(lab: Lab, packet: Packet, flags: int, body: bytes, number: int, acknowledged: int, answer_flags: int) -> None:
    """RFC 9293, section 3.10.7.1: acknowledged is what the segment took up, unless it acknowledged itself."""
    without_backend(lab, packet, FRONTEND_REJECT)
    sent = packet.but(flags=flags, body=body)
    got, action, frame = lab.send(sent)
    assert (got, action) == ("told_no_backend", OUT)
    reset = read(frame)
    assert (reset.src, reset.dst, reset.sport, reset.dport) == (sent.dst, sent.src, sent.dport, sent.sport)
    assert (reset.flags, reset.body) == (answer_flags, b"")
    assert struct.unpack("!II", reset_numbers(frame, packet.v6)) == (number, acknowledged)


def reset_numbers(frame: bytes, v6: bool) -> bytes:
    at = 14 + (40 if v6 else 20) + 4
    return frame[at : at + 8]


@pytest.mark.parametrize("proto", ["UDP", "SCTP"])
def test_no_backend_is_an_unreachable_port(lab: Lab, packet: Packet, proto: str) -> None:
    sent = packet.but(proto=proto)
    without_backend(lab, sent, FRONTEND_REJECT)
    is_about(told(lab, sent, "told_no_backend"), sent, (1, 4) if packet.v6 else (3, 3))


def test_no_backend_is_silence_unless_asked_for(lab: Lab, packet: Packet) -> None:
    without_backend(lab, packet, 0)
    lab.dropped(packet, "no_backend")


def test_reset_is_not_answered_by_a_reset(lab: Lab, packet: Packet) -> None:
    without_backend(lab, packet, FRONTEND_REJECT)
    lab.dropped(packet.but(flags=RST), "no_backend")


def test_answers_are_few(lab: Lab, packet: Packet) -> None:
    """Each is one packet for one packet, no longer than it or 176 bytes, and a thousand a second for each CPU."""
    lab.serve(packet.dst, [backend_of(packet)])
    begun_s = time.monotonic()
    verdicts = [lab.send(packet.but(ttl=1, sport=1024 + number))[:2] for number in range(400)]
    again = (time.monotonic() - begun_s) * 1000  # one comes back each millisecond
    assert verdicts[0] == ("told_ttl_exceeded", OUT)
    assert verdicts.count(("told_ttl_exceeded", OUT)) >= MOST - 1
    assert verdicts.count(("told_ttl_exceeded", OUT)) <= MOST + again + 10
    assert verdicts.count(("ttl_exceeded", DROP)) == 400 - verdicts.count(("told_ttl_exceeded", OUT))


def test_nobody_is_told_of_an_icmp_error(lab: Lab, packet: Packet) -> None:
    lab.serve(packet.dst, [backend_of(packet)])
    out = lab.out(packet, "forwarded")
    router = "fd01::99" if packet.v6 else "10.1.0.99"
    body = struct.pack("!I", 1280) + out.ip()[:48]
    error = Packet(src=router, dst=out.src, proto="ICMPV6" if packet.v6 else "ICMP", sport=2 if packet.v6 else 3, dport=4, body=body, ttl=1)
    lab.dropped(error, "ttl_exceeded")
