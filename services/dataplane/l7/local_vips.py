"""VIPs that this machine's own stack takes, as local routes (rtnetlink, RFC 3549): packets that BPF hands up reach Envoy's socket.

A route and no address: the machine's own addresses stay what they are, so that nothing else takes a VIP for one, and IPv6 neighbours
are not answered.  BPF passes the ports of the proxy's frontends alone; every other port of a VIP stays closed on attached interfaces.
"""

import os
import socket
import struct
from collections.abc import Iterable, Iterator

from weir.model import family_of

PROTOCOL = 87  # who made a route (rtm_protocol): "W", outside of what the kernel and routing daemons use
_NEW_ROUTE, _DELETE_ROUTE, _GET_ROUTE = 24, 25, 26
_REQUEST, _ACK, _DUMP, _EXCL, _CREATE = 0x1, 0x4, 0x300, 0x200, 0x400
_ERROR, _DONE = 2, 3
_DESTINATION, _INTERFACE, _TABLE = 1, 4, 15  # RTA_DST, RTA_OIF, RTA_TABLE
_LOCAL_TABLE, _HOST_SCOPE, _LOCAL = 255, 254, 2
_STRICT = 12  # NETLINK_GET_STRICT_CHK: a dump of one table, not of all that a router has
_SOL_NETLINK = 270
_FAMILIES = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}


class LocalVips:
    """refused: VIPs that the kernel did not take, and its words."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self._held: set[str] | None = None  # None: not read yet

    def set(self, vips: Iterable[str]) -> None:
        """Make these local and no others of ours.  Raises OSError where routes cannot be read."""
        wanted = set(vips)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
            held = self._held if self._held is not None else set(_held(netlink))
            self.refused = {}
            for vip in sorted(wanted - held):
                self._change(netlink, _NEW_ROUTE, _CREATE | _EXCL, vip)
            for vip in sorted(held - wanted):
                self._change(netlink, _DELETE_ROUTE, 0, vip)
        self._held = wanted - self.refused.keys()

    def _change(self, netlink: socket.socket, kind: int, flags: int, vip: str) -> None:
        code = _ask(netlink, kind, flags, vip)
        if code and not (kind == _NEW_ROUTE and code == 17) and not (kind == _DELETE_ROUTE and code == 3):  # EEXIST, ESRCH
            self.refused[vip] = f"{vip} cannot be made local to this machine: {os.strerror(code)}"


def _ask(netlink: socket.socket, kind: int, flags: int, vip: str) -> int:
    """The kernel's error number, 0 for none."""
    family = _FAMILIES[family_of(vip)]
    address = socket.inet_pton(family, vip)
    body = struct.pack("=BBBBBBBBI", family, len(address) * 8, 0, 0, _LOCAL_TABLE, PROTOCOL, _HOST_SCOPE, _LOCAL, 0)
    body += struct.pack("=HH", 4 + len(address), _DESTINATION) + address
    body += struct.pack("=HHI", 8, _INTERFACE, socket.if_nametoindex("lo"))
    netlink.send(struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | _ACK | flags, 0, 0) + body)
    return -int(struct.unpack_from("=i", netlink.recv(1 << 16), 16)[0])


def _held(netlink: socket.socket) -> Iterator[str]:
    """VIPs that an earlier process made local."""
    netlink.setsockopt(_SOL_NETLINK, _STRICT, 1)
    for family in _FAMILIES.values():
        body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, _LOCAL_TABLE, PROTOCOL, 0, _LOCAL, 0)
        netlink.send(struct.pack("=IHHII", 16 + len(body), _GET_ROUTE, _REQUEST | _DUMP, 0, 0) + body)
        yield from _dumped(netlink, family)


def _dumped(netlink: socket.socket, family: int) -> Iterator[str]:
    while True:
        data = netlink.recv(1 << 16)
        while len(data) >= 16:
            length, answer = struct.unpack_from("=IH", data)
            if answer == _DONE:
                return
            if answer == _ERROR:
                raise OSError(-struct.unpack_from("=i", data, 16)[0], "reading local routes through netlink")
            yield from _ours(data[16:length], family)
            data = data[max(16, length + 3 & ~3) :]


def _ours(body: bytes, family: int) -> Iterator[str]:
    """The destination of a route of ours.  body: struct rtmsg and attributes."""
    size, protocol = body[1], body[5]
    if protocol != PROTOCOL or body[4] != _LOCAL_TABLE or size != (32 if family == socket.AF_INET else 128):
        return
    rest = body[12:]
    while len(rest) >= 4:
        length, kind = struct.unpack_from("=HH", rest)
        if kind == _DESTINATION:
            yield socket.inet_ntop(family, rest[4:length])
        rest = rest[max(4, length + 3 & ~3) :]
