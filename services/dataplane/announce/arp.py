"""Claim a VIP on the wire: gratuitous ARP (RFC 5227, section 3) and unsolicited neighbour advertisement (RFC 4861, 7.2.6)."""

import fcntl
import socket
import struct
from collections.abc import Iterable

from weir.pins import address_bytes

_BROADCAST, _ALL_NODES_MAC = b"\xff" * 6, bytes.fromhex("333300000001")
_ALL_NODES = address_bytes("ff02::1")
_ETH_ARP, _ETH_IPV6 = 0x0806, 0x86DD
_OVERRIDE = 0x20000000
_SIOCGIFHWADDR = 0x8927


class Announcer:
    """The sender; needs CAP_NET_RAW.  It keeps one socket: closing one of this kind takes the kernel 10 ms."""

    def __init__(self) -> None:
        self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)  # of no protocol: it receives nothing

    def announce(self, vip: str, interfaces: Iterable[str]) -> tuple[str, ...]:
        """Send one announcement on each interface that is up and has a MAC.  Return those it was sent on."""
        return tuple(name for name in interfaces if self._send(vip, name))

    def _send(self, vip: str, name: str) -> bool:
        try:
            mac = mac_of(self._wire, name)
            self._wire.sendto(unsolicited_advertisement(vip, mac) if ":" in vip else gratuitous_arp(vip, mac), (name, 0))
        except OSError:  # removed or down: nothing can receive it, and BPF answers later requests
            return False
        return True


def mac_of(wire: socket.socket, name: str) -> bytes:
    """Return an interface's MAC, asked through any socket.  Raises OSError."""
    return fcntl.ioctl(wire, _SIOCGIFHWADDR, struct.pack("=16s16x", name.encode()))[18:24]


def gratuitous_arp(vip: str, mac: bytes) -> bytes:
    """Build an ARP request by `mac` for its own address, as a whole Ethernet frame."""
    address = socket.inet_aton(vip)
    return _arp_request(address, address, mac)


def arp_probe(address: str, mac: bytes) -> bytes:
    """Build an ARP request for `address` that claims none for its sender (RFC 5227, section 1.1), as a whole Ethernet frame."""
    return _arp_request(bytes(4), socket.inet_aton(address), mac)


def _arp_request(sender: bytes, target: bytes, mac: bytes) -> bytes:
    header = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    return _BROADCAST + mac + struct.pack("!H", _ETH_ARP) + header + mac + sender + bytes(6) + target


def unsolicited_advertisement(vip: str, mac: bytes) -> bytes:
    """Build a neighbour advertisement to all nodes with the override flag, as a whole Ethernet frame."""
    source = address_bytes(vip)
    body = struct.pack("!BBHI", 136, 0, 0, _OVERRIDE) + source + b"\x02\x01" + mac
    pseudo = source + _ALL_NODES + struct.pack("!II", len(body), socket.IPPROTO_ICMPV6)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), socket.IPPROTO_ICMPV6, 255)
    return _ALL_NODES_MAC + mac + struct.pack("!H", _ETH_IPV6) + header + source + _ALL_NODES + body


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
