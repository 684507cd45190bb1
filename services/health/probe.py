"""One probe: a connection, and for http and https one request on it.  It ends with a reset, so nothing is left on either side.

The caller limits the time.  Certificates are not verified, as in the probes of Kubernetes: a probe checks whether a backend
serves, not its identity.
"""

import asyncio
import errno
import os
import socket
import ssl
import struct
import time
from functools import cache
from typing import NamedTuple

from services.health.answer import ANSWER_MOST, judge, misfit, port_of, request, server_name
from services.health.core import Target
from weir.model import PROBE_KINDS, Probe

_OURS = (errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # faults of this machine, not of a backend
_RESET = struct.pack("ii", 1, 0)
_RTT_AT, _RTT_END = 68, 72  # tcpi_rtt in struct tcp_info of linux/tcp.h, microseconds
_READ_BYTES = 4096
_READS_MOST = 64  # each parses all that has arrived: a server that sends byte by byte must not cost a core


class ProbeImpossible(Exception):
    """This machine cannot probe now: no verdict on the backend."""


class Answer(NamedTuple):
    """fault: what went wrong, "" when nothing did.   delay_us: of a TCP probe the kernel's round trip, else until the answer was good."""

    fault: str
    delay_us: int = 0


async def run_probe(target: Target, probe: Probe) -> Answer:
    """Probe once.  Raises ProbeImpossible, and nothing for whatever a backend does."""
    if probe.kind not in PROBE_KINDS:
        raise ProbeImpossible(f"kind {probe.kind!a} of a probe: expected one of {', '.join(PROBE_KINDS)}")
    if probe.kind in ("http", "https") and (fault := misfit(probe)):
        return Answer(fault)
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    began_ns = time.monotonic_ns()
    try:
        if probe.kind == "ping":
            await _ping(target.address)
            return Answer("", (time.monotonic_ns() - began_ns) // 1000)
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            await asyncio.get_running_loop().sock_connect(connection, (target.address, port_of(target, probe)))
            if probe.kind == "tcp":
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT_END)
                return Answer("", int.from_bytes(info[_RTT_AT:], "little"))
            fault = await _http(connection, target, probe)
    except ssl.SSLError as error:
        return Answer(f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}")
    except OSError as error:
        if error.errno in _OURS:
            raise ProbeImpossible(error.strerror) from error
        return Answer(os.strerror(error.errno or errno.EIO).lower())
    return Answer(fault, (time.monotonic_ns() - began_ns) // 1000)


async def _ping(address: str) -> None:
    """Send one echo request and wait for the reply, over a socket that needs no capability.

    The kernel fills in identifier and checksum (net/ipv4/ping.c).
    """
    family, protocol, echo = (
        (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128) if ":" in address else (socket.AF_INET, socket.IPPROTO_ICMP, 8)
    )  # RFC 4443, section 4.1; RFC 792
    try:
        connection = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, protocol)
    except PermissionError as error:
        raise ProbeImpossible("this process may not ping: see sysctl net.ipv4.ping_group_range") from error
    with connection:
        connection.connect((address, 0))
        connection.send(bytes([echo, *bytes(7)]))
        await asyncio.get_running_loop().sock_recv(connection, _READ_BYTES)


async def _http(connection: socket.socket, target: Target, probe: Probe) -> str:
    try:
        stream = _Tls(connection, server_name(probe)) if probe.kind == "https" else _Plain(connection)
    except ValueError:
        return f"host {probe.host!a} is not a server name"
    await stream.send(request(target, probe))
    received = b""
    for _ in range(_READS_MOST):
        more = await stream.receive()
        received += more
        fault = judge(received, probe.expect, ended=not more or len(received) >= ANSWER_MOST)
        if fault is not None:
            return fault
    return f"answered in more than {_READS_MOST} pieces"


class _Plain:
    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._loop = connection, asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._connection, data)

    async def receive(self) -> bytes:
        """Return what has arrived, b"" at the end."""
        return await self._loop.sock_recv(self._connection, _READ_BYTES)


class _Tls(_Plain):
    """TLS over the same socket.  Raises ssl.SSLError, and ValueError for a name that TLS cannot carry."""

    def __init__(self, connection: socket.socket, name: str | None) -> None:
        super().__init__(connection)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _context().wrap_bio(self._in, self._out, server_hostname=name)

    async def send(self, data: bytes) -> None:
        while True:
            try:
                self._tls.write(data)  # starts with the handshake
            except ssl.SSLWantReadError:
                await self._exchange()
                continue
            await super().send(self._out.read())
            return

    async def receive(self) -> bytes:
        while True:
            try:
                return self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                await self._exchange()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def _exchange(self) -> None:
        """Send what TLS has to send, and hand it what has arrived."""
        if self._out.pending:
            await super().send(self._out.read())
        if more := await super().receive():
            self._in.write(more)
        else:
            self._in.write_eof()


@cache
def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
