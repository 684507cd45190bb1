"""UDP at the highest rate one process gets to:  python -m bench.udp send ADDRESS PORT SECONDS | receive ADDRESS PORT

sendmmsg and recvmmsg, so that it is the path that is measured and not Python: a batch costs Python as much as one datagram would.
`send` prints how many went out, and the CPU seconds it took to start.  What arrived, the receiver's namespace tells (Udp InDatagrams:
those that an application took).
"""

import ctypes
import itertools
import os
import socket
import sys
import time

PAYLOAD = 22  # bytes: 64 with the Ethernet, IP and UDP headers
FLOWS, BATCH = 64, 32
_MSG_WAITFORONE = 0x10000


class _Part(ctypes.Structure):
    """struct iovec."""

    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Message(ctypes.Structure):
    """struct mmsghdr of 64-bit Linux."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("parts", ctypes.POINTER(_Part)),
        ("part_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("hole", ctypes.c_uint32),
        ("done_bytes", ctypes.c_uint64),
    ]


class Batch:
    """BATCH messages that share one buffer, as nobody reads what is in it."""

    def __init__(self, size_bytes: int) -> None:
        self._buffer = ctypes.create_string_buffer(size_bytes)
        part = _Part(ctypes.addressof(self._buffer), size_bytes)
        self._messages = (_Message * BATCH)(*(_Message(parts=ctypes.pointer(part), part_count=1) for _ in range(BATCH)))
        self._libc = ctypes.CDLL(None, use_errno=True)

    def send(self, by: socket.socket) -> int:
        return self._checked(self._libc.sendmmsg(by.fileno(), self._messages, BATCH, 0))

    def receive(self, by: socket.socket) -> int:
        """Returns with what is there once one has come."""
        return self._checked(self._libc.recvmmsg(by.fileno(), self._messages, BATCH, _MSG_WAITFORONE, None))

    def _checked(self, done: int) -> int:
        if done < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return done


def send(to: tuple[str, int], seconds: float) -> int:
    """As many as go in `seconds`, from FLOWS sockets in turn; returns how many."""
    flows = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(FLOWS)]
    for flow in flows:
        flow.connect(to)
    batch, until = Batch(PAYLOAD), time.monotonic() + seconds
    turns = itertools.takewhile(lambda _: time.monotonic() < until, itertools.cycle(flows))
    return sum(batch.send(flow) for flow in turns)


def receive(at: tuple[str, int]) -> None:
    """Takes what comes, until it is ended."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as into:
        into.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        into.bind(at)
        batch = Batch(2048)
        while True:
            batch.receive(into)


if __name__ == "__main__":
    what, address, port, *seconds = sys.argv[1:]
    if what == "send":
        starting_s = time.process_time()
        print(send((address, int(port)), float(seconds[0])), starting_s)
    else:
        receive((address, int(port)))
