"""Frames built and read by hand, independent of the code under test."""

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMP": 1, "ICMPV6": 58}
HOST_MAC = bytes(6)  # that of lo, where test runs arrive
CLIENT_MAC = bytes.fromhex("0200000000c1")


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True, kw_only=True)
class Packet:
    """One TCP, UDP, SCTP or ICMP packet.  For ICMP, `sport` and `dport` are type and code, `body` follows the checksum."""

    src: str
    dst: str
    proto: str = "TCP"
    sport: int = 40000
    dport: int = 80
    flags: int = ACK
    ttl: int = 64
    body: bytes = b"hello"
    options: bytes = b""
    fragment: int = 0
    udp_checksum: bool = True
    eth: bytes = HOST_MAC + CLIENT_MAC

    def but(self, **changes: object) -> "Packet":
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def v6(self) -> bool:
        return ":" in self.src

    def pseudo(self, length: int) -> bytes:
        number = NUMBERS[self.proto]
        if self.v6:
            return packed(self.src) + packed(self.dst) + struct.pack("!II", length, number)
        return packed(self.src) + packed(self.dst) + struct.pack("!BBH", 0, number, length)

    def l4(self) -> bytes:
        if self.proto == "TCP":
            plain = struct.pack("!HHIIBBHHH", self.sport, self.dport, 1, 1, 0x50, self.flags, 512, 0, 0) + self.body
            return put(plain, 16, checksum(self.pseudo(len(plain)) + plain))
        if self.proto == "UDP":
            plain = struct.pack("!HHHH", self.sport, self.dport, 8 + len(self.body), 0) + self.body
            return put(plain, 6, (checksum(self.pseudo(len(plain)) + plain) or 0xFFFF) if self.udp_checksum else 0)
        if self.proto == "SCTP":
            return struct.pack("!HHII", self.sport, self.dport, 7, 0x12345678) + self.body
        plain = struct.pack("!BBH", self.sport, self.dport, 0) + self.body
        return put(plain, 2, checksum((self.pseudo(len(plain)) if self.v6 else b"") + plain))

    def ip(self) -> bytes:
        l4 = self.l4()
        if self.v6:
            return struct.pack("!IHBB", 6 << 28, len(l4), NUMBERS[self.proto], self.ttl) + packed(self.src) + packed(self.dst) + l4
        words = 5 + len(self.options) // 4
        head = (
            struct.pack("!BBHHHBBH", 0x40 | words, 0, words * 4 + len(l4), 1, self.fragment, self.ttl, NUMBERS[self.proto], 0)
            + packed(self.src)
            + packed(self.dst)
            + self.options
        )
        return put(head, 10, checksum(head)) + l4

    def frame(self) -> bytes:
        return self.eth + (b"\x86\xdd" if self.v6 else b"\x08\x00") + self.ip()


def put(data: bytes, at: int, word: int) -> bytes:
    return data[:at] + struct.pack("!H", word) + data[at + 2 :]


def read(frame: bytes) -> Packet:
    """The packet in `frame`.  AssertionError when a checksum or a length is wrong."""
    kind, ip = frame[12:14], frame[14:]
    if kind == b"\x86\xdd":
        length, number, ttl = struct.unpack("!HBB", ip[4:8])
        src, dst = (socket.inet_ntop(socket.AF_INET6, ip[at : at + 16]) for at in (8, 24))
        options, fragment, l4 = b"", 0, ip[40 : 40 + length]
        assert len(l4) == length, f"payload of {len(l4)}, header says {length}"
    else:
        head = (ip[0] & 15) * 4
        length, _, fragment, ttl, number = struct.unpack("!HHHBB", ip[2:10])
        src, dst = (socket.inet_ntop(socket.AF_INET, ip[at : at + 4]) for at in (12, 16))
        options, l4 = ip[20:head], ip[head:length]
        assert checksum(ip[:head]) == 0, "IPv4 header checksum"
    proto = next(name for name, value in NUMBERS.items() if value == number)
    common = Packet(src=src, dst=dst, proto=proto, ttl=ttl, options=options, fragment=fragment, eth=frame[:12])
    if proto == "TCP":
        assert checksum(common.pseudo(len(l4)) + l4) == 0, "TCP checksum"
        sport, dport = struct.unpack("!HH", l4[:4])
        return common.but(sport=sport, dport=dport, flags=l4[13], body=l4[(l4[12] >> 4) * 4 :])
    if proto == "UDP":
        sport, dport, _, word = struct.unpack("!HHHH", l4[:8])
        assert not word or checksum(common.pseudo(len(l4)) + l4) == 0, "UDP checksum"
        return common.but(sport=sport, dport=dport, body=l4[8:], udp_checksum=bool(word), flags=ACK)
    if proto == "SCTP":
        sport, dport = struct.unpack("!HH", l4[:4])
        return common.but(sport=sport, dport=dport, body=l4[12:])
    assert checksum((common.pseudo(len(l4)) if common.v6 else b"") + l4) == 0, "ICMP checksum"
    return common.but(sport=l4[0], dport=l4[1], body=l4[4:])


def part(packet: Packet, ident: int, offset: int, body: bytes, more: bool) -> bytes:
    """The frame of one fragment: `body` lies at `offset` of the datagram's L4."""
    if packet.v6:
        head = struct.pack("!IHBB", 6 << 28, 8 + len(body), 44, packet.ttl) + packed(packet.src) + packed(packet.dst)
        return packet.eth + b"\x86\xdd" + head + struct.pack("!BBHI", NUMBERS[packet.proto], 0, offset | more, ident) + body
    words = 5 + len(packet.options) // 4
    place = offset // 8 | more << 13
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, words * 4 + len(body), ident, place, packet.ttl, NUMBERS[packet.proto], 0)
    head += packed(packet.src) + packed(packet.dst) + packet.options
    return packet.eth + b"\x08\x00" + put(head, 10, checksum(head)) + body


def cut(packet: Packet, ident: int = 7, size: int = 1400) -> list[bytes]:
    """The packet in fragments of `size` bytes, a multiple of 8."""
    l4 = packet.l4()
    places = range(0, len(l4), size)
    return [part(packet, ident, at, l4[at : at + size], at + size < len(l4)) for at in places]


def joined(frames: Sequence[bytes]) -> tuple[Packet, int]:
    """The datagram of these fragments, in any order, and its IP id.  AssertionError: they are not one, or a checksum is wrong."""
    pieces: dict[int, bytes] = {}
    heads = set()
    for frame in frames:
        ip = frame[14:]
        if ip[0] >> 4 == 6:
            assert ip[6] == 44
            proto, _, place, ident = struct.unpack("!BBHI", ip[40:48])
            pieces[place & 0xFFF8] = ip[48 : 40 + int.from_bytes(ip[4:6], "big")]
            heads.add((ip[:4] + bytes((0, 0, proto)) + ip[7:40], ident))
        else:
            size = (ip[0] & 15) * 4
            assert checksum(ip[:size]) == 0, "IPv4 header checksum"
            length, ident, place = struct.unpack("!HHH", ip[2:8])
            pieces[(place & 0x1FFF) * 8] = ip[size:length]
            heads.add((ip[:2] + bytes(6) + ip[8:10] + bytes(2) + ip[12:size], ident))
    assert len(heads) == 1, heads
    l4 = b"".join(pieces[at] for at in sorted(pieces))
    assert sum(map(len, pieces.values())) == max(at + len(body) for at, body in pieces.items())
    head, ident = heads.pop()
    head = put(head, 4, len(l4)) if head[0] >> 4 == 6 else put(head, 2, len(head) + len(l4))
    return read(frames[0][:14] + (head if head[0] >> 4 == 6 else put(head, 10, checksum(head))) + l4), ident


def arp(operation: int, sender: str, target: str, mac: bytes = CLIENT_MAC, to: bytes = b"\xff" * 6) -> bytes:
    return to + mac + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, operation) + mac + packed(sender) + bytes(6) + packed(target)


def solicitation(source: str, target: str, option: bytes = b"\1\1" + CLIENT_MAC, destination: str | None = None) -> Packet:
    """A neighbour solicitation for `target`, to its solicited-node group unless told otherwise."""
    group = packed("ff02::1:ff00:0")[:13] + packed(target)[13:]
    to = destination or socket.inet_ntop(socket.AF_INET6, group)
    eth = (b"\x33\x33" + packed(to)[12:] if to.startswith("ff") else HOST_MAC) + CLIENT_MAC
    return Packet(src=source, dst=to, proto="ICMPV6", sport=135, dport=0, ttl=255, body=bytes(4) + packed(target) + option, eth=eth)
