"""The log as processes see it: `LogModel` behind the interface of `weir.bus.client.Bus`, with faults drawn from seeded dice.

A fault may come before an append is stored, after it (the answer is lost), or the append may land late, when everybody has gone on,
or twice.  Whoever appends may be killed right before or right after.  Each reader is late on its own.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.sim.log_model import LogModel
from weir.bus.identity import Identity
from weir.bus.reader import Entry, LogUnreachable, Refused
from weir.bus.subjects import Expected, epoch_key, subtree
from weir.decider import Decided
from weir.events import AnyEvent

LEASE_S = 16.0
SNAPSHOTS = 0.1  # of the starts, before which one was taken


class Life:
    """One process from its start until it is killed; its connections end with it, and stand still while it is frozen."""

    def __init__(self, *, dead: bool = False) -> None:
        self.dead = dead
        self.frozen_until_s = 0.0
        self.lag_s = 0.01  # how late its readers are at most
        self.kill: Callable[[], None] | None = None

    async def go_on(self) -> None:
        """Returns while the process runs; never, once it is killed."""
        loop = asyncio.get_running_loop()
        while loop.time() < self.frozen_until_s:
            await asyncio.sleep(self.frozen_until_s - loop.time())
        if self.dead:
            raise LogUnreachable("this process is dead")


class Append(NamedTuple):
    """One append on its way.  known: up to which sequence its author had read the log."""

    author: str
    decided: Sequence[Decided]
    last: int
    expected: Sequence[Expected]
    known: int
    life: Life


class Log(LogModel):
    """observers: called with what an append stored.   rate: how much more often than usual a fault happens."""

    def __init__(self, dice: random.Random, rate: float = 1.0) -> None:
        super().__init__()
        self.dice, self.faulty, self._rate = dice, True, rate
        self.identity = Identity("sim")
        self.snapshot = 0  # the sequence of the newest
        self.restored = False  # it is, or will be, replaced by an older copy
        self.late: list[Append] = []
        self.leases: dict[str, tuple[bytes, int, float]] = {}  # value, revision, when it vanishes
        self.observers: list[Callable[[list[Entry], Append], None]] = []
        self.connections: list[Connection] = []
        self.faults: dict[str, int] = {}  # name -> how often
        self.ends = [0]  # the last sequence of each append: all of it is stored, or nothing
        self._ids: set[tuple[str, int]] = set()  # author and last: the server stores no message twice

    def land(self, append: Append) -> int:
        """Raises Refused."""
        fence = append.author, append.last
        if fence in self._ids:
            self._count("stored already")
            raise Refused(10201, "an append with this fence is in the log already")
        try:
            first = self.store(append.author, append.decided, append.last, append.expected)
        except Refused:
            self._count("refused by the fence")
            raise
        self._ids.add(fence)
        self.ends.append(len(self.entries))
        fresh = self.entries[first - 1 :]
        for connection in self.connections:
            connection.deliver(fresh)
        for observe in self.observers:
            observe(fresh, append)
        return first

    def observe(self, author: str, event: AnyEvent) -> None:
        """Append `event` of somebody without faults."""
        last = self.last(subtree(author, 0).key)
        self.land(Append(author, [Decided(event, 0)], last, [subtree(author, last)], len(self.entries), Life()))

    def land_late(self, chance: float = 0.3) -> None:
        """One of the late appends may arrive."""
        if self.late and self.dice.random() < chance:
            with contextlib.suppress(Refused):
                self.land(self.late.pop(self.dice.randrange(len(self.late))))

    def expire(self) -> None:
        super().expire()
        self._ids.clear()
        self.late.clear()

    def restore(self, length: int) -> None:
        """An older copy takes the place of the log, and goes on by itself.  length: one of `ends`."""
        self.cut(length)
        self.snapshot = min(self.snapshot, length)
        self.ends = [end for end in self.ends if end <= length]
        self._ids.clear()
        self.late.clear()
        self.identity = self.identity.branched(f"b{len(self.identity.branches)}", length)
        self.away()

    def away(self) -> None:
        """The server restarts: every connection ends."""
        for connection in list(self.connections):
            connection.end()

    def fails(self, what: str, chance: float) -> bool:
        """Whether a fault happens now."""
        happens = self.faulty and self.dice.random() < chance * self._rate
        if happens:
            self._count(what)
        return happens

    def _count(self, what: str) -> None:
        self.faults[what] = self.faults.get(what, 0) + 1


class Connection:
    """The interface of `Bus`."""

    def __init__(self, log: Log, life: Life) -> None:
        self.log, self.life = log, life
        self.closed = False
        self.position = 0  # up to which the process has read
        self._readers: list[Reader] = []
        self._listens: Callable[[str, bytes], None] | None = None
        log.connections.append(self)

    async def __aenter__(self) -> "Connection":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end()

    async def close(self) -> None:
        self.end()

    def end(self) -> None:
        if not self.closed:
            self.closed = True
            self.log.connections.remove(self)
            for reader in self._readers:
                reader.grown.set()

    def deliver(self, entries: Sequence[Entry]) -> None:
        for reader in self._readers:
            reader.deliver(entries)

    async def passes(self, chance: float = 0.02, late_s: float = 0.01) -> None:
        """The way to the server and back."""
        if self.log.faulty:
            await asyncio.sleep(self.log.dice.random() * late_s)
        await self.life.go_on()
        await self._may_be_killed("killed", 0.001)
        if self.closed or self.log.fails("unreachable", chance):
            raise LogUnreachable("away")

    async def identity(self) -> Identity:
        return self.log.identity

    async def last(self, author: str) -> int:
        await self.passes()
        return self.log.last(subtree(author, 0).key)

    async def epoch(self, author: str) -> int:
        await self.passes()
        return self.log.last(epoch_key(author))

    async def stream(self) -> dict[str, Any]:
        await self.passes()
        return {"config": {"max_age": self.log.age_s * 1_000_000_000}}

    async def append(self, author: str, decided: Sequence[Decided], last: int, expected: Sequence[Expected]) -> int:
        log, append = self.log, Append(author, tuple(decided), last, tuple(expected), self.position, self.life)
        await self.passes(0)
        log.land_late()
        await self._may_be_killed("killed before an append", 0.005)
        if log.fails("append lost", 0.03):
            raise LogUnreachable("lost before it was stored")
        if log.fails("append late", 0.03):
            log.late.append(append)
            raise LogUnreachable("no answer, and it lands later")
        first = log.land(append)
        if log.fails("append twice", 0.03):
            log.late.append(append)
        await self._may_be_killed("killed after an append", 0.005)
        if log.fails("answer lost", 0.03):
            raise LogUnreachable("stored, but the answer is lost")
        return first

    async def _may_be_killed(self, where: str, chance: float) -> None:
        if self.life.kill and self.log.fails(where, chance):
            self.life.kill()
            await asyncio.Event().wait()

    def state(self, kinds: Sequence[str]) -> "State":
        return State(self, kinds)

    def follow(self, position: int, kinds: Sequence[str]) -> "Reader":
        self._readers.append(Reader(self, position, kinds))
        return self._readers[-1]

    # ── leases, and signs of life ──────────────────────────────────────────────────────────────────────────────────

    async def value(self, _: str, name: str) -> tuple[bytes, int]:
        await self.life.go_on()
        if self.closed or self.log.fails("unreachable", 0.01):
            raise LogUnreachable("away")
        value, revision, until_s = self.log.leases.get(name, (b"", 0, 0.0))
        return (value, revision) if asyncio.get_running_loop().time() < until_s else (b"", 0)

    async def put(self, bucket: str, name: str, value: bytes, revision: int) -> None:
        if (await self.value(bucket, name))[1] != revision:
            raise Refused(10071, "wrong last sequence")
        number = self.log.leases.get(name, (b"", 0, 0.0))[1] + 1
        self.log.leases[name] = value, number, asyncio.get_running_loop().time() + LEASE_S

    async def listen(self, heard: Callable[[str, bytes], None]) -> None:
        self._listens = heard

    async def beat(self, author: str, report: bytes) -> None:
        await self.passes()
        for connection in list(self.log.connections):
            if connection._listens:
                connection._listens(author, report)


class State:
    """A snapshot, and the mirror behind it."""

    def __init__(self, connection: Connection, kinds: Sequence[str]) -> None:
        self._connection, self._log, self._kinds = connection, connection.log, frozenset(kinds)
        self.position = 0

    async def __aiter__(self) -> Any:
        await self._connection.passes()
        log = self._log
        if log.dice.random() < SNAPSHOTS:
            log.snapshot = len(log.entries)
        mirrored = log.dice.randint(max(log.snapshot, log.first - 1), len(log.entries))  # the mirror may be far behind
        whole, since = self._latest(0, log.snapshot, gone=False), self._latest(log.snapshot, mirrored, gone=True)
        for entries in filter(None, (whole, since)):
            yield entries
        self.position = self._connection.position = max(since[-1].fact.seq if since else log.snapshot, log.first - 1)

    def _latest(self, first: int, end: int, *, gone: bool) -> list[Entry]:
        last = {entry.key: entry for entry in self._log.entries[first:end] if entry.fact.event.kind in self._kinds}
        found = sorted(last.values(), key=lambda entry: entry.fact.seq)
        return [entry for entry in found if gone or not entry.fact.event.gone]


class Reader:
    """Delivers in log order, in lists of any length, until it is lost."""

    def __init__(self, connection: Connection, position: int, kinds: Sequence[str]) -> None:
        self._connection, self._kinds = connection, frozenset(kinds)
        self._waiting: list[Entry] = []
        self.grown = asyncio.Event()
        self.deliver(connection.log.entries[position:])

    async def __aenter__(self) -> "Reader":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def deliver(self, entries: Sequence[Entry]) -> None:
        self._waiting += (entry for entry in entries if entry.fact.event.kind in self._kinds)
        if self._waiting:
            self.grown.set()

    @property
    def pending(self) -> int:
        return len(self._waiting)

    async def arrived(self) -> None:
        while not (self._waiting or self._connection.closed):
            self.grown.clear()
            await self.grown.wait()

    async def next(self) -> list[Entry]:
        await self.arrived()
        await self._connection.passes(0.01, self._connection.life.lag_s)
        count = self._connection.log.dice.randint(1, 4)
        entries, self._waiting = self._waiting[:count], self._waiting[count:]
        self._connection.position = entries[-1].fact.seq
        return entries
