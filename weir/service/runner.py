"""The runner of every service: start from STATE, follow the log, decide, append fenced, notify the edges.

A session lasts until the log is lost or refuses an append.  Then its world is discarded and read again, which is the only recovery.
Edges run beside the sessions and outlive them: without the log the kernel keeps forwarding.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

import structlog

from weir.bus.appends import BATCH
from weir.bus.client import Bus
from weir.bus.identity import Identity
from weir.bus.lease import Lease
from weir.bus.reader import Entry, Forbidden, LogError, LogFull, LogStuck, NotUnderstood, Overtaken, Pull, Refused
from weir.bus.writer import Writer
from weir.decider import Change, Core, Decided, Fact, Fold, World
from weir.events import AnyEvent, Event, author_of, key_of, token
from weir.readers import ABOUT_READERS, announcement
from weir.service.journal import log_appended
from weir.service.leadership import kept, stand_by, take_over
from weir.service.metrics import Meter
from weir.service.report import Report
from weir.service.withheld import Withheld
from weir.where import Where

RETRY_FIRST_S, RETRY_MOST_S = 0.1, 5.0
_NO_STREAM = 10059  # JetStream's error code

log = structlog.get_logger()
Heard = Callable[[World, Sequence[Change] | None, int], Awaitable[None]]
Connect = Callable[[str, str], Awaitable[Bus]]


class Released(LogError):
    """All readers know now what this session withheld.  React: start again from STATE."""


class Runner:
    """One service in the life of one process.

    hears: event classes whose kinds the service subscribes to; its own must be among them.
    opened: called with the log's identity when a session begins.
    heard: called with the world, the changes (None after catching up: everything may be new) and the sequence reached.
    lease: elects the leader of several replicas; the others stand by.
    listens: called with the author and the report of each heartbeat.
    impaired: what the service cannot see or do now, besides following the log; "" for nothing.
    read: called with the world of each session once it was read to the head, before anything is decided on it.
    keeps: what of an event is folded; its entity must stay the same.
    """

    def __init__(
        self,
        name: str,
        core: Core,
        hears: Iterable[type[Event]],
        where: Where,
        *,
        node: str = "",
        opened: Callable[[Identity], None] = lambda _: None,
        heard: Heard | None = None,
        connect: Connect = Bus.connect,
        lease: Lease | None = None,
        keeps: Callable[[Fact], Fact] = lambda fact: fact,
        listens: Callable[[str, bytes], None] | None = None,
        impaired: Callable[[], str] = lambda: "",
        read: Callable[[World], None] | None = None,
    ) -> None:
        self.name, self.node, self.where = name, node, where
        self.author = f"{name}-{token(node)}" if node else name
        self.world = World(core.indexes)
        self._core, self._opened, self._heard, self._connect, self._lease, self._keeps = core, opened, heard, connect, lease, keeps
        self._listens, self._read = listens, read
        self.meter = Meter()
        self._announcement = announcement(self.author, node, (event.kind for event in (*hears, *ABOUT_READERS)))
        self._kinds = self._announcement.kinds
        self._withheld = Withheld(self.author)
        self._live: tuple[Writer, Fold] | None = None
        self._turn = asyncio.Lock()
        self._caught_up = asyncio.Event()  # set as leader, which takes proposals, and as standby, which discards them
        self._standing_by = False
        self._report = Report(self.author, where.run, self._kinds, lambda: impaired() or str(self._withheld), lambda: self.meter.position)
        self._retry_s = RETRY_FIRST_S
        self._found = False  # whether the log existed once
        self._owing = 0  # proposals that wait for the log
        self._why: LogError | None = None  # what ended the session, where a proposal met it

    @property
    def following(self) -> bool:
        """Whether a session is up."""
        return self._live is not None

    @property
    def ready(self) -> bool:
        """True once caught up with the log, as leader or standby, while nothing impairs the service."""
        return self._report.ready

    async def propose(self, decide: Callable[[World], Iterable[AnyEvent]], cause: int = 0) -> None:
        """Append what `decide` yields for the world, waiting for the log as long as it takes.

        `decide` may run several times: after a refusal it gets the world as it is then, so it must yield differences only.
        """
        self._owing += 1
        try:
            while not await self._proposed(decide, cause):
                pass
        finally:
            self._owing -= 1

    async def _proposed(self, decide: Callable[[World], Iterable[AnyEvent]], cause: int) -> bool:
        await self._caught_up.wait()
        async with self._turn:
            if self._standing_by:
                return True  # the edge compares what it observed with the log when this replica becomes the leader
            if not self._live:
                return False
            writer, fold = self._live
            try:
                await self._append(writer, fold, fold.propose(decide(fold.world), cause))
            except LogError as error:
                await self._end(writer.bus, error)  # the session fails by it, and starts again
                return False
            if self._owing == 1:
                self._report.set("following")
            return True

    async def run(self) -> None:
        """Run one session after another, indefinitely."""
        while True:
            try:
                await self._session()
            except LogError as error:
                self._lose(error)
            await asyncio.sleep(self._retry_s * random.uniform(0.8, 1.2))
            self._retry_s = min(self._retry_s * 2, RETRY_MOST_S)

    def _lose(self, error: LogError) -> None:
        """End the session: its world is read again from the log."""
        why, self._why = self._why or error, None
        self._caught_up.clear()
        self._live = None
        self._report.set("degraded", f"{type(why).__name__}: {why}")
        if isinstance(why, LogFull | LogStuck):
            self._retry_s = RETRY_MOST_S  # reading works, so each session would begin again at once
        awaited = self._awaits(why)
        routine = awaited or isinstance(why, Released)
        level = log.error if isinstance(why, NotUnderstood | Forbidden) else log.info if routine else log.warning
        event = "log_awaited" if awaited else "log_lost"
        level(event, service=self.author, reason=str(why), retry_ms=int(self._retry_s * 1000))

    def _awaits(self, why: LogError) -> bool:
        """Whether this is the first start, where the log is created while services start."""
        return isinstance(why, Refused) and why.code == _NO_STREAM and not self._found and self._retry_s < RETRY_MOST_S

    async def _session(self) -> None:
        async with await self._connect(self.where.nats_url(), self.author) as bus:
            fold = Fold(self._core, self.author)
            if self._listens:
                await bus.listen(self._listens)
            self._opened(await bus.identity())
            last = await bus.last(self.author)  # before the fold: a later append by another session is noticed at our first
            state = bus.state(self._kinds)
            async for entries in state:
                self._load(fold, entries)
            fold.position = state.position
            async with bus.follow(fold.position, self._kinds) as pull:
                while pull.pending:
                    self._load(fold, await pull.next())
                if self._read:
                    self._read(fold.world)
                if self._lease:
                    last = await self._lead(bus, fold, pull, self._lease)
                # STATE may remember own events that the history has dropped; the server compares with the history.
                fold.last = max(last, fold.last) if last else 0
                async with kept(self._lease, bus, self.author):
                    await self._follow(Writer(bus, self.author), fold, pull)

    async def _follow(self, writer: Writer, fold: Fold, pull: Pull[Entry]) -> None:
        """Decide on what is owed, then on each batch of events, until the session ends by a LogError."""
        await self._catch_up(writer, fold)
        while True:
            if not (entries := await pull.next()):
                continue
            self.meter.hear([entry.fact for entry in entries], pull.pending)
            async with self._turn:
                changes = await self._hear(writer, fold, [self._keeps(entry.fact) for entry in entries])
            if self._heard and changes:
                await self._heard(fold.world, changes, fold.position)

    def _load(self, fold: Fold, entries: Iterable[Entry]) -> None:
        for entry in entries:
            fold.load(self._keeps(entry.fact))

    async def _lead(self, bus: Bus, fold: Fold, pull: Pull[Entry], lease: Lease) -> int:
        """Stand by until this replica is the leader; return the author's last sequence, with all up to it folded."""
        load = partial(self._load, fold)
        self._report.set("standby")
        self._standing_by = True
        self._caught_up.set()
        try:
            await stand_by(lease, bus, pull, load)
        finally:
            self._caught_up.clear()
            self._standing_by = False
        return await take_over(bus, self.author, fold, pull, load)

    async def _catch_up(self, writer: Writer, fold: Fold) -> None:
        self._withheld = Withheld(self.author)
        known = fold.world.get(key_of(self._announcement)) == self._announcement
        owed = [*fold.propose(() if known else (self._announcement,)), *fold.caught_up()]
        await self._append(writer, fold, owed)
        self._live, self.world = (writer, fold), fold.world
        self._found = True
        self._retry_s = RETRY_FIRST_S
        self.meter.begin(fold.position)
        log.info("caught_up", service=self.author, seq=fold.position, entities=len(fold.world.facts), owed=len(owed))
        if not self._owing:
            self._report.set("following")
        if self._heard:
            await self._heard(fold.world, None, fold.position)
        self._caught_up.set()

    async def _hear(self, writer: Writer, fold: Fold, facts: Sequence[Fact]) -> list[Change]:
        for fact in facts:
            if author_of(fact.event) == self.author and not fold.knows(fact.seq):
                raise Overtaken(f"event {fact.seq}, appended as this author by another session")
        decided, changes = fold.hear(facts)
        if self._withheld.released(fold.world, changes):
            raise Released("readers were upgraded: what was withheld is decided again")
        await self._append(writer, fold, decided)
        return changes

    async def _append(self, writer: Writer, fold: Fold, decided: Sequence[Decided]) -> None:
        passed = self._withheld.passed(fold.world, decided)
        for start in range(0, len(passed), BATCH):
            part = passed[start : start + BATCH]
            with self.meter.appending(part):
                first = await writer.append(part, fold.last)
            fold.acked(part, first)
            log_appended(self.author, part, first)

    async def _end(self, bus: Bus, why: LogError) -> None:
        """End the session of `bus`, unless another has begun."""
        if self._live and self._live[0].bus is bus:
            self._why = why
            self._caught_up.clear()
            self._live = None
        await bus.close()

    async def beat(self) -> None:
        """Report until cancelled; see `Report.beat`."""
        await self._report.beat(lambda: self._live[0].bus if self._live else None)
