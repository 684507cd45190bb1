"""A backend: answers HTTP, long TCP flows and UDP with its own name.

Three protocols, one line each.  `GET /PATH` gets "NAME CLIENT /PATH"; a connection that starts with "FLOW …" gets every later
line back behind "NAME "; so does a datagram.  One process serves thousands of requests a second on part of a core.
"""

import argparse
import asyncio
import signal
from typing import ClassVar, cast

import uvloop

from weir.demo.network import HTTP_PORT, UDP_PORT

MOST_BYTES = 65536  # of a request, or of a line


class Connection(asyncio.Protocol):
    """One client, HTTP or flow as its first bytes say.

    draining: what is still answered is the last on its connection, and says so.
    """

    draining: ClassVar[bool] = False

    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._client = b""
        self._kept = b""
        self._flow = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if peer := transport.get_extra_info("peername"):
            self._client = str(peer[0]).encode()
        else:  # a probe that has left already
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        data = self._kept + data
        if not self._flow and data.startswith(b"FLOW "):
            self._flow = True
            data = data.partition(b"\n")[2]
        self._kept = self._lines(data) if self._flow else self._requests(data)
        if len(self._kept) > MOST_BYTES:
            self._transport.abort()

    def _lines(self, data: bytes) -> bytes:
        *lines, rest = data.split(b"\n")
        if lines:
            self._transport.write(b"".join(b"%b %b\n" % (self._name, line) for line in lines))
        return rest

    def _requests(self, data: bytes) -> bytes:
        *requests, rest = data.split(b"\r\n\r\n")
        for request in requests:
            words = request.split(b" ", 2)
            path = words[1] if len(words) > 2 else b"?"
            body = b"%b %b %b\n" % (self._name, self._client, path)
            last = b"Connection: close\r\n" if self.draining else b""
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n%bContent-Length: %d\r\n\r\n%b" % (last, len(body), body)
            )
            if self.draining or b"\r\nconnection: close" in request.lower():
                self._transport.close()
        return rest


class Datagrams(asyncio.DatagramProtocol):
    """Echo, with the name in front."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(self._name + b" " + data, addr)


async def serve(name: str, port: int, udp_port: int) -> None:
    """Listens on all addresses of both families until SIGTERM."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await loop.create_server(lambda: Connection(name), ("0.0.0.0", "::"), port, backlog=1024)  # noqa: S104
    await loop.create_datagram_endpoint(lambda: Datagrams(name), ("::", udp_port))  # takes IPv4 too
    print(f"{name} listens on {port}/TCP and {udp_port}/UDP", flush=True)
    await ended.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m weir.demo.backend", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, default=HTTP_PORT, help="TCP, HTTP and flows (default: %(default)s)")
    parser.add_argument("--udp-port", type=int, default=UDP_PORT, help="UDP echo (default: %(default)s)")
    args = parser.parse_args()
    uvloop.run(serve(args.name, args.port, args.udp_port))


if __name__ == "__main__":
    main()
