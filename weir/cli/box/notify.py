"""systemd's notification protocol, sd_notify(3): READY=1, STATUS=, WATCHDOG=1, STOPPING=1.  Without NOTIFY_SOCKET nothing is sent."""

import contextlib
import os
import socket


def notify(*lines: str) -> None:
    """Send `lines` to the service manager, if it gave us a socket."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    place = "\0" + address[1:] if address[0] == "@" else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
        sending.sendto("\n".join(lines).encode(), place)  # a manager that does not listen must not end what it manages
