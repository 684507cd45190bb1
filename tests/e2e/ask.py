"""Ask the link for an address, and print the MACs of all that answer within a while, one a line."""

import select
import socket
import sys
import time

from services.dataplane.announce.arp import arp_probe, mac_of

WAIT_S = 0.3


def main() -> None:
    interface, vip = sys.argv[1:]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as wire:
        wire.bind((interface, 0x0806))
        wire.send(arp_probe(vip, mac_of(wire, interface)))
        end = time.monotonic() + WAIT_S
        while select.select([wire], [], [], max(0, end - time.monotonic()))[0]:
            frame = wire.recv(2048)
            if frame[20:22] == b"\0\2" and frame[28:32] == socket.inet_aton(vip):
                print(frame[22:28].hex(":"))


if __name__ == "__main__":
    main()
