"""What a load balancer before a node hears on a Service's health port, over real sockets."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from services.dataplane.applier import Step
from services.dataplane.core import INDEXES
from services.dataplane.health_ports import HealthPorts, _another_answers
from tests.own import free_port
from tests.unit.test_sources import backends, frontend
from weir.decider import Fact, World
from weir.events import AnyEvent, FrontendWithdrawn, key_of
from weir.model import Rejection
from weir.service.http import MOST_OPEN

ASK = b"GET / HTTP/1.1\r\nHost: n1\r\n\r\n"


class Node:
    """n1, whose kernel follows what is planned."""

    def __init__(self) -> None:
        self.refused: list[Rejection] = []
        self.told = asyncio.Event()
        self.ports = HealthPorts("n1", lambda: self.refused, self.told.set)
        self.world = World(INDEXES)

    def plan(self, *events: AnyEvent) -> None:
        for event in events:
            self.world.evolve(Fact(len(self.world.facts) + 1, event))
        self.ports.apply(Step(self.world, None, {}, len(self.world.facts)))


@asynccontextmanager
async def running() -> AsyncIterator[Node]:
    node = Node()
    task = asyncio.create_task(node.ports.serve(None))  # type: ignore[arg-type]  it takes nothing of the runner
    try:
        yield node
    finally:
        task.cancel()
        node.plan(gone())
        await node.ports._listen()


def gone() -> FrontendWithdrawn:
    whole = frontend()
    return FrontendWithdrawn(vip=whole.vip, port=whole.port, protocol=whole.protocol, root=whole.root)


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As soon as it listens."""
    async with asyncio.timeout(10):
        while True:
            with suppress(ConnectionRefusedError):
                return await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(0)


async def ask(port: int) -> tuple[int, dict[str, object]]:
    """Status and body."""
    reader, writer = await connect(port)
    writer.write(ASK)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b"\r\nContent-Type: application/json\r\n" in head
    return int(head.split()[1]), json.loads(body)


def answer(endpoints: int, *, healthy: bool = True) -> dict[str, object]:
    return {"service": {"namespace": "shop", "name": "web"}, "localEndpoints": endpoints, "serviceProxyHealthy": healthy}


def test_node_tells_how_many_ready_endpoints_it_has() -> None:
    async def test() -> None:
        port = free_port()
        async with running() as node:
            node.plan(frontend(local=True, health_port=port), backends("active", "active", "draining", nodes=("n1", "n2", "n1")))
            assert await ask(port) == (200, answer(1))
            node.plan(backends("active", "active", "active", nodes=("n1", "n2", "n1")))
            assert await ask(port) == (200, answer(2))
            node.plan(backends("draining", "active", "down", nodes=("n1", "n2", "n1")))
            assert await ask(port) == (503, answer(0)), "one that leaves gets no new clients, though it serves them where it must"

    asyncio.run(test())


def test_frontend_that_the_kernel_refused_is_not_served() -> None:
    async def test() -> None:
        port = free_port()
        async with running() as node:
            node.plan(planned := frontend(local=True, health_port=port), backends("active", nodes=("n1",)))
            node.refused.append(Rejection(entity=key_of(planned), reason="full"))
            assert await ask(port) == (503, answer(1, healthy=False))

    asyncio.run(test())


def test_port_follows_the_plan() -> None:
    async def test() -> None:
        first, second = free_port(), free_port()
        async with running() as node:
            node.plan(frontend(local=True, health_port=first), backends("active", nodes=("n1",)))
            await ask(first)
            node.plan(frontend(local=True, health_port=second))
            await ask(second)
            assert [await asyncio.to_thread(socket.socket().connect_ex, ("127.0.0.1", port)) == 0 for port in (first, second)] == [
                False,
                True,
            ]

    asyncio.run(test())


def test_port_of_another_is_told_and_taken_once_it_is_free() -> None:
    async def test() -> None:
        async with running() as node:
            with socket.create_server(("", 0)) as other:
                port = other.getsockname()[1]
                node.plan(frontend(local=True, health_port=port), backends("active", nodes=("n1",)))
                await node.told.wait()
                (rejection,) = node.ports.rejections()
                assert rejection.entity == "watcher.service.shop.web"
                assert rejection.reason == f"health port {port}: Address already in use"
            node.told.clear()
            node.plan()
            await node.told.wait()
            assert node.ports.rejections() == []
            assert await ask(port) == (200, answer(1))

    asyncio.run(test())


def test_port_of_one_who_tells_the_same_is_left_to_it() -> None:
    async def test() -> None:
        port = free_port()
        async with running() as proxy, running() as node:
            proxy.plan(frontend(local=True, health_port=port), backends("active", nodes=("n1",)))
            await ask(port)
            node.plan(frontend(local=True, health_port=port), backends("active", nodes=("n1",)))
            assert not await node.ports._listen()
            assert node.ports.rejections() == []
            node.plan(frontend(local=True, health_port=port, owner="Service/shop/another"))
            assert not await node.ports._listen()
            assert [rejection.entity for rejection in node.ports.rejections()] == ["watcher.service.shop.another"]

    asyncio.run(test())


def test_more_connections_than_are_kept_are_ended() -> None:
    async def test() -> None:
        port = free_port()
        async with running() as node:
            node.plan(frontend(local=True, health_port=port), backends("active", nodes=("n1",)))
            await ask(port)
            idle = [await connect(port) for _ in range(MOST_OPEN)]
            one_more, _ = await connect(port)
            with suppress(ConnectionResetError):
                assert await one_more.read() == b""
            for reader, writer in idle[:2]:
                writer.write(ASK)
                assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n"), "those that were there first are answered"
            assert (await ask(port))[0] == 200, "and there is room again"
            for _, writer in idle:
                writer.close()

    asyncio.run(test())


def test_what_another_has_on_the_port_cannot_fill_our_memory() -> None:
    """It sends without end: reading stops after 64 KiB."""

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while True:
                writer.write(b"x" * 65_536)
                sent.append(65_536)
                await writer.drain()

    async def test() -> None:
        async with await asyncio.start_server(flood, "localhost", port := free_port()):
            assert not await _another_answers(port, None)

    sent: list[int] = []
    asyncio.run(test())
    assert sum(sent) < 32 << 20, "what the sockets hold, and no more"
