"""The loader for as long as its pod lives: again, when an interface came anew under its name, as those of a CNI do.

Each time it is a process of its own, and the compiler's memory goes with it.  What stays listens to the kernel, and to nobody else.
"""

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from services.dataplane.loader import parser

LOADED = Path("/tmp/loaded")  # noqa: S108  the pod's own, for its startup probe
_RTMGRP_LINK = 0x1


def main() -> int:
    """With the loader's options; until SIGTERM, or until the loader fails, with its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the first process of a container has no default
    names = [text.partition("=")[0] for text in parser().parse_args().interface]
    LOADED.unlink(missing_ok=True)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.bind((0, _RTMGRP_LINK))
        while True:
            loaded = _indexes(names)
            if code := subprocess.run([sys.executable, "-m", "services.dataplane.loader", *sys.argv[1:]], check=False).returncode:
                return code
            LOADED.touch()
            while _indexes(names) <= loaded:
                with contextlib.suppress(OSError):  # ENOBUFS: messages were lost, and all are asked for again anyway
                    netlink.recv(1 << 16)


def _indexes(names: Iterable[str]) -> set[tuple[str, int]]:
    """Of those that are there."""
    found = set()
    for name in names:
        with contextlib.suppress(OSError):
            found.add((name, socket.if_nametoindex(name)))
    return found


if __name__ == "__main__":
    sys.exit(main())
