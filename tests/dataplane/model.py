"""What the packet path should say to a frame, written from the RFCs and docs/design.md, not from the C.

It knows one world: each VIP serves TCP, UDP and SCTP on port 80 by one backend, in default mode, and no frame opens a flow that
a later one answers.  Its frames come from strangers, so all it has to tell is what is read off a frame by itself.
"""

from dataclasses import dataclass

FORWARDED, PASSED = "forwarded", "passed"
TCP, UDP, SCTP = 6, 17, 132
MTU = 1500
_TOLD = {"ttl_exceeded": "told_ttl_exceeded", "too_big": "told_too_big"}
_ERRORS = {4: (3, 11, 12), 6: (1, 2, 3, 4)}
_ECHO = {4: 8, 6: 128}
_SOLICITATION = 135
_LATER = "later"
_LATER_MAY = {"fragment", "fragment_retried", "bad_fragment", "forwarded", "echo_answered"} | {*_TOLD, *_TOLD.values()}


@dataclass(frozen=True)
class Part:
    """Where a fragment lies in its datagram."""

    more: bool
    offset: int


@dataclass(frozen=True)
class Model:
    """vips: packed addresses of either family.   port: served, by each of TCP, UDP and SCTP."""

    vips: frozenset[bytes]
    port: int = 80

    def verdicts(self, frame: bytes) -> set[str]:
        """The verdicts that are right: two where a sender is told as long as it does not ask too often."""
        kind = frame[12:14]
        if kind == b"\x08\x00" and len(frame) >= 34:
            return _also_untold(self._v4(frame))
        if kind == b"\x86\xdd" and len(frame) >= 54:
            return _also_untold(self._v6(frame))
        return {PASSED}

    def _v4(self, frame: bytes) -> str:
        ip = frame[14:]
        source, target, head = ip[12:16], ip[16:20], (ip[0] & 15) * 4
        if target not in self.vips:
            return PASSED
        length = int.from_bytes(ip[2:4], "big") or len(ip)
        fragment = int.from_bytes(ip[6:8], "big")
        if ip[0] >> 4 != 4 or head < 20 or length < head or length > len(ip):
            return "malformed"
        martian = source[0] in (0, 127) or source[0] >= 224 or source == target
        part = Part(bool(fragment & 0x2000), (fragment & 0x1FFF) * 8) if fragment & 0x3FFF else None
        return self._part(part, 4, ip[9], ip[head:], length - head, ip[8], martian=martian, cut=not fragment & 0x4000, whole=length)

    def _v6(self, frame: bytes) -> str:
        ip = frame[14:]
        source, target = ip[8:24], ip[24:40]
        length = int.from_bytes(ip[4:6], "big") or len(ip) - 40
        if ip[6] == 58 and self._asks_for_vip(ip, length):
            return "ndp_answered"
        if target not in self.vips:
            return PASSED
        if ip[0] >> 4 != 6 or length > len(ip) - 40:
            return "malformed"
        martian = source[0] == 0xFF or (source[:15] == bytes(15) and source[15] <= 1) or source == target
        proto, head, part = ip[6], 0, None
        if proto == 44:
            if length < 8 or len(ip) < 48:
                return "bad_fragment"
            place = int.from_bytes(ip[42:44], "big")
            proto, head, part = ip[40], 8, Part(bool(place & 1), place & 0xFFF8)
        return self._part(part, 6, proto, ip[40 + head :], length - head, ip[7], martian=martian, cut=False, whole=length + 40)

    def _part(self, part: "Part | None", version: int, proto: int, body: bytes, length: int, ttl: int, **other: bool | int) -> str:
        """A whole packet, or a fragment: what becomes of a later one depends on its first, which may have come."""
        if not part:
            return self._l4(version, proto, body, length, ttl, **other)  # type: ignore[arg-type]
        if not length or part.offset + length > 65535 or (part.more and length % 8):
            return "bad_fragment"
        if part.offset:
            return _LATER
        verdict = self._l4(version, proto, body, length, ttl, more=part.more, **other)  # type: ignore[arg-type]
        if proto == (1 if version == 4 else 58) and verdict == "unsupported":
            return "fragment"
        return "bad_fragment" if verdict == "malformed" else verdict

    def _asks_for_vip(self, ip: bytes, length: int) -> bool:
        sound = ip[0] >> 4 == 6 and length <= len(ip) - 40 and length >= 8 and ip[7] == 255
        return sound and ip[40] == _SOLICITATION and len(ip) >= 64 and ip[48:64] in self.vips

    def _l4(
        self, version: int, proto: int, body: bytes, length: int, ttl: int, *, martian: bool, cut: bool, whole: int, more: bool = False
    ) -> str:
        if proto == (1 if version == 4 else 58):
            return self._icmp(version, body, length, martian=martian)
        if proto not in (TCP, UDP, SCTP):
            return "unsupported"
        if fault := _fault(proto, body, length, more):
            return fault
        if int.from_bytes(body[2:4], "big") != self.port:
            return "no_frontend"
        if martian:
            return "martian"
        if proto == SCTP:  # its backend has another port, and its checksum covers the ports
            return "unsupported"
        if ttl <= 1:
            return "ttl_exceeded"
        return FORWARDED if whole <= MTU or cut else "too_big"

    def _icmp(self, version: int, body: bytes, length: int, *, martian: bool) -> str:
        """Errors quote flows that are not there, or no flow at all."""
        if len(body) < 8 or length < 8:
            return "malformed"
        if body[0] in _ERRORS[version]:
            return "unsupported"
        return "echo_answered" if body[0] == _ECHO[version] and not martian else "unsupported"


def _fault(proto: int, body: bytes, length: int, more: bool) -> str | None:
    least = {TCP: 20, UDP: 8, SCTP: 12}[proto]
    if len(body) < least or (proto == SCTP and length < least):
        return "malformed"
    if proto == TCP and not 20 <= (body[12] >> 4) * 4 <= length:
        return "malformed"
    if proto == UDP and not 8 <= int.from_bytes(body[4:6], "big") <= (65535 if more else length):
        return "malformed"
    return None


def _also_untold(verdict: str) -> set[str]:
    if verdict == _LATER:
        return _LATER_MAY
    return {verdict, _TOLD[verdict]} if verdict in _TOLD else {verdict}
