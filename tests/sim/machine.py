"""An LB node: a kernel in memory, a disk in memory, and the agent and the prober of the product on them."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.dataplane import edge as agent_edge
from services.dataplane import node as agent_node
from services.dataplane import plan_file
from services.dataplane.announce import announcements
from services.dataplane.core import HEARS as AGENT_HEARS
from services.dataplane.core import INDEXES as AGENT_INDEXES
from services.dataplane.core import without_root
from services.dataplane.edge import Agent
from services.dataplane.l4 import forwarding
from services.dataplane.l4.kernel import MAPS
from services.dataplane.l4.layout import Frontend, FrontendKey
from services.dataplane.plan_file import PlanFile
from services.health import edge as health_edge
from services.health.core import HEARS as HEALTH_HEARS
from services.health.core import INDEXES as HEALTH_INDEXES
from services.health.core import Target
from services.health.edge import Prober
from tests.sim.faulty_log import Life, Log
from tests.unit.test_apply import FakeMap
from weir.bus.identity import Identity
from weir.decider import Fact, Recorder
from weir.events import NodeAddressesObserved
from weir.pins import address_text
from weir.service.runner import Runner
from weir.where import Where

PROBE_EVERY_S = 2.0
OTHERS = ("backend_up", "cluster_seed", "interfaces", "flows", "constants")
Connect = Callable[[str, str], Awaitable[Any]]
MACHINES: dict[str, "Machine"] = {}  # by the name of their installation, as a path to a pin has it


class Pin(FakeMap):
    """A map in memory behind the interface of `weir.pins.Map`."""

    @classmethod
    def open(cls, path: Path) -> "Pin":
        return MACHINES[path.parts[-3]].maps[path.name]

    def __enter__(self) -> "Pin":
        return self

    def __exit__(self, *_: object) -> None: ...


class NoFlows:
    """A flow table without flows."""

    def __init__(self, *_: object) -> None: ...

    def sweep(self, _: int) -> tuple[set[int], int]:
        return set(), 0


class Disk:
    """Holds the plan file of each machine, behind what `services.dataplane.plan_file` reads and writes."""

    @staticmethod
    def read(path: Path) -> PlanFile | None:
        return MACHINES[path.parts[-2]].disk

    @staticmethod
    def place_of(path: Path) -> tuple[int, Identity]:
        saved = MACHINES[path.parts[-2]].disk
        return (saved.position, saved.log) if saved else (0, Identity())

    @staticmethod
    def write(saved: PlanFile, path: Path) -> None:
        MACHINES[path.parts[-2]].disk = saved

    @staticmethod
    def append(path: Path, _: int, facts: Iterable[Fact]) -> None:
        saved = MACHINES[path.parts[-2]].disk
        assert saved
        more = [fact[:2] for fact in facts]
        MACHINES[path.parts[-2]].disk = PlanFile(max([saved.position, *(seq for seq, _ in more)]), [*saved.facts, *more], saved.log)


class Machine:
    """alive: the targets that answer, as this machine finds them."""

    def __init__(self, log: Log, name: str, addresses: tuple[str, ...], dead: Collection[Target]) -> None:
        self.log, self.name, self.addresses, self.dead = log, name, addresses, dead
        self.instance = f"sim-{name}"
        self.disk: PlanFile | None = None
        self.boots = 0
        self.agent: Agent | None = None
        self.prober: Prober | None = None
        self.boot()
        MACHINES[self.instance] = self

    def boot(self) -> None:
        """The kernel of a machine that just started is empty."""
        journal: list[tuple[str, str]] = []
        self.maps = {name: Pin(name, journal, 128) for name in (*MAPS, *OTHERS)}
        self.boots += 1

    def trouble(self, dice: random.Random) -> None:
        """From now on one write of the agent in twenty fails."""
        for name in MAPS:
            self.maps[name].fails = iter(lambda: dice.random() < 0.05, None)

    def heal(self) -> None:
        for each in self.maps.values():
            each.fails = iter(())

    # ── its processes ──────────────────────────────────────────────────────────────────────────────────────────────

    def start_agent(self, _: Life, connect: Connect) -> tuple[Runner, list[Any]]:
        where = Where(self.instance)
        agent = self.agent = Agent(where, self.name, "tc", ["eth0"])
        runner = Runner(
            "dataplane",
            Recorder(AGENT_INDEXES),
            AGENT_HEARS,
            where,
            node=self.name,
            opened=agent.opened,
            heard=agent.heard,
            keeps=without_root,
            connect=connect,
        )
        agent.start()
        edges = [agent.acknowledge, agent.save, agent.try_again, agent.l4.sweep, lambda runner: runner.beat()]
        return runner, [*edges, agent.give_up] if self.log.restored else edges

    def start_prober(self, life: Life, connect: Connect) -> tuple[Runner, list[Any]]:
        prober = self.prober = Prober(self.maps["backend_up"], self.name)  # type: ignore[arg-type]
        runner = Runner(
            "health", Recorder(HEALTH_INDEXES), HEALTH_HEARS, Where(self.instance), node=self.name, heard=prober.heard, connect=connect
        )

        async def probe(_: Runner) -> None:
            while True:
                await asyncio.sleep(PROBE_EVERY_S)
                for target, watch in list(prober.rounds.watches.items()) if _now() >= life.frozen_until_s else ():
                    if _now() * 1000 >= watch.streak.free_ms:
                        prober._judged(watch, "refused" if target in self.dead else "")

        return runner, [probe, prober.record]

    def probed(self) -> list[Target]:
        """What its prober asks now."""
        return list(self.prober.rounds.watches) if self.prober else []

    # ── what its kernel does ───────────────────────────────────────────────────────────────────────────────────────

    def vips(self) -> set[str]:
        """The VIPs that it answers for."""
        return {address_text(key) for key in self.maps["vips"].held}

    def frontends(self) -> dict[FrontendKey, Frontend]:
        """What it forwards, by VIP, port and protocol."""
        return {FrontendKey.unpack(key): Frontend.unpack(value) for key, value in self.maps["frontends"].held.items()}

    def serves(self, vip: str) -> bool:
        """Whether it answers or forwards for a VIP."""
        return vip in self.vips() or any(where.vip == vip for where in self.frontends())


def _now() -> float:
    return asyncio.get_running_loop().time()


def isolate(patch: pytest.MonkeyPatch) -> None:
    """Put the machine's own clock, kernel, wire and disk behind what is in this module."""
    clock = SimpleNamespace(monotonic=_now, perf_counter=_now, clock_gettime_ns=lambda _: int(_now() * 1e9), CLOCK_MONOTONIC=1)
    for module in (agent_edge, forwarding, agent_node):
        patch.setattr(module, "time", clock)
        patch.setattr(module, "Map", Pin)
    patch.setattr(forwarding, "FlowTable", NoFlows)
    for name in ("read", "place_of", "write"):
        patch.setattr(PlanFile, name, getattr(Disk, name))
    patch.setattr(plan_file, "_append", Disk.append)
    patch.setattr(announcements, "Announcer", lambda: SimpleNamespace(announce=lambda _, interfaces: tuple(interfaces)))
    patch.setattr(agent_node, "own_addresses", _own_addresses)
    patch.setattr(health_edge, "now_ms", lambda: int(_now() * 1000))
    patch.setattr("services.health.rounds.now_ms", lambda: int(_now() * 1000))


def _own_addresses(name: str) -> NodeAddressesObserved:
    return NodeAddressesObserved(node=name, addresses=MACHINES[f"sim-{name}"].addresses)
