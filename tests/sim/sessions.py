"""Sessions of one author that overlap as they like, over the model of the log or over NATS: appends of each, late ones, and expiry."""

import random
from collections.abc import Sequence
from typing import Any

from weir.bus.reader import LogUnreachable, Refused
from weir.bus.subjects import Expected
from weir.bus.writer import Writer
from weir.decider import Decided
from weir.events import VipAllocated
from weir.model import Root

AUTHOR = "ipam"


class Way:
    """A session's way to the log: an append may stay on it and arrive later, or never."""

    def __init__(self, bus: Any) -> None:
        self.bus, self.holds = bus, False
        self.held: tuple[Any, ...] = ()
        self._epoch: int | None = None
        self._stream: Any = None

    async def prepare(self, author: str) -> None:
        """Ask now what the first append asks before it is sent."""
        self._epoch, self._stream = await self.bus.epoch(author), await self.bus.stream()

    async def epoch(self, author: str) -> int:
        return int(await self.bus.epoch(author)) if self._epoch is None else self._epoch

    async def stream(self) -> Any:
        return self._stream or await self.bus.stream()

    async def append(self, author: str, decided: Sequence[Decided], last: int, expected: Sequence[Expected]) -> int:
        if self.holds:
            self.held = (author, decided, last, expected)
            raise LogUnreachable("no answer")
        return int(await self.bus.append(author, decided, last, expected))


class Session:
    """Reads the author's last event when it begins, and appends behind that until something is in doubt."""

    def __init__(self, bus: Any, last: int) -> None:
        self.way, self.last = Way(bus), last
        self.writer = Writer(self.way, AUTHOR)  # type: ignore[arg-type]

    async def append(self, dice: random.Random, count: int = 0) -> None:
        vips = [f"192.0.2.{dice.randrange(9)}" for _ in range(count or dice.randint(1, 3))]
        facts = [VipAllocated(vip=vip, pool="p", holders=(), root=Root(kind="Service", name="web")) for vip in vips]
        self.last = await self.writer.append([Decided(fact, 0) for fact in facts], self.last) + len(facts) - 1


class Sessions:
    """What happens to them, drawn from seeded dice.  stored, refused: appends of an older session, or late ones."""

    def __init__(self, bus: Any, dice: random.Random) -> None:
        self.bus, self.dice = bus, dice
        self.sessions: list[Session] = []
        self.late: list[tuple[Any, ...]] = []
        self.stored = self.refused = 0

    async def begin(self) -> Session:
        self.sessions.append(Session(self.bus, await self.bus.last(AUTHOR)))
        return self.sessions[-1]

    async def step(self) -> None:
        chance = self.dice.random()
        if chance < 0.15 or not self.sessions:
            await self.begin()
        elif chance < 0.3:
            await self.land()
        else:
            await self.append(self.dice.choice(self.sessions), holds=chance < 0.45)

    async def append(self, session: Session, *, holds: bool) -> None:
        session.way.holds = holds
        try:
            await session.append(self.dice)
            self.stored += session is not self.sessions[-1]
        except LogUnreachable:
            self.late.append(session.way.held)
            self.sessions.remove(session)
        except Refused:
            self.refused += 1
            self.sessions.remove(session)

    async def land(self) -> None:
        """One of the late appends arrives."""
        if self.late:
            try:
                await self.bus.append(*self.late.pop(self.dice.randrange(len(self.late))))
                self.stored += 1
            except Refused:
                self.refused += 1

    async def end(self) -> None:
        """A new session has the author's name for itself, and shuts out every other and all that is late."""
        session = await self.begin()
        for _ in range(3):
            await session.append(self.dice)
        stored = self.stored
        while self.late:
            await self.land()
        for other in self.sessions[:-1]:
            await self.append(other, holds=False)
        assert self.stored == stored, "an append of an older session was stored"
        await session.append(self.dice)
