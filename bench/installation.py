"""A Weir of its own for a measurement: one namespace with a veth pair, any number of Services, and what its processes cost."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyroute2 import netns

from bench.table import Row
from services.dataplane.l4.layout import LAYOUT
from weir.bus.client import Bus
from weir.bus.reader import LogError
from weir.demo.network import undisturbed
from weir.events import StatusPlanned
from weir.pins import Map
from weir.view.processes import running
from weir.where import Where

PORT = 80
_PATIENCE_S = 300
_TICKS = os.sysconf("SC_CLK_TCK")


class Installation:
    """`weir up` in a namespace, from a folder of manifests."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.where = Where(name)
        self.folder = Path("/run") / f"{name}.bench"
        self.process: subprocess.Popen[bytes] | None = None

    def up(self, *options: str) -> None:
        """Starts it; returns at once."""
        command = [sys.executable, "-m", "weir.cli", "up", "-f", str(self.folder / "manifests"), "--interface", "front", *options]
        with (self.folder / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, "WEIR_INSTANCE": self.name},
                stdout=log,
                stderr=log,
            )

    def down(self) -> None:
        """Ends its processes; the kernel keeps what it holds."""
        if self.process:
            self.process.terminate()
            self.process.wait(30)

    def programmed(self, services: int) -> float:
        """Waits until so many Services are told to be served in every respect; the moment of that, monotonic.  Raises TimeoutError."""
        return asyncio.run(asyncio.wait_for(self._programmed(services), _PATIENCE_S))

    def log(self) -> dict[str, int]:
        """The state of the log's stream."""
        return asyncio.run(self._log())

    def map(self, name: str) -> Map:
        """A map of its packet path."""
        return Map.open(self.where.pins / f"v{LAYOUT}" / name)

    async def _programmed(self, services: int) -> float:
        good: dict[str, bool] = {}
        while True:
            try:
                async with await Bus.connect(self.where.nats_url(), "bench") as bus, bus.follow(0, ["status"]) as pull:
                    while True:
                        for entry in await pull.next():
                            if isinstance(told := entry.fact.event, StatusPlanned):
                                good[told.owner] = all(condition.status for condition in told.conditions)
                        if sum(good.values()) == services:
                            return time.monotonic()
            except (LogError, OSError):
                await asyncio.sleep(0.05)  # not up yet

    async def _log(self) -> dict[str, int]:
        async with await Bus.connect(self.where.nats_url(), "bench") as bus:
            return dict((await bus.stream())["state"])

    def write(self, file: str, *objects: dict[str, object]) -> None:
        """Puts a JSON manifest in place; it is there for the watcher when this returns."""
        path = self.folder / "manifests" / file
        temporary = path.with_name(f".{file}.new")
        temporary.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects} if len(objects) > 1 else objects[0]))
        temporary.replace(path)

    def pids(self) -> dict[str, int]:
        """Pids by name."""
        return running(self.where)

    def memory_mb(self) -> dict[str, float]:
        """Resident memory of each process."""
        return {name: rss_kb(pid) / 1024 for name, pid in self.pids().items()}

    def cpu_s(self) -> dict[str, float]:
        """CPU time that each process has used."""
        return {name: cpu_s(pid) for name, pid in self.pids().items()}


@contextmanager
def installation(name: str) -> Iterator[Installation]:
    """An empty one; gone at the end."""
    found = Installation(name)
    _clear(found)
    try:
        (found.folder / "manifests").mkdir(parents=True)
        netns.create(name)
        netns.pushns(name)  # this process, so that it reaches the log; children inherit it
        for words in (
            "link add front type veth peer name far",
            "link set lo up",
            "link set front up",
            "link set far up",
            "addr add 10.0.0.1/8 dev front",
        ):
            subprocess.run(["ip", *words.split()], check=True)
        yield found
    finally:
        with undisturbed():
            found.down()
            netns.popns()
            _clear(found)


def _clear(found: Installation) -> None:
    subprocess.run([sys.executable, "-m", "weir.cli", "down", "--instance", found.name], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", found.name], capture_output=True, check=False)
    for path in (found.where.pins, found.where.state, found.where.run, found.folder):
        shutil.rmtree(path, ignore_errors=True)


def quantiles(what: str, sorted_ms: list[float]) -> tuple[Row, ...]:
    """Rows of what a half, nearly all, and all stay below."""
    shares = (("p50", 0.5), ("p99", 0.99), ("most", 1.0))
    return tuple(
        Row(f"{what} {name}".strip(), (sorted_ms[min(int(len(sorted_ms) * share), len(sorted_ms) - 1)],), note=f"of {len(sorted_ms)}")
        for name, share in shares
    )


def vip(number: int) -> str:
    """The address that Service `number` asks for."""
    return f"100.64.{number >> 8}.{number & 255}"


def service(number: int, namespace: str = "bench", *, asks: bool = True) -> dict[str, object]:
    """A Service; one that does not ask takes any address."""
    spec = {"type": "LoadBalancer", "ports": [{"port": PORT, "targetPort": 8080}]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": f"s{number}"},
        "spec": spec | ({"loadBalancerIP": vip(number)} if asks else {}),
    }


def endpoints(number: int, count: int = 10, last: int = 9, namespace: str = "bench") -> dict[str, object]:
    """Its EndpointSlice: `count` of sixteen addresses of its own, the last of them that of number `last`."""
    first = number * 16
    members = [first + at for at in range(count - 1)] + [first + last]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": namespace, "name": f"s{number}", "labels": {"kubernetes.io/service-name": f"s{number}"}},
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": [f"10.{16 + (at >> 16)}.{at >> 8 & 255}.{at & 255}"]} for at in members],
    }


def pool() -> dict[str, object]:
    """Room for every address that `vip` gives."""
    return {
        "apiVersion": "weir.dev/v1alpha1",
        "kind": "VIPPool",
        "metadata": {"name": "bench"},
        "spec": {"addresses": ["100.64.0.0/16"]},
    }


def rss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS
