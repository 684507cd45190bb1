"""The loader as a sidecar: load again when an interface is replaced under its name, as a CNI does.

Each load is a process of its own, which frees its memory.  Interfaces of pods (`cali*`), which come and go all the time, get the pinned
program.  What keeps running listens to the kernel's links only.
"""

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from services.dataplane.load.interfaces import is_pattern
from services.dataplane.load.loader import Options, follow, options_of, parser
from services.dataplane.load.programs import LoaderError

LOADED = Path("/tmp/loaded")  # noqa: S108  the pod's own, for its startup probe
_RTMGRP_LINK = 0x1


def main() -> int:
    """Run with the loader's options until SIGTERM, or until the loader fails; return its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the first process of a container has no default
    options = options_of(parser().parse_args())
    names = {text.partition("=")[0] for text in options.interfaces}
    patterns = set(filter(is_pattern, names))
    LOADED.unlink(missing_ok=True)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.bind((0, _RTMGRP_LINK))
        while True:
            loaded = _indexes(names - patterns)
            if code := subprocess.run([sys.executable, "-m", "services.dataplane.load.loader", *sys.argv[1:]], check=False).returncode:
                return code
            LOADED.touch()
            while _indexes(names - patterns) <= loaded:
                if patterns and (reason := _follow(options)):
                    print(f"weir loader: {reason}", file=sys.stderr, flush=True)
                    return 1
                _wait(netlink)


def _follow(options: Options) -> str:
    """Attach new interfaces; return why that failed, "" if it did not."""
    try:
        for line in follow(options):
            print(line, flush=True)
    except (LoaderError, OSError) as error:
        return str(error)
    return ""


def _wait(netlink: socket.socket) -> None:
    """Wait until something changed; of many messages in a row the last is enough."""
    flags = 0
    with contextlib.suppress(OSError):  # nothing more; or ENOBUFS: messages were lost, and everything is read again anyway
        while netlink.recv(1 << 16, flags):
            flags = socket.MSG_DONTWAIT


def _indexes(names: Iterable[str]) -> set[tuple[str, int]]:
    """Return name and index of the interfaces that exist."""
    found = set()
    for name in names:
        with contextlib.suppress(OSError):
            found.add((name, socket.if_nametoindex(name)))
    return found


if __name__ == "__main__":
    sys.exit(main())
