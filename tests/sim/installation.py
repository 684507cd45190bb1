"""All services of one installation on one log: the real cores in the real runner, under a supervisor that starts them again."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from services.ipam.core import SUBSCRIBES as IPAM_SUBSCRIBES
from services.ipam.core import Ipam
from services.planner.core import Planner
from services.watcher.core import HEARS as WATCHER_HEARS
from services.watcher.core import Watcher
from services.watcher.edge import follow, nobody
from services.watcher.presence import Presence
from services.watcher.settings import DEFAULT
from tests.sim import machine
from tests.sim.cluster_state import ClusterState
from tests.sim.faulty_log import Connection, Life, Log
from tests.sim.machine import MACHINES, Connect, Machine
from weir.bus import lease
from weir.bus.lease import Lease
from weir.bus.reader import LogUnreachable
from weir.events import VipAllocated, VipReleased
from weir.service import report
from weir.service.runner import Runner
from weir.where import Where

REPLICAS = 2
Make = Callable[[Life, Connect], tuple[Runner, list[Any]]]


class Process:
    """A service under its supervisor: one life after another."""

    def __init__(self, log: Log, make: Make, broken: list[BaseException]) -> None:
        self._log, self._make, self._broken = log, make, broken
        self._tasks: list[asyncio.Task[None]] = []
        self.life = Life()
        self.runner: Runner | None = None
        self.start()

    def start(self) -> None:
        life = self.life = Life()
        life.lag_s = self._log.dice.choice((0.001, 0.02, 0.3))
        life.kill = self.kill

        async def connect(_: str, __: str) -> Any:
            await life.go_on()
            if self._log.fails("connection refused", 0.05):
                raise LogUnreachable("refused")
            return Connection(self._log, life)

        self.runner, edges = self._make(life, connect)
        running: list[Awaitable[None]] = [self.runner.run(), *(edge(self.runner) for edge in edges)]
        self._tasks = [asyncio.ensure_future(each) for each in running]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def kill(self, *, again: bool = True) -> None:
        """SIGKILL; it starts again after a while."""
        self.runner = None
        for task in self._tasks:
            task.cancel()
        self.life.dead = True
        self.life = Life(dead=True)  # none until it starts again
        if again:
            asyncio.get_running_loop().call_later(self._log.dice.random() * 2, self._start_again, self.life)

    def _start_again(self, life: Life) -> None:
        if self.life is life:
            self.start()

    def freeze(self, seconds: float) -> None:
        """It neither reads, writes nor ends for so long."""
        self.life.frozen_until_s = asyncio.get_running_loop().time() + seconds

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) and not self.life.dead:
            self._broken.append(error)


class Installation:
    """machines: those that run; dead: targets that do not answer probes."""

    def __init__(self, dice: random.Random) -> None:
        self.dice, self.log = dice, Log(dice)
        self.cluster = ClusterState(self.log, dice.choice(("", "@c")))
        self.broken: list[BaseException] = []
        self.dead: set[Any] = set()
        self.machines: dict[str, Machine] = {}
        self.agents: dict[str, Process] = {}
        self.probers: dict[str, Process] = {}
        self.replicas = {name: [self._process(make) for _ in range(REPLICAS)] for name, make in self._makers().items()}
        MACHINES.clear()

    def _makers(self) -> dict[str, Make]:
        return {
            "watcher": self._watcher,
            "ipam": partial(_core, "ipam", Ipam, IPAM_SUBSCRIBES),
            "planner": partial(_core, "planner", Planner, Planner().subscribes),
        }

    def _process(self, make: Make) -> Process:
        return Process(self.log, make, self.broken)

    def _watcher(self, life: Life, connect: Connect) -> tuple[Runner, list[Any]]:
        cluster = self.cluster
        core, presence = Watcher(DEFAULT, [cluster.scope], lambda: cluster.scope.lstrip("@")), Presence(nobody)
        kinds = (*WATCHER_HEARS, VipAllocated, VipReleased) if cluster.scope else WATCHER_HEARS
        runner = Runner("watcher", core, kinds, Where("sim"), connect=connect, lease=Lease("watcher"), listens=presence.beat)

        class Source:
            def __aiter__(self) -> Any:
                return cluster.seen_by(life)

        return runner, [presence.run, partial(follow, Source(), core.inventory, nobody)]

    # ── machines ───────────────────────────────────────────────────────────────────────────────────────────────────

    def join(self, name: str) -> None:
        """A machine begins to forward."""
        here = self.machines[name] = Machine(self.log, name, (f"192.0.2.{int(name[1:])}",), self.dead)
        self.agents[name], self.probers[name] = self._process(here.start_agent), self._process(here.start_prober)

    def vanish(self, name: str) -> None:
        """It loses power for good."""
        for process in (self.agents.pop(name), self.probers.pop(name)):
            process.kill(again=False)
        del self.machines[name]

    def reboot(self, name: str) -> None:
        """It comes back with an empty kernel and the plan on its disk."""
        self.machines[name].boot()
        for process in (self.agents[name], self.probers[name]):
            process.kill(again=False)
            process.start()

    def processes(self) -> list[Process]:
        return [*(each for some in self.replicas.values() for each in some), *self.agents.values(), *self.probers.values()]

    def acting(self, name: str) -> Runner | None:
        """The replica that is the leader now."""
        runners = [each.runner for each in self.replicas[name] if each.runner]
        return next((runner for runner in runners if runner.following), None)

    def stop(self) -> None:
        for process in self.processes():
            process.kill(again=False)


def _core(name: str, core: Any, kinds: Any, _: Life, connect: Connect) -> tuple[Runner, list[Any]]:
    return Runner(name, core(), kinds, Where("sim"), connect=connect, lease=Lease(name)), []


class _Silent:
    def __getattr__(self, _: str) -> Callable[..., None]:
        return _nothing


def _nothing(*_: object, **__: object) -> None: ...


async def _at_once(function: Callable[..., Any], *given: Any) -> Any:
    return function(*given)


def isolate(patch: pytest.MonkeyPatch) -> None:
    """No file, no thread, no log line; signs of life and leases at a pace that costs little."""
    machine.isolate(patch)
    for module in (
        "weir.service.runner",
        "weir.service.leadership",
        "weir.service.journal",
        "services.dataplane.edge",
        "services.dataplane.health_ports",
        "services.dataplane.l4.forwarding",
        "services.dataplane.node",
        "services.health.edge",
    ):
        patch.setattr(f"{module}.log", _Silent())
    patch.setattr(asyncio, "to_thread", _at_once)
    patch.setattr(report.Report, "write", _nothing)
    patch.setattr(report, "BEAT_S", 5.0)
    patch.setattr(lease, "RENEW_S", 5.0)
