"""The runner every service shares: start from STATE, follow the log, decide, append fenced, tell the edges.

A session lasts until the log is lost or refuses an append; then everything folded is thrown away and read again, because
that is the one recovery there is.  Edges run beside the sessions and outlive them: the kernel forwards on without the log.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

import msgspec
import structlog
import uvloop

from weir.bus.client import BATCH, Bus
from weir.bus.identity import Identity
from weir.bus.lease import Lease
from weir.bus.reader import Entry, Forbidden, LogError, LogFull, LogStuck, NotUnderstood, Overtaken, Pull, Refused
from weir.bus.writer import Writer
from weir.decider import Change, Core, Decided, Fact, Fold, World
from weir.events import AnyEvent, EndpointDown, EndpointUp, Event, ManifestRejected, VipDenied, author_of, token
from weir.service.heartbeat import BEAT_S, BEATS_OF_MESSAGE
from weir.service.logs import configure_logging
from weir.service.metrics import Meter
from weir.where import Health, listen_address, node_name, write_file
from weir.where import Where as Where
from weir.words import few

RELOAD = 75  # a dataplane ends with this code when an interface came anew and has no program
RETRY_FIRST_S, RETRY_MOST_S = 0.1, 5.0
MOST_LINES = 50
TROUBLE = (ManifestRejected, VipDenied, EndpointDown)  # logged as warnings
_NO_STREAM = 10059  # JetStream's error code
PASSING = "NoNode"  # of a VipDenied: at each first start, until the agent has reported
REPLICATED = ("watcher", "ipam", "planner")  # of which several may run

log = structlog.get_logger()
Heard = Callable[[World, Sequence[Change] | None, int], Awaitable[None]]
Connect = Callable[[str, str], Awaitable[Bus]]
Edge = Callable[["Runner"], Awaitable[None]]


class LoadAgain(Exception):
    """What the loader put in place is not there any more: it must run again before the next life of this process."""


class Runner:
    """One service in the life of one process.

    hears: event classes whose kinds the core wants to fold; its own kinds must be among them.
    opened: called with the log's identity when a session begins.
    heard: called with the world, the changes (None after catching up: everything may be new) and the sequence reached.
    lease: one of several replicas acts, the others fold along.
    listens: called with the author and the report of each sign of life.
    impaired: what the service cannot see or do now, besides following the log; "" for nothing.
    read: called with the world of each session once it was read to the head, before anything is decided on it.
    keeps: what of a fact is folded; its entity must stay the same.
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
        self._listens, self._impaired, self._read = listens, impaired, read
        self.meter = Meter()
        self._kinds = sorted({event.kind for event in hears})
        self._live: tuple[Writer, Fold] | None = None
        self._turn = asyncio.Lock()
        self._caught_up = asyncio.Event()  # or stands by: there is somebody to propose to, or nothing to wait for
        self._standing_by = False
        self._health = Health(service=self.author, pid=os.getpid(), state="starting", kinds=tuple(self._kinds))
        self._unwritten = False
        self._retry_s = RETRY_FIRST_S
        self._found = False  # the log, once
        self._owing = 0  # proposals that wait for the log
        self._why: LogError | None = None  # what ended the session, where a proposal met it

    @property
    def following(self) -> bool:
        """Whether a session is up."""
        return self._live is not None

    @property
    def ready(self) -> bool:
        """True once caught up with the log, as leader or standby, while it sees and does all it should."""
        return self._report().state not in ("starting", "degraded")

    async def propose(self, decide: Callable[[World], Iterable[AnyEvent]], cause: int = 0) -> None:
        """Appends what `decide` makes of the world, waiting for the log as long as it takes.

        `decide` may run several times: after a refusal it sees the world as it then is, so it must yield differences only.
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
                return True  # what the edge knows is compared with the log when this replica comes to act
            if not self._live:
                return False
            writer, fold = self._live
            try:
                await self._append(writer, fold, fold.propose(decide(fold.world), cause))
            except LogError as error:
                await self._end(writer.bus, error)  # the session sees it and starts again
                return False
            if self._owing == 1:
                self._tell("following")
            return True

    async def run(self) -> None:
        """Sessions, one after another, for ever."""
        while True:
            try:
                await self._session()
            except LogError as error:
                why, self._why = self._why or error, None
                self._caught_up.clear()
                self._live = None
                self._tell("degraded", f"{type(why).__name__}: {why}")
                if isinstance(why, LogFull | LogStuck):
                    self._retry_s = RETRY_MOST_S  # reading goes well, so that each session would begin anew at once
                level = log.error if isinstance(why, NotUnderstood | Forbidden) else log.info if self._awaits(why) else log.warning
                level(
                    "log_awaited" if self._awaits(why) else "log_lost",
                    service=self.author,
                    reason=str(why),
                    retry_ms=int(self._retry_s * 1000),
                )
            await asyncio.sleep(self._retry_s * random.uniform(0.8, 1.2))
            self._retry_s = min(self._retry_s * 2, RETRY_MOST_S)

    def _awaits(self, why: LogError) -> bool:
        """At the first start the log is made while services come up."""
        return isinstance(why, Refused) and why.code == _NO_STREAM and not self._found and self._retry_s < RETRY_MOST_S

    async def _session(self) -> None:
        async with await self._connect(self.where.nats_url(), self.author) as bus:
            fold = Fold(self._core, self.author)
            if self._listens:
                await bus.listen(self._listens)
            self._opened(await bus.identity())
            last = await bus.last(self.author)  # before the fold: whoever writes after this is noticed at the first append
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
                    last = await self._stand_by(self._lease, bus, fold, pull)
                # STATE may remember own facts that the history has dropped; the server compares with the history.
                fold.last = max(last, fold.last) if last else 0
                writer = Writer(bus, self.author)
                async with self._kept(bus):
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

    async def _stand_by(self, lease: Lease, bus: Bus, fold: Fold, pull: Pull[Entry]) -> int:
        """Folds along until this replica is the leader; returns the author's last sequence, with all up to it folded."""
        self._tell("standby")
        self._standing_by = True
        self._caught_up.set()
        won = asyncio.ensure_future(lease.win(bus))
        try:
            while not won.done():
                arrived = asyncio.ensure_future(pull.arrived())
                await asyncio.wait((won, arrived), return_when=asyncio.FIRST_COMPLETED)
                if arrived.done():
                    arrived.result()
                    self._load(fold, await pull.next())
                arrived.cancel()
        finally:
            won.cancel()
            self._caught_up.clear()
            self._standing_by = False
        won.result()
        last = await bus.last(self.author)
        while fold.position < last:  # the last append of the leader before is on its way, or in the snapshot, which leaves out what is gone
            self._load(fold, await pull.next())
        log.info("lease_won", service=self.author, seq=fold.position)
        return last

    @contextlib.asynccontextmanager
    async def _kept(self, bus: Bus) -> AsyncIterator[None]:
        """Keeps the lease meanwhile; without it the connection ends, and with it the session."""

        async def keep(lease: Lease) -> None:
            ended = False
            try:
                await lease.keep(bus)
                log.warning("lease_lost", service=self.author)
            except LogError as error:
                log.warning("lease_lost", service=self.author, reason=str(error))
            except asyncio.CancelledError:
                ended = True  # the session itself does
                raise
            finally:
                if not ended:
                    await bus.close()

        if not self._lease:
            yield
            return
        keeping = asyncio.ensure_future(keep(self._lease))
        try:
            yield
        finally:
            keeping.cancel()
            with contextlib.suppress(LogError):  # where the log is gone the lease ends by itself
                await self._lease.give_back(bus)

    async def _catch_up(self, writer: Writer, fold: Fold) -> None:
        owed = fold.caught_up()
        await self._append(writer, fold, owed)
        self._live, self.world = (writer, fold), fold.world
        self._found = True
        self._retry_s = RETRY_FIRST_S
        self.meter.begin(fold.position)
        log.info("caught_up", service=self.author, seq=fold.position, entities=len(fold.world.facts), owed=len(owed))
        if not self._owing:
            self._tell("following")
        if self._heard:
            await self._heard(fold.world, None, fold.position)
        self._caught_up.set()

    async def _hear(self, writer: Writer, fold: Fold, facts: Sequence[Fact]) -> list[Change]:
        for fact in facts:
            if author_of(fact.event) == self.author and not fold.knows(fact.seq):
                raise Overtaken(f"event {fact.seq} in our name")
        decided, changes = fold.hear(facts)
        await self._append(writer, fold, decided)
        return changes

    async def _append(self, writer: Writer, fold: Fold, decided: Sequence[Decided]) -> None:
        for start in range(0, len(decided), BATCH):
            part = decided[start : start + BATCH]
            with self.meter.appending(part):
                first = await writer.append(part, fold.last)
            fold.acked(part, first)
            self._say(part, first)

    def _say(self, part: Sequence[Decided], first: int) -> None:
        """A line for each event; for many one in all, as at a start a line costs as much as the decision, and those of trouble."""
        numbered = list(enumerate(part, first))
        if len(part) > MOST_LINES:
            log.info("appended", service=self.author, seq=first, events=Counter(_word(item.event) for item in part))
            numbered = [(seq, item) for seq, item in numbered if _is_trouble(item.event)][:MOST_LINES]
        for seq, item in numbered:
            entity = "/".join(filter(None, item.event.entity()))
            level = log.warning if _is_trouble(item.event) else log.info
            level(_word(item.event), service=self.author, seq=seq, cause=item.cause, entity=entity, **_reason(item.event))

    async def _end(self, bus: Bus, why: LogError) -> None:
        """Ends the session of `bus`, unless another has begun."""
        if self._live and self._live[0].bus is bus:
            self._why = why
            self._caught_up.clear()
            self._live = None
        await bus.close()

    async def beat(self) -> None:
        """Give the signs of life, for ever: a file every second, a message to who listens at the log's server every two."""
        while True:
            for _ in range(BEATS_OF_MESSAGE):
                self._write_health()
                await asyncio.sleep(BEAT_S)
            if self._live:
                with contextlib.suppress(LogError):  # the session sees it, too
                    await self._live[0].bus.beat(self.author, msgspec.json.encode(self._report()))

    def _report(self) -> Health:
        health = self._health
        if health.state in ("standby", "following") and (why := self._impaired()):
            health = msgspec.structs.replace(health, state="degraded", reason=why)
        return msgspec.structs.replace(health, beat_s=time.monotonic(), position=self.meter.position)

    def _tell(self, state: str, reason: str = "") -> None:
        if (state, reason) != (self._health.state, self._health.reason):
            self._health = msgspec.structs.replace(self._health, state=state, reason=reason)
            self._write_health()

    def _write_health(self) -> None:
        try:
            write_file(self.where.run / f"{self.author}.json", msgspec.json.encode(self._report()))
        except OSError as error:  # a full /run must not end a service; the next beat writes again
            if not self._unwritten:
                log.error("health_not_written", service=self.author, reason=str(error))
            self._unwritten = True
        else:
            self._unwritten = False


def _reason(event: AnyEvent) -> dict[str, str]:
    """Why, of an event that says so: it belongs into the journal, where there is no log to ask."""
    match event:
        case ManifestRejected(problems=problems):
            return {"reason": few(map(str, problems), apart="; ")}
        case VipDenied(message=message):
            return {"reason": message}
        case EndpointDown(reason=reason) | EndpointUp(reason=reason):
            return {"reason": reason}
    return {}


def _is_trouble(event: AnyEvent) -> bool:
    return isinstance(event, TROUBLE) and not (isinstance(event, VipDenied) and event.reason == PASSING)


def _word(event: AnyEvent) -> str:
    return str(type(event).__struct_config__.tag)


def options(name: str) -> argparse.ArgumentParser:
    """The options every service has; a service adds its own.  Sets up logging, as the first thing a service does."""
    configure_logging()
    parser = argparse.ArgumentParser(prog=f"weir-{name}")
    parser.add_argument("--instance", default="weir", help="name of this installation (default: %(default)s)")
    if name in REPLICATED:
        parser.add_argument("--replicated", action="store_true", help="one of several: acts while it holds the lease")
    parser.add_argument("--metrics", type=listen_address, metavar="ADDRESS:PORT", help="serve metrics there (default: nowhere)")
    parser.add_argument("--node", type=node_name, default=os.uname().nodename, help="name of this node (default: %(default)s)")
    return parser


def lease_of(name: str, chosen: argparse.Namespace) -> Lease | None:
    """The lease that decides who acts, where there are several replicas."""
    return Lease(name) if chosen.replicated else None


def allow_files() -> None:
    """As many open files as the machine allows: a probe is a socket."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def serve(runner: Runner, *edges: Edge) -> None:
    """Runs the service until SIGTERM.  An exception that nobody named ends the process: the log is the recovery."""
    allow_files()
    gc.freeze()

    async def main() -> int:
        code = 0
        task = asyncio.current_task()
        assert task
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(runner.beat())
                group.create_task(runner.run())
                for edge in edges:
                    group.create_task(edge(runner))  # type: ignore[arg-type]
        except* LoadAgain as again:
            log.warning("load_again", service=runner.author, reason=str(again.exceptions[0]))
            code = RELOAD
        return code

    async def stoppable() -> int:
        with contextlib.suppress(asyncio.CancelledError):
            return await main()
        return 0

    sys.exit(uvloop.run(stoppable()))
