"""The demo's backend as a pod: its name is the pod's, and on SIGTERM it finishes what it has begun before it ends.

It goes on taking connections until the last one is through: whoever was told late that it is going is still answered.
"""

import argparse
import asyncio
import os
import signal
from typing import ClassVar

import uvloop

from weir.demo.backend import Connection, Datagrams
from weir.demo.network import HTTP_PORT, UDP_PORT


class Counted(Connection):
    """Knows how many of its kind are open."""

    open: ClassVar[int] = 0
    idle: ClassVar[asyncio.Event]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Counted.open += 1
        Counted.idle.clear()
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        Counted.open -= 1
        if not Counted.open:
            Counted.idle.set()


async def serve(name: str, port: int, udp_port: int) -> None:
    """Until SIGTERM and the end of the last connection."""
    loop = asyncio.get_running_loop()
    ended, Counted.idle = asyncio.Event(), asyncio.Event()
    Counted.idle.set()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await loop.create_server(lambda: Counted(name), ("0.0.0.0", "::"), port, backlog=1024)
    await loop.create_datagram_endpoint(lambda: Datagrams(name), ("::", udp_port))
    print(f"{name} listens on {port}/TCP and {udp_port}/UDP", flush=True)
    await ended.wait()
    Connection.draining = True
    await Counted.idle.wait()
    print(f"{name} has drained", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default=os.environ.get("POD_NAME") or os.uname().nodename)
    parser.add_argument("--port", type=int, default=HTTP_PORT)
    parser.add_argument("--udp-port", type=int, default=UDP_PORT)
    args = parser.parse_args()
    uvloop.run(serve(args.name, args.port, args.udp_port))


if __name__ == "__main__":
    main()
