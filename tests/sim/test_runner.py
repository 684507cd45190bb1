"""The runner against a log that fails at every point: many seeds, a virtual clock, an independent model of the log (`log_model.py`).

A fault may come before an append is stored, after it (the answer is lost), or the append may land late, when everybody has
gone on.  Several lives of one author run at once, as an active and a standby do.  Whatever happens, each Service ends with
exactly one number, no number ever belongs to two, and a replay of the log gives the world that every life holds.
"""

import asyncio
import contextlib
import random
import selectors
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import pytest

from tests.sim.log_model import LogModel
from weir.bus.client import Expected, epoch_key
from weir.bus.identity import Identity
from weir.bus.reader import Entry, LogUnreachable, Refused
from weir.decider import Change, Decided, World, one_by_one
from weir.events import AnyEvent, EpochStarted, ServiceGone, ServiceObserved, VipAllocated, VipFreed, key_of
from weir.model import Root
from weir.service.runner import Runner, Where

Append = tuple[str, Sequence[Decided], int, Sequence[Expected]]
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


class Log(LogModel):
    """The model, and faults drawn from a seeded stream."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self.dice = dice
        self.grown = asyncio.Event()
        self.faulty = True
        self.late: list[Append] = []

    def store(self, author: str, decided: Sequence[Decided], last: int, expected: Sequence[Expected]) -> int:
        first = super().store(author, decided, last, expected)
        self.grown.set()
        self.grown = asyncio.Event()
        return first

    def observe(self, event: AnyEvent) -> None:
        """A watcher that has no faults."""
        last = self.last("watcher.>")
        self.store("watcher", [Decided(event, 0)], last, [Expected("watcher.>", last)])

    def land_late(self) -> None:
        if self.late and self.dice.random() < 0.3:
            with contextlib.suppress(Refused):
                self.store(*self.late.pop(self.dice.randrange(len(self.late))))


class Connection:
    """What a runner sees of the log: the interface of `Bus`, with faults."""

    def __init__(self, log: Log) -> None:
        self.log = log

    async def __aenter__(self) -> "Connection":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def close(self) -> None: ...

    async def identity(self) -> Identity:
        return Identity()

    async def last(self, author: str) -> int:
        await self._risk(0.05)
        return self.log.last(f"{author}.>")

    async def epoch(self, author: str) -> int:
        await self._risk(0.05)
        return self.log.last(epoch_key(author))

    async def stream(self) -> dict[str, Any]:
        await self._risk(0.05)
        return {"config": {"max_age": self.log.age_s * 1_000_000_000}}

    async def append(self, author: str, decided: Sequence[Decided], last: int, expected: Sequence[Expected]) -> int:
        await asyncio.sleep(self.log.dice.random() / 100)
        self.log.land_late()
        fate = self.log.dice.random() if self.log.faulty else 1
        if fate < 0.1:
            raise LogUnreachable("lost before it was stored")
        if fate < 0.2:
            self.log.late.append((author, decided, last, expected))
            raise LogUnreachable("no answer, and it lands later")
        first = self.log.store(author, decided, last, expected)
        if fate < 0.35:
            raise LogUnreachable("stored, but the answer is lost")
        return first

    def state(self, kinds: Sequence[str]) -> "State":
        return State(self, kinds)

    def follow(self, position: int, kinds: Sequence[str]) -> "Reader":
        return Reader(self, position, kinds)

    async def _risk(self, chance: float) -> None:
        await asyncio.sleep(self.log.dice.random() / 100)
        if self.log.faulty and self.log.dice.random() < chance:
            raise LogUnreachable("away")


class State:
    """A snapshot, and the mirror behind it."""

    def __init__(self, connection: Connection, kinds: Sequence[str]) -> None:
        self.connection, self.log, self.kinds = connection, connection.log, kinds
        self.position = 0

    async def __aiter__(self) -> Any:
        await self.connection._risk(0.05)
        behind = self.log.dice.randrange(len(self.log.entries) + 1)  # the mirror may be far behind
        self.position = self.log.dice.randrange(behind + 1)
        for start in (self._latest(0, self.position, gone=False), self._latest(self.position, behind, gone=True)):
            for at in range(0, len(start), 3):
                yield start[at : at + 3]
        self.position = behind

    def _latest(self, first: int, end: int, *, gone: bool) -> list[Entry]:
        last = {entry.key: entry for entry in self.log.entries[first:end] if entry.fact.event.kind in self.kinds}
        found = sorted(last.values(), key=lambda entry: entry.fact.seq)
        return [entry for entry in found if gone or not entry.fact.event.gone]


class Reader:
    """Delivers in log order, in lists of any length, until it is lost."""

    def __init__(self, connection: Connection, position: int, kinds: Sequence[str]) -> None:
        self.connection, self.log, self.position, self.kinds = connection, connection.log, position, kinds

    async def __aenter__(self) -> "Reader":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    @property
    def pending(self) -> int:
        return len(self._waiting())

    async def next(self) -> list[Entry]:
        while not self._waiting():
            await self.log.grown.wait()
        await self.connection._risk(0.03)
        entries = self._waiting()[: self.log.dice.randint(1, 4)]
        self.position = entries[-1].fact.seq
        return entries

    def _waiting(self) -> list[Entry]:
        return [entry for entry in self.log.entries[self.position :] if entry.fact.event.kind in self.kinds]


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer: no seed waits for anything."""

    def __init__(self) -> None:
        super().__init__(_Selector(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everybody waits for ever"
        self._loop.now += timeout
        return super().select(0)


def service(name: str) -> ServiceObserved:
    return ServiceObserved(root=Root(kind="Service", name=name), exposed=True)


async def scenario(seed: int) -> tuple[Log, list[Runner]]:
    dice = random.Random(seed)
    log = Log(dice)

    async def connect(_: str, __: str) -> Any:
        if log.faulty and dice.random() < 0.1:
            raise LogUnreachable("refused")
        return Connection(log)

    def life() -> Runner:
        return Runner("ipam", Numbers(), (ServiceObserved, VipAllocated), Where(f"weir-sim-{seed}"), connect=connect)

    runners = [life(), life()]
    tasks = [asyncio.create_task(runner.run()) for runner in runners]
    for _ in range(40):
        await asyncio.sleep(dice.random() / 10)
        root = Root(kind="Service", name=dice.choice(SERVICES))
        event: AnyEvent = ServiceObserved(root=root, exposed=True) if dice.random() < 0.7 else ServiceGone(root=root)
        log.observe(event)
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
    """The services' own word on how they are is of no interest here."""
    monkeypatch.setattr(Runner, "_tell", lambda *_: None)
    monkeypatch.setattr("weir.service.runner.log.warning", lambda *_, **__: None, raising=False)
    monkeypatch.setattr("weir.service.runner.log.info", lambda *_, **__: None, raising=False)


@pytest.mark.parametrize("first", SEEDS[::25])
def test_every_service_ends_with_one_number_whatever_fails(first: int) -> None:
    for seed in range(first, first + 25):
        loop = VirtualLoop()
        try:
            log, runners = loop.run_until_complete(scenario(seed))
        finally:
            loop.close()
        _check(seed, log, runners)


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
