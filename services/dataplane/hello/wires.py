"""The sockets of the hello process: one for each interface, of hellos alone."""

import contextlib
import select
import socket
import struct
from collections.abc import Iterator, Sequence

from services.dataplane.announce.arp import arp_probe, mac_of
from services.dataplane.hello.frame import ETHER_TYPE, GROUP_MAC, frame
from services.dataplane.hello.machine import carrier, neighbours

_SOL_PACKET, _ADD_MEMBERSHIP, _MULTICAST = 263, 1, 0
_HEADER = 14
ASKED_MOST = 3
AT_ONCE = 1000  # more than the buffer of a socket holds


class Wires:
    """Needs CAP_NET_RAW.  An interface that is replaced under its name gets a new socket with the next `open`."""

    def __init__(self, interfaces: Sequence[str]) -> None:
        self._interfaces = interfaces
        self._open: dict[str, tuple[int, socket.socket]] = {}  # name -> index and socket
        self._poll = select.poll()

    def open(self) -> None:
        """Open what is there and not open."""
        for name in self._interfaces:
            try:
                index = socket.if_nametoindex(name)
            except OSError:  # removed: the agent reports it, and `running` is false
                index = 0
            if held := self._open.get(name):
                if held[0] == index:
                    continue
                self._poll.unregister(held[1])
                self._open.pop(name)[1].close()
            if index:
                self._open_one(name, index)

    def _open_one(self, name: str, index: int) -> None:
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK)  # of no protocol until it is bound
        try:
            wire.bind((name, ETHER_TYPE))
            wire.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("=iHH8s", index, _MULTICAST, len(GROUP_MAC), GROUP_MAC))
        except OSError:  # removed since, or not Ethernet
            wire.close()
            return
        self._open[name] = index, wire
        self._poll.register(wire, select.POLLIN)

    def wait(self, timeout_ms: float) -> None:
        """Return when a frame has come, or after that time."""
        self._poll.poll(max(0.0, timeout_ms))

    def receive(self) -> Iterator[tuple[str, bytes]]:
        """Yield interface and payload of the frames of others that have come: all that sockets hold, and no end of a flood."""
        for name, (_, wire) in self._open.items():
            for _ in range(AT_ONCE):
                try:
                    received, (_, _, kind, *_) = wire.recvfrom(2048)
                except OSError:  # nothing more; or the link goes down, which `running` says
                    break
                if kind != socket.PACKET_OUTGOING:
                    yield name, received[_HEADER:]

    def send(self, payload: bytes) -> None:
        """Send on every interface that can; the next hello is due soon, and `running` tells about those that cannot."""
        for name, (_, wire) in self._open.items():
            try:
                wire.send(frame(payload, mac_of(wire, name)))
            except OSError:
                continue

    def ask_neighbours(self, name: str) -> None:
        """Ask some of the neighbours that the kernel knows on an interface for their MACs, as an ARP probe does (RFC 5227)."""
        if held := self._open.get(name):
            with contextlib.suppress(OSError):  # the link is down
                for address in neighbours(name)[:ASKED_MOST]:
                    held[1].send(arp_probe(address, mac_of(held[1], name)))

    def running(self, name: str) -> bool:
        """Whether the interface is up and has a carrier."""
        held = self._open.get(name)
        return held is not None and carrier(held[1], name)
