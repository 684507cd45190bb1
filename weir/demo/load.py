"""Load through the load balancer, every reply checked: HTTP on kept and on new connections, long TCP flows, UDP.

Nothing is tried again under the same count: a request that meets a refused connection, a reset, an early end, a wrong answer or
5 s of silence has failed, and a flow that breaks is lost even though another takes its place.  SIGUSR1 prints a report at once,
SIGTERM ends the load, waits for what is under way and prints the last one.
"""

import argparse
import asyncio
import itertools
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self

import msgspec
import uvloop

from weir.demo.network import HTTP_PORT, UDP_PORT, Network, wait_until
from weir.demo.report import Report, Tally, Wrong, ms

TIMEOUT_S = 5.0
UDP_TIMEOUT_S = 3.0  # a datagram is not sent again; but whoever asks or answers may be starved for a second
LINE_EVERY_S = 1.0
DATAGRAM_EVERY_S = 0.1
START_S = 30  # within which it answers


class Load:
    """The program, running in the client's namespace from `with` to its end; `options` are those of its command line."""

    def __init__(self, network: Network, *options: str) -> None:
        self._network, self._options = network, options

    def __enter__(self) -> Self:
        """Returns once every flow is established; raises TimeoutExpired where one is not within 30 s."""
        self._out = tempfile.NamedTemporaryFile("a")
        self._process = self._network.popen("client", sys.executable, "-m", "weir.demo.load", *self._options, stdout=self._out)
        if not wait_until(lambda: bool(self._lines()), START_S):
            self._process.kill()
            raise subprocess.TimeoutExpired(self._process.args, START_S)
        flows = _parser().parse_args(self._options).flows
        if not wait_until(lambda: self.now().flows.open >= flows, START_S):
            self._process.kill()
            raise subprocess.TimeoutExpired(self._process.args, START_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error:
            self._process.kill()
        self._process.terminate()
        self._process.wait(TIMEOUT_S * 2)
        self._out.close()

    def now(self) -> Report:
        """The counts at this moment; attempts under way are in `sent` only."""
        before = len(self._lines())
        self._process.send_signal(signal.SIGUSR1)
        if not wait_until(lambda: len(self._lines()) > before, START_S):
            raise subprocess.TimeoutExpired(self._process.args, START_S)
        return msgspec.json.decode(self._lines()[-1], type=Report)

    def stop(self) -> Report:
        """Ends the load, waits for what is under way (at most 5 s) and returns the last counts; may be called again."""
        self._process.terminate()
        self._process.wait(TIMEOUT_S * 2)
        return msgspec.json.decode(self._lines()[-1], type=Report)

    def _lines(self) -> list[str]:
        with open(self._out.name) as out:  # not through the program's own descriptor: they would share one position
            return out.read().split("\n")[:-1]


class Stream:
    """One socket to one target, and the backend it has been talking to."""

    def __init__(self, target: tuple[str, int], kind: socket.SocketKind) -> None:
        self.backend = ""
        self.over = False  # the other side has said that this answer was its last
        self._target = target
        self._socket = socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, kind)
        self._socket.setblocking(False)
        self._kept = b""

    @property
    def closed(self) -> bool:
        return self._socket.fileno() < 0

    @property
    def own_address(self) -> str:
        return str(self._socket.getsockname()[0])

    async def connect(self) -> None:
        await asyncio.get_running_loop().sock_connect(self._socket, self._target)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def receive(self) -> bytes:
        return bytes(await asyncio.get_running_loop().sock_recv(self._socket, 4096))

    async def until(self, mark: bytes) -> bytes:
        """What comes before `mark`.  Raises EOFError."""
        while mark not in self._kept:
            if not (data := await self.receive()):
                raise EOFError(f"connection ended after {self._kept!r}")
            self._kept += data
        found, _, self._kept = self._kept.partition(mark)
        return found

    async def end(self) -> None:
        """Raises Wrong unless the other side ends here."""
        if more := self._kept + await self.receive():
            raise Wrong(f"{more!r} after the answer")

    def close(self) -> None:
        self._socket.close()

    def fail(self) -> None:
        """A broken connection is given up; a UDP socket keeps its port, and any backend may answer it next."""
        self.backend = ""
        if self._socket.type == socket.SOCK_STREAM:
            self.close()

    def __str__(self) -> str:
        own = self._socket.getsockname()
        return f"{own[0]} port {own[1]} to {self._target[0]} port {self._target[1]} at {self.backend or 'no backend yet'}"


Ask = Callable[[Stream, int], Awaitable[str]]  # one attempt, numbered; the name of the backend that answered


class Generator:
    """The load of one process."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._started_s = time.monotonic()
        self._ending = False
        self.report = Report()
        self._http = Tally("http", self.report, self.report.http)
        self._flows = Tally("flow", self.report, self.report.flows)
        self._udp = Tally("udp", self.report, self.report.udp)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end)
        loop.add_signal_handler(signal.SIGUSR1, self.tell)
        self.tell()
        if self._args.seconds:
            loop.call_later(self._args.seconds, self._end)
        async with asyncio.TaskGroup() as group:
            for number in range(self._args.http):
                group.create_task(self._kept(number) if number < self._args.http // 2 else self._new(number))
            for number in range(self._args.flows):
                group.create_task(self._flow(number))
            for number in range(self._args.udp):
                group.create_task(self._datagrams(number))
            if self._args.ticks:
                group.create_task(self._tick())
        self.tell()

    def tell(self) -> None:
        """Prints the report as it stands: one line of JSON."""
        self.report.elapsed_ms = ms(time.monotonic() - self._started_s)
        self._gaps()
        print(msgspec.json.encode(self.report).decode(), flush=True)

    def _end(self) -> None:
        self._gaps()
        self._ending = True

    def _gaps(self) -> None:
        if not self._ending:
            for tally in (self._http, self._flows, self._udp):
                tally.gap()

    async def _tick(self) -> None:
        async for _ in self._beats(1.0, 1.0):
            self.tell()

    async def _beats(self, every_s: float, first_s: float) -> AsyncIterator[int]:
        """Counts up at fixed times until the load ends; a beat that is missed is left out, not made up for."""
        due_s = self._started_s + first_s
        for number in itertools.count():
            await asyncio.sleep(due_s - time.monotonic())
            if self._ending:
                return
            self.report.lag_ms = max(self.report.lag_ms, ms(time.monotonic() - due_s))
            yield number
            due_s += every_s * max(1, -(-(time.monotonic() - due_s) // every_s))

    async def _streams(self, tally: Tally, beats: AsyncIterator[int], target: tuple[str, int], ask: Ask, *, once: bool = False) -> None:
        """An attempt at each beat: over one stream until it fails, or `once` over each."""
        stream = None
        async for beat in beats:
            if fresh := stream is None or stream.closed:
                stream = Stream(target, socket.SOCK_DGRAM if tally is self._udp else socket.SOCK_STREAM)
            with tally.attempt(stream):
                async with asyncio.timeout(UDP_TIMEOUT_S if tally is self._udp else TIMEOUT_S):
                    if fresh:
                        await stream.connect()
                    stream.backend = await ask(stream, beat)
            if stream.backend and (once or stream.over):
                tally.left()
                stream.close()
        if stream and stream.backend and not stream.closed:
            tally.left()
            stream.close()

    async def _kept(self, number: int) -> None:
        """Requests one after another on one connection."""
        await self._streams(self._http, self._http_beats(number), self._target(number, self._args.port), self._ask(number, "keep-alive"))

    async def _new(self, number: int) -> None:
        """A connection for each request; the server ends it, so that the TIME_WAIT is not ours."""
        ask = self._ask(number, "close")
        await self._streams(self._http, self._http_beats(number), self._target(number, self._args.port), ask, once=True)

    async def _flow(self, number: int) -> None:
        """Numbered lines over one connection, to be given back by the same backend as ever."""

        async def ask(stream: Stream, beat: int) -> str:
            opening = b"" if stream.backend else b"FLOW %d\n" % number
            await stream.send(opening + b"%d\n" % beat)
            return _backend(await stream.until(b"\n"), beat)

        beats = self._beats(LINE_EVERY_S, LINE_EVERY_S * number / self._args.flows)
        await self._streams(self._flows, beats, self._target(number, self._args.flow_port or self._args.port), ask)

    async def _datagrams(self, number: int) -> None:
        """Numbered datagrams from one socket; a reply that comes after its time is passed over."""

        async def ask(stream: Stream, beat: int) -> str:
            await stream.send(b"%d" % beat)
            while int((reply := await stream.receive()).rpartition(b" ")[2]) < beat:
                pass
            return _backend(reply, beat)

        beats = self._beats(DATAGRAM_EVERY_S, DATAGRAM_EVERY_S * number / self._args.udp)
        await self._streams(self._udp, beats, self._target(number, self._args.udp_port), ask)

    def _ask(self, number: int, connection: str) -> Ask:
        async def ask(stream: Stream, beat: int) -> str:
            path = f"/{number}-{beat}"
            await stream.send(f"GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: {connection}\r\n\r\n".encode())
            head, body = (await stream.until(b"\r\n\r\n")).decode(), (await stream.until(b"\n")).decode()
            stream.over = "\r\nConnection: close\r\n" in head
            if connection == "close" or stream.over:
                await stream.end()
            return self._check(path, head, body, stream.own_address)

        return ask

    def _check(self, path: str, head: str, body: str, own_address: str) -> str:
        """The name of the backend that answered.  Raises Wrong."""
        backend, client, echoed = (*body.split(" "), "", "", "")[:3]
        right = head.startswith("HTTP/1.1 200 ") and head.endswith(f"Content-Length: {len(body) + 1}") and backend and echoed == path
        if not right or (client != own_address and not self._args.nat):
            raise Wrong(f"{head!r} {body!r} to {path} of {own_address}")
        return backend

    def _http_beats(self, number: int) -> AsyncIterator[int]:
        every_s = self._args.http / self._args.rate
        return self._beats(every_s, every_s * number / self._args.http)

    def _target(self, number: int, port: int) -> tuple[str, int]:
        return self._args.target[number % len(self._args.target)], port


def _backend(reply: bytes, number: int) -> str:
    backend, _, echoed = reply.decode().partition(" ")
    if not backend or echoed != str(number):
        raise Wrong(f"{reply!r} to {number}")
    return backend


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m weir.demo.load", description=__doc__)
    parser.add_argument("--target", action="append", required=True, metavar="ADDRESS", help="repeatable; connections alternate")
    parser.add_argument("--port", type=int, default=HTTP_PORT, help="HTTP (default: %(default)s)")
    parser.add_argument("--flow-port", type=int, default=0, help="long flows (default: as HTTP)")
    parser.add_argument("--udp-port", type=int, default=UDP_PORT, help="UDP (default: %(default)s)")
    parser.add_argument("--http", type=int, default=0, metavar="N", help="connections: half kept, half new for each request")
    parser.add_argument("--rate", type=int, default=1000, help="HTTP requests a second over all connections (default: %(default)s)")
    parser.add_argument("--flows", type=int, default=0, metavar="N", help="long TCP flows, a line a second each")
    parser.add_argument("--udp", type=int, default=0, metavar="N", help="UDP sockets, ten datagrams a second each")
    parser.add_argument("--seconds", type=float, default=0, help="end by itself (default: at SIGTERM)")
    parser.add_argument("--ticks", action="store_true", help="print a report every second")
    parser.add_argument("--nat", action="store_true", help="backends see another address than the client's")
    return parser


def main() -> None:
    generator = Generator(_parser().parse_args())
    uvloop.run(generator.run())
    sys.exit(1 if generator.report.lost else 0)


if __name__ == "__main__":
    main()
