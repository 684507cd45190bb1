"""What probing costs and where its ceiling is: health's prober in a process of its own, against servers on the loopback.

The kernel's map is a dict here: it is written on transitions only, of which there must be none.
"""

import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from bench.table import Row, Table
from services.health.core import INDEXES
from services.health.edge import Prober
from weir.decider import Change, Fact, World
from weir.events import DECODE, AnyEvent, BackendsPlanned, FrontendPlanned
from weir.model import Backend, BackendSet, Probe, Root
from weir.service.logs import configure_logging
from weir.service.process import allow_files

OF_SERVICE = 10  # endpoints
FIRST = int(IPv4Address("127.1.0.0"))
CASES = (  # probed, planned, kind, interval_s; every backend of a probed Service is probed
    (0, 10, "tcp", 1),
    (0, 100_000, "tcp", 1),
    (1_000, 1_000, "tcp", 2),
    (1_000, 1_000, "http", 2),
    (10_000, 10_000, "tcp", 10),
    (10_000, 10_000, "http", 10),
    (10_000, 100_000, "tcp", 10),
    (10_000, 10_000, "tcp", 1),
    (10_000, 10_000, "http", 1),
)


class Told(msgspec.Struct):
    """What one process measured of itself."""

    probes_s: float
    cpu_percent: float
    rss_mb: float
    lag_ms: int
    downs: int
    change_us: float


def run(quick: bool) -> list[Table]:
    """CPU, memory and lateness by number of backends, and the cost of a change of the plan."""
    with server() as port:
        told = {case: _child(*case, port, 5 if quick else 20) for case in CASES}
    rows = {_label(*case): each for case, each in told.items()}
    tables = [
        Table(title=f"Probing: {title}", unit=unit, rows=tuple(Row(label, (getattr(each, name),)) for label, each in rows.items()))
        for name, title, unit in (
            ("probes_s", "how many", "probes/s"),
            ("cpu_percent", "processor", "% of a core"),
            ("rss_mb", "memory", "MB"),
            ("lag_ms", "how late the latest probe began", "ms"),
            ("change_us", "one planned change, median", "µs"),
        )
    ]
    wrong = {label: each.downs for label, each in rows.items() if each.downs}
    assert not wrong, f"live backends held for dead: {wrong}"
    return tables


@contextmanager
def server() -> Iterator[int]:
    """A server on every address of this host; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "weir.demo.backend", "--name", "b", "--port", str(port), "--udp-port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline()
        yield port
    finally:
        process.terminate()
        process.wait()


def _label(probed: int, planned: int, kind: str, interval_s: int) -> str:
    return f"{planned:,} planned: " + (f"{probed:,} {kind} / {interval_s} s" if probed else "none")


def _child(probed: int, planned: int, kind: str, interval_s: int, port: int, seconds: int) -> Told:
    case = json.dumps([probed, planned, kind, interval_s, port, seconds])
    out = subprocess.run([sys.executable, "-m", "bench.probe", case], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return msgspec.json.decode(out.stdout, type=Told)


def facts(probed: int, planned: int, probe: Probe, port: int) -> Iterator[AnyEvent]:
    """A plan of Services of ten endpoints; as from the log, no two events share a string."""
    for number in range(planned // OF_SERVICE):
        root = Root(kind="Service", name=f"service-{number}", namespace="bench", generation=1, place=f"s{number}.yaml")
        name = f"bench/service-{number}:80/TCP:IPv4"
        backends = tuple(Backend(address=str(IPv4Address(FIRST + number * OF_SERVICE + at)), port=port) for at in range(OF_SERVICE))
        yield _fresh(BackendsPlanned(set=name, chunk=0, chunks=1, protocol="TCP", backends=backends, root=root))
        vip = str(IPv4Address("198.18.0.0") + number)
        wish = probe if number < probed // OF_SERVICE else None
        yield _fresh(
            FrontendPlanned(
                vip=vip, port=80, protocol="TCP", owner=root.owner, sets=(BackendSet(name=name, chunks=1),), probe=wish, root=root
            )
        )


def _fresh(event: AnyEvent) -> AnyEvent:
    again: AnyEvent = DECODE(msgspec.json.encode(event))
    return again


async def measure(probed: int, planned: int, kind: Any, interval_s: int, port: int, seconds: int) -> Told:
    """In this process."""
    world, backend_up = World(INDEXES), _Map()
    for seq, event in enumerate(facts(probed, planned, Probe(kind=kind, interval_s=interval_s), port), 1):
        world.evolve(Fact(seq, event))
    prober = Prober(backend_up, "bench")  # type: ignore[arg-type]
    await prober.heard(world, None, 0)
    asking = asyncio.create_task(prober.rounds.run())
    await asyncio.sleep(interval_s + 1)  # the first round brings everybody into step
    probes, cpu_s, begun_s = prober.rounds.probes, time.process_time(), time.monotonic()
    lag_ms = 0
    while (passed_s := time.monotonic() - begun_s) < seconds:
        await asyncio.sleep(0.1)
        lag_ms = max(lag_ms, prober.rounds.probe_lag_ms)
    probes, cpu_s = prober.rounds.probes - probes, time.process_time() - cpu_s
    asking.cancel()
    change_us = statistics.median([await _change_us(prober, world, number) for number in range(min(200, planned // OF_SERVICE))])
    return Told(probes / passed_s, 100 * cpu_s / passed_s, _rss_mb(), lag_ms, len(backend_up.pairs), change_us)


async def _change_us(prober: Prober, world: World, number: int) -> float:
    """What one chunk that loses a backend costs the prober, the fold not counted."""
    name = f"bench/service-{number}:80/TCP:IPv4"
    chunk = world.find("set", name, BackendsPlanned)[0]
    change: Change = world.evolve(Fact(10**9, msgspec.structs.replace(chunk, backends=chunk.backends[1:])))
    begun_ns = time.perf_counter_ns()
    await prober.heard(world, [change], 0)
    return (time.perf_counter_ns() - begun_ns) / 1000


def _rss_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class _Map:
    def __init__(self) -> None:
        self.pairs: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.pairs.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.pairs[key] = value

    def delete(self, key: bytes) -> bool:
        return self.pairs.pop(key, None) is not None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.pairs.items())


if __name__ == "__main__":
    allow_files()
    configure_logging()
    print(msgspec.json.encode(uvloop.run(measure(*json.loads(sys.argv[1])))).decode())
