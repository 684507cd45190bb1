"""The runner against a log that fails at every point: many seeds, a virtual clock, an independent model of the log.

Several lives of one author run at once, as an active and a standby do.  Whatever happens, each Service ends with exactly one
number, no number ever belongs to two, and a replay of the log gives the world that every life holds.
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import pytest

from tests.sim.faulty_log import Connection, Life, Log
from tests.sim.virtual_time import run
from weir.bus.lease import Lease
from weir.bus.reader import LogUnreachable
from weir.decider import Change, Decided, World, one_by_one
from weir.events import AnyEvent, EpochStarted, ServiceGone, ServiceObserved, VipAllocated, VipFreed, key_of
from weir.model import Root
from weir.service.report import Report
from weir.service.runner import Runner
from weir.where import Where

SEEDS = range(150)
SERVICES = [f"s{number}" for number in range(6)]


class Numbers:
    """A core small enough to see through: each Service gets the least free number, and gives it back when it goes."""

    indexes: ClassVar[Any] = {"holder": lambda event: event.holders if isinstance(event, VipAllocated) else ()}

    def decide(self, world: World, changes: Sequence[Change]) -> Iterable[Decided]:
        return one_by_one(world, changes, self._on)

    def _on(self, world: World, change: Change) -> Iterable[AnyEvent]:
        event = change.fact.event
        return self._settle(world, event.root.name) if isinstance(event, ServiceObserved | ServiceGone) else ()

    def reconcile(self, world: World) -> Iterable[Decided]:
        events: list[AnyEvent] = []
        for name in SERVICES:
            taken = {event.vip for event in events if isinstance(event, VipAllocated)}
            events += self._settle(world, name, taken)
        return [Decided(event, 0) for event in events]

    def _settle(self, world: World, name: str, taken: set[str] = frozenset()) -> Iterable[AnyEvent]:  # type: ignore[assignment]
        exposed = world.get(key_of(service(name)))
        held = world.find("holder", name, VipAllocated)
        if exposed and not held:
            used = taken | {vip.vip for vip in world.of(VipAllocated)}
            number = next(str(n) for n in range(100) if str(n) not in used)
            return (VipAllocated(vip=number, pool="", holders=(name,), root=Root(kind="Service", name=name)),)
        if held and not exposed:
            return tuple(VipFreed(vip=vip.vip, pool="", holders=(name,), root=vip.root) for vip in held)
        return ()


def service(name: str) -> ServiceObserved:
    return ServiceObserved(root=Root(kind="Service", name=name), exposed=True)


async def scenario(seed: int) -> tuple[Log, list[Runner]]:
    dice = random.Random(seed)
    log = Log(dice, rate=3)

    async def connect(_: str, __: str) -> Any:
        if log.fails("connection refused", 0.03):
            raise LogUnreachable("refused")
        return Connection(log, Life())

    def life() -> Runner:
        return Runner("ipam", Numbers(), (ServiceObserved, VipAllocated), Where(f"weir-sim-{seed}"), connect=connect)

    runners = [life(), life()]
    tasks = [asyncio.create_task(runner.run()) for runner in runners]
    for _ in range(40):
        await asyncio.sleep(dice.random() / 10)
        root = Root(kind="Service", name=dice.choice(SERVICES))
        event: AnyEvent = ServiceObserved(root=root, exposed=True) if dice.random() < 0.7 else ServiceGone(root=root)
        log.observe("watcher", event)
        if dice.random() < 0.15:  # SIGKILL and a new life, at any await
            index = dice.randrange(len(runners))
            tasks[index].cancel()
            runners[index] = life()
            tasks[index] = asyncio.create_task(runners[index].run())
    log.faulty = False
    await asyncio.sleep(60)
    for task in tasks:
        task.cancel()
    return log, runners


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no reports and no logs."""
    monkeypatch.setattr(Report, "set", lambda *_: None)
    monkeypatch.setattr("weir.service.runner.log.warning", lambda *_, **__: None, raising=False)
    monkeypatch.setattr("weir.service.runner.log.info", lambda *_, **__: None, raising=False)


@pytest.mark.parametrize("first", SEEDS[::25])
def test_every_service_ends_with_one_number_whatever_fails(first: int) -> None:
    for seed in range(first, first + 25):
        _check(seed, *run(scenario(seed)))


def test_a_replica_takes_over_where_the_newest_snapshot_leaves_out_its_authors_last_event() -> None:
    async def scenario() -> list[AnyEvent]:
        log, root = Log(random.Random(0), rate=0), Root(kind="Service", name="s0")
        log.observe("ipam", VipAllocated(vip="0", pool="", holders=("s0",), root=root))
        log.observe("ipam", VipFreed(vip="0", pool="", holders=("s0",), root=root))  # gone, so no snapshot has it
        log.snapshot = len(log.entries)

        async def connect(_: str, __: str) -> Any:
            return Connection(log, Life())

        replica = Runner("ipam", Numbers(), (ServiceObserved, VipAllocated), Where("weir-sim"), connect=connect, lease=Lease("ipam"))
        task = asyncio.create_task(replica.run())
        log.observe("watcher", service("s1"))
        await asyncio.sleep(60)
        task.cancel()
        return [entry.fact.event for entry in log.entries[2:]]

    assert isinstance(run(scenario())[-1], VipAllocated), "no replica acts"


def _check(seed: int, log: Log, runners: list[Runner]) -> None:
    world, holders = World(Numbers.indexes), {}
    for entry in log.entries:
        match entry.fact.event:
            case VipAllocated(vip=vip, holders=(name,)):
                assert holders.get(vip, name) == name, f"seed {seed}: {vip} belongs to {holders[vip]} and is given to {name}"
                holders[vip] = name
            case VipFreed(vip=vip):
                holders.pop(vip, None)
        world.evolve(entry.fact)
    exposed = {observed.root.name for observed in world.of(ServiceObserved)}
    assert sorted(holders.values()) == sorted(exposed), f"seed {seed}: {holders} for {exposed}"
    assert not list(Numbers().reconcile(world)), f"seed {seed}: something is still owed"
    last = {entry.key: entry.fact for entry in log.entries}
    kept = {key: fact for key, fact in last.items() if not fact.event.gone}
    assert world.facts == kept, f"seed {seed}: last per entity and full fold differ"
    heard = {key: fact for key, fact in kept.items() if not isinstance(fact.event, EpochStarted)}
    for runner in runners:
        assert runner.world.facts == heard, f"seed {seed}: a life holds another world than the log"
