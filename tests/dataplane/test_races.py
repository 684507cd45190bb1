"""Several CPUs at one flow table.  WEIR_RACES sets how many packets each thread sends in each race."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.dataplane.l4.conntrack import FlowTable, Parted
from services.dataplane.l4.layout import MODES
from tests.dataplane.frames import Packet
from tests.dataplane.lab import Lab
from tests.dataplane.race import THREADS, Driver, Order, driver, shared_ends

PACKETS = int(os.environ.get("WEIR_RACES", "12000"))
SEED = int(os.environ.get("WEIR_SEED", "20261130"))
KINDS = [("tc", "v4", "TCP"), ("xdp", "v6", "TCP"), ("tc", "v6", "UDP"), ("xdp", "v4", "UDP")]


class World:
    """Two VIPs of some common backends, four clients."""

    def __init__(self, lab: Lab, family: str, proto: str) -> None:
        v4 = family == "v4"
        self.lab, self.proto = lab, proto
        self.vips = ["198.51.100.1", "198.51.100.2"] if v4 else ["fd03::1", "fd03::2"]
        self.backends = [f"10.1.0.1{i}" if v4 else f"fd01::1{i}" for i in range(1, 7)]
        sources = [f"192.0.2.{i}" if v4 else f"fd02::{i}" for i in range(1, 5)]
        self.clients = [Packet(src=source, dst=vip, proto=proto) for source in sources for vip in self.vips]

    def serve(self, mode: str = "default", backends: int = 2) -> list[str]:
        self.lab.clear()
        for number, vip in enumerate(self.vips, 1):
            self.lab.serve(vip, self.backends[:backends], protocol=self.proto, frontend=number, mode=MODES.index(mode))
        return self.backends[:backends]

    def race(self, loaded: Driver, order: Order, packets: int, seed: int, meanwhile: Callable[[], None] | None = None) -> Counter[str]:
        """What came of it, and the verdicts; the table and every packet that left are checked."""
        before = self.lab.verdicts()
        outcome = loaded.race(order, packets, seed, meanwhile)
        after = self.lab.verdicts()
        verdicts = Counter({name: after[name] - before[name] for name in after if after[name] != before[name]})
        assert outcome["sent"] == packets * THREADS == sum(verdicts.values())
        assert (outcome["left"], outcome["replied"]) == (verdicts["forwarded"], verdicts["replied"])
        assert not outcome["bad_sum"] + outcome["illegal"], "half of one flow's rewrite and half of another's"
        assert self.lab.faults() == []
        assert shared_ends(self.lab) == []
        return outcome + verdicts


@pytest.fixture(params=KINDS, ids="-".join)
def kind(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    hook, family, proto = request.param
    return hook, family, proto


@pytest.fixture
def raced(labs: dict[str, Lab], kind: tuple[str, str, str], tmp_path: Path) -> Iterator[tuple[Driver, World]]:
    hook, family, proto = kind
    with driver(labs[hook], family, proto, tmp_path) as loaded:
        yield loaded, World(labs[hook], family, proto)


@pytest.fixture
def small(labs: dict[str, Lab], kind: tuple[str, str, str], tmp_path: Path) -> Iterator[tuple[Driver, World]]:
    hook, family, proto = kind
    lab = Lab(hook, 512, "small")
    try:
        with driver(lab, family, proto, tmp_path) as loaded:
            yield loaded, World(lab, family, proto)
    finally:
        lab.close()


ROUND = 6000  # packets of a thread


@pytest.mark.parametrize("mode", ["default", "fullnat"])
def test_same_flow_starts_on_several_cpus(raced: tuple[Driver, World], mode: str) -> None:
    loaded, world = raced
    total: Counter[str] = Counter()
    for turn in range(max(1, PACKETS // ROUND)):
        order = Order(clients=world.clients, backends=world.serve(mode), shift=3, replies=32, syns=128, source_kept=mode == "default")
        total += world.race(loaded, order, ROUND, SEED + turn)
    assert not total["misdirected"], "a packet of one client reached another's connection"
    assert total["forwarded"] + total["replied"] > 0.99 * PACKETS // ROUND * ROUND * THREADS, total


def test_small_table_under_every_event(small: tuple[Driver, World]) -> None:
    """2,400 flows in 512 slots, which open, close, reset and answer, and an agent that ends, marks and sweeps them."""
    loaded, world = small
    table = FlowTable(world.lab.map("flows"), world.lab.map("constants"))
    pairs = [{(1, 1), (2, 2)}, {(1, 2), (2, 1)}]

    def agent() -> None:
        pairs.append(pairs.pop(0))
        table.cut(pairs[0])
        table.part(Parted(left=pairs[1], leaving=pairs[0], frontends=set()))
        table.sweep(time.clock_gettime_ns(time.CLOCK_MONOTONIC))

    for mode in ("default", "fullnat"):
        kept, backends = mode == "default", world.serve(mode)
        order = Order(clients=world.clients, backends=backends, ports=300, replies=96, syns=96, fins=32, resets=16, source_kept=kept)
        total = world.race(loaded, order, PACKETS, SEED, agent)
        print(dict(total))
        assert min(total["forwarded"], total["replied"]) > PACKETS // 2, total


def test_few_free_ports(raced: tuple[Driver, World]) -> None:
    """Two VIPs of one backend, dialled from the same port: one flow of each pair keeps it, the other takes another."""
    loaded, world = raced
    total: Counter[str] = Counter()
    for turn in range(max(1, PACKETS // ROUND)):
        order = Order(clients=world.clients, backends=world.serve(backends=1), shift=1, ports=250, replies=64, syns=64)
        total += world.race(loaded, order, ROUND, SEED + turn)
    assert not total["misdirected"]
    assert total["forwarded"] + total["replied"] > 0.99 * PACKETS // ROUND * ROUND * THREADS, total
