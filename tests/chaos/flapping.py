"""A backend that, once told by a line, takes new connections for 50 ms and refuses them for the next 50; those it has taken stay."""

import asyncio
import sys

import uvloop

from weir.demo.backend import Connection, Datagrams
from weir.demo.network import HTTP_PORT, UDP_PORT

PHASE_S = 0.05


async def flap(name: str) -> None:
    """Serves until a line comes, then flaps for ever."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: Datagrams(name), ("::", UDP_PORT))
    server = await _listen(loop, name)
    print(f"{name} listens", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    while True:
        server.close()
        await asyncio.sleep(PHASE_S)
        server = await _listen(loop, name)
        await asyncio.sleep(PHASE_S)


async def _listen(loop: asyncio.AbstractEventLoop, name: str) -> asyncio.Server:
    return await loop.create_server(lambda: Connection(name), ("0.0.0.0", "::"), HTTP_PORT, backlog=1024)


if __name__ == "__main__":
    uvloop.run(flap(sys.argv[1]))
