"""What a run of the tests has for itself: names of instances and namespaces, and ports of this machine.

Runs beside each other differ in a number, the first that is free: what a killed run left is replaced by the next of that number.
"""

import contextlib
import fcntl
import itertools
import random
import socket
import tempfile
from functools import cache
from pathlib import Path

_HELD = []  # locked while this process lives


def own(name: str) -> str:
    """The name itself in the only run on this machine, with a number behind it in others."""
    return name if _number() == 1 else f"{name}{_number()}"


@cache
def _number() -> int:
    for number in itertools.count(1):
        lock = (Path(tempfile.gettempdir()) / f".weir-tests-{number}.lock").open("w")
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _HELD.append(lock)
            return number
        lock.close()
    raise AssertionError


def free_ports(count: int) -> list[int]:
    """TCP ports of localhost, below the range of outgoing connections: they stay free while nobody listens, over a restart too."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(15000, 30000)
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            found = list(dict.fromkeys((*found, port)))
    return found


def free_port() -> int:
    return free_ports(1)[0]
