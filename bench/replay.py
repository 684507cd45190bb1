"""The log: appends/s in fenced batches, and events/s read back and folded, from NATS and from a file that log dump wrote.

The events are those of Services with five endpoints that change all the time, each observed, planned and told.  `weir replay` reads all
of them and decodes the last of each entity, which says all; a service that follows decodes and evolves every one.
"""

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench.table import Row, Table
from services.dataplane.core import INDEXES
from weir.bus.appends import BATCH
from weir.bus.client import Bus
from weir.bus.lines import line
from weir.bus.reader import LogUnreachable
from weir.bus.streams import ensure_streams
from weir.bus.writer import Writer
from weir.decider import Decided, World
from weir.events import ENCODE, AnyEvent, BackendsPlanned, EndpointSliceObserved, FrontendPlanned, StatusPlanned, author_of
from weir.model import Backend, BackendSet, Condition, Endpoint, Root, SlicePort
from weir.view.history import batches, world_at
from weir.view.recording import Recording, head_line

SERVICES = 1000
ROUNDS = 5


def run(quick: bool) -> list[Table]:
    """Appends and replay."""
    facts = [*history(20_000 if quick else 100_000)]
    with tempfile.TemporaryDirectory(prefix="weir-bench-replay-") as folder, server(Path(folder)) as url:
        return asyncio.run(_measure(url, facts, Path(folder) / "log", 2 if quick else ROUNDS))


async def _measure(url: str, facts: list[AnyEvent], file: Path, rounds: int) -> list[Table]:
    async with await connect(url) as bus:
        await ensure_streams(bus)
        appends_s = await _append(bus, facts)
        await _dump(bus, file, len(facts))
        last = str(len(facts))
        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "NATS, decoded": lambda: _decoded(bus),
            "NATS, every event evolved, as a service starts": lambda: _evolved(bus),
            "NATS, folded, as weir replay": lambda: world_at(bus, last, INDEXES),
            "file, folded, as weir replay --from": lambda: _from_file(file),
        }
        samples: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, way in ways.items():
                begun_s = time.perf_counter()
                await way()
                if number:  # the first is to warm up
                    samples[name].append(len(facts) / (time.perf_counter() - begun_s))
    size = sum(len(ENCODE(fact)) for fact in facts) // len(facts)
    note = f"{len(facts):,} events of {size} B about {4 * SERVICES:,} entities; one process on one core"
    read = Table(title="Replay", unit="events/s", rows=tuple(Row(name, tuple(each)) for name, each in samples.items()), note=note)
    written = Table(title="Appends", unit="events/s", rows=(Row(f"fenced batches of {BATCH}, each on disk before the next", appends_s),))
    return [written, read]


def history(count: int) -> Iterator[AnyEvent]:
    """Round by round, one kind of event about every Service, so that an author's events fill batches."""
    for number in range(count):
        turn, service = divmod(number, SERVICES)
        name, vip, address = f"web-{service}", f"10.{service >> 8}.{service & 255}.1", f"10.99.{service & 255}"
        root = Root(kind="Service", name=name, namespace="shop", generation=turn + 1, place=f"shop/{name}.yaml#1")
        backends = tuple(Backend(address=f"{address}.{k}", port=8080, state="down" if k == turn % 6 else "active") for k in range(1, 6))
        match turn % 4:
            case 0:
                endpoints = tuple(Endpoint(address=f"{address}.{k}", ready=k != turn % 6, node="n1") for k in range(1, 6))
                slices = Root(kind="EndpointSlice", name=f"{name}-x", namespace="shop", place=root.resource_version)
                yield EndpointSliceObserved(root=slices, service=name, family="IPv4", ports=(SlicePort(port=8080),), endpoints=endpoints)
            case 1:
                set_ = f"shop/{name}:80/TCP:IPv4"
                yield BackendsPlanned(set=set_, chunk=0, chunks=1, protocol="TCP", backends=backends, root=root)
            case 2:
                told = (Condition(type="Programmed", status=turn % 8 == 2, reason="Applied"),)
                yield StatusPlanned(owner=f"Service/shop/{name}", vips=(vip,), conditions=told, root=root)
            case _:
                set_ = f"shop/{name}:80/TCP:IPv4"
                yield FrontendPlanned(
                    vip=vip, port=80, protocol="TCP", owner=f"Service/shop/{name}", sets=(BackendSet(name=set_, chunks=1),), root=root
                )


async def _append(bus: Bus, facts: list[AnyEvent]) -> tuple[float, ...]:
    """Events/s of each fifth."""
    writers: dict[str, Writer] = {}
    last: dict[str, int] = {}
    found = []
    fifth = len(facts) // 5
    for start in range(0, len(facts), fifth):
        begun_s = time.perf_counter()
        for at in range(start, start + fifth, BATCH):
            part = facts[at : min(at + BATCH, start + fifth)]
            author = author_of(part[0])
            writer = writers.setdefault(author, Writer(bus, author))
            last[author] = await writer.append([Decided(fact, 1) for fact in part], last.get(author, 0)) + len(part) - 1
        found.append(fifth / (time.perf_counter() - begun_s))
    return tuple(found)


async def _decoded(bus: Bus) -> None:
    async for _ in batches(bus, 1):
        pass


async def _evolved(bus: Bus) -> None:
    world = World(INDEXES)
    async for batch in batches(bus, 1):
        for entry in batch:
            world.evolve(entry.fact)


async def _from_file(file: Path) -> None:
    with Recording(file) as recording:
        await world_at(recording, "", INDEXES)


async def _dump(bus: Bus, file: Path, last: int) -> None:
    with file.open("wb") as out:
        out.write(head_line("local", 1, last))
        async with bus.unread(0) as pull:
            while pull.pending:
                out.writelines(map(line, await pull.next()))


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """NATS as `weir up` configures it, on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = {"listen": f"127.0.0.1:{port}", "jetstream": {"store_dir": str(folder / "nats"), "sync_interval": "always"}}
    (folder / "nats.conf").write_bytes(msgspec.json.encode(config))
    command = [str(Path(sys.executable).with_name("nats-server")), "-c", str(folder / "nats.conf"), "-l", str(folder / "nats.log")]
    process = subprocess.Popen(command)
    try:
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


async def connect(url: str) -> Bus:
    for _ in range(50):
        try:
            return await Bus.connect(url, "bench")
        except LogUnreachable:
            await asyncio.sleep(0.1)
    return await Bus.connect(url, "bench")
