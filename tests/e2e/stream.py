"""What a client sees while LB nodes come and go: datagrams each 5 ms, new connections each 10 ms, flows that live on.

Prints one JSON object when it is told to stop (SIGTERM): when each was sent, and whether it was answered.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import time
from typing import Any

PATIENCE_S = 3.0


class Stream:
    """vip: of both; http: its port that serves the demo's backends; udp: likewise."""

    def __init__(self, vip: str, http: int, udp: int) -> None:
        self.vip, self.http, self.udp = vip, http, udp
        self.sent: dict[int, float] = {}
        self.answered: dict[int, float] = {}
        self.opened: list[tuple[float, float]] = []  # begun, seconds until the answer; below 0: failed
        self.flows: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.broken = 0

    async def datagrams(self) -> None:
        loop = asyncio.get_running_loop()
        wire = socket.socket(socket.AF_INET6 if ":" in self.vip else socket.AF_INET, socket.SOCK_DGRAM)
        wire.setblocking(False)
        wire.connect((self.vip, self.udp))

        def answered() -> None:
            while True:
                try:
                    text = wire.recv(2048).split()
                except OSError:
                    return
                self.answered[int(text[-1])] = time.monotonic()

        loop.add_reader(wire.fileno(), answered)
        number, due = 0, time.monotonic()
        while True:
            self.sent[number] = time.monotonic()
            with contextlib.suppress(OSError):  # unreachable: it counts as lost
                wire.send(b"%d\n" % number)
            number += 1
            due += 0.005
            await asyncio.sleep(max(0, due - time.monotonic()))

    async def connections(self) -> None:
        tasks = set()
        due = time.monotonic()
        while True:
            task = asyncio.ensure_future(self._connect())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due += 0.01
            await asyncio.sleep(max(0, due - time.monotonic()))

    async def _connect(self) -> None:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_S):
                reader, writer = await asyncio.open_connection(self.vip, self.http)
                writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
                await reader.readline()
                writer.close()
            self.opened.append((begun, time.monotonic() - begun))
        except (OSError, TimeoutError):
            self.opened.append((begun, -1.0))

    async def hold(self, count: int) -> None:
        for _ in range(count):
            reader, writer = await asyncio.open_connection(self.vip, self.http)
            writer.write(b"FLOW x\nhello\n")
            await reader.readline()
            self.flows.append((reader, writer))

    async def check(self) -> None:
        """Say something on every flow that is held."""
        for reader, writer in self.flows:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    writer.write(b"still\n")
                    line = await reader.readline()
                    self.broken += b"still" not in line
            except (OSError, TimeoutError):
                self.broken += 1

    def report(self) -> dict[str, Any]:
        return {
            "udp": [(at, self.answered.get(number, 0) and self.answered[number] - at) for number, at in self.sent.items()],
            "tcp": self.opened,
            "flows": len(self.flows),
            "broken": self.broken,
        }


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("vip")
    parser.add_argument("--http", type=int, default=80)
    parser.add_argument("--udp", type=int, default=53)
    parser.add_argument("--flows", type=int, default=0)
    given = parser.parse_args()
    stream, stop = Stream(given.vip, given.http, given.udp), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stream.hold(given.flows)
    sending = [asyncio.ensure_future(stream.datagrams()), asyncio.ensure_future(stream.connections())]
    print("sending", flush=True)
    await stop.wait()
    for task in sending:
        task.cancel()
    await asyncio.sleep(PATIENCE_S / 2)
    await stream.check()
    print(json.dumps(stream.report()), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
