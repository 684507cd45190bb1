"""Snapshots: any moment that the log covers is answered as it was, whatever has expired; and what is gone costs nothing."""

import asyncio
import json
import random
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nats_server import NatsServer, keep_for, nats_server
from weir.bus import snapshotter
from weir.bus.appends import BATCH, MOST_BYTES
from weir.bus.client import Bus, as_it_is
from weir.bus.reader import Delivered, LogError, Trimmed
from weir.bus.snapshots import SNAPSHOTS, Snapshot, base_of, history, newest, sequences
from weir.bus.snapshotter import LEAST_EVENTS, SHARE_OF_AGE, due, is_due, take, tidy
from weir.bus.streams import ensure_streams
from weir.bus.subjects import STATE, STREAM
from weir.cli.log.dump import dump
from weir.cli.log.verify import verify
from weir.cli.log.why import why
from weir.decider import Decided, Fact, Recorder, World
from weir.events import ENCODE, AnyEvent, EndpointDown, ServiceGone, ServiceObserved, VipAllocated, VipFreed, key_of
from weir.model import Root
from weir.service.runner import Runner
from weir.view.errors import Unanswerable
from weir.view.history import world_at
from weir.view.recording import Recording
from weir.where import Where


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as found:
        yield found


class Log:
    """A log that is written to, and what it should say: every event ever appended."""

    def __init__(self, bus: Bus, dice: random.Random, names: int = 30) -> None:
        self.bus, self.dice, self.names = bus, dice, names
        self.events: list[AnyEvent] = []

    async def append(self, count: int) -> None:
        for author in ("watcher", "ipam"):
            events = [self._event(author) for _ in range(count)]
            await self._append(author, events)

    async def _append(self, author: str, events: list[AnyEvent]) -> None:
        for start in range(0, len(events), BATCH):
            part = events[start : start + BATCH]
            first = await self.bus.append(author, [Decided(event, 0) for event in part], await self.bus.last(author))
            assert first == len(self.events) + 1
            self.events += part

    def _event(self, author: str) -> AnyEvent:
        number = self.dice.randrange(self.names)
        gone = self.dice.random() < 0.3
        root = Root(kind="Service", namespace="shop", name=f"web-{number}", generation=len(self.events))
        if author == "watcher":
            return ServiceGone(root=root) if gone else ServiceObserved(root=root, exposed=True, labels={"n": str(self.dice.random())})
        vip = f"10.0.0.{number}"
        what = {"vip": vip, "pool": "p", "holders": (root.owner,), "root": root}
        return VipFreed(**what) if gone else VipAllocated(**what)

    def world(self, end: int) -> World:
        return folded(self.events, end)

    async def first(self) -> int:
        first: int = (await self.bus.stream())["state"]["first_seq"]
        return first


def folded(events: list[AnyEvent], end: int) -> World:
    """What should be live after the first `end` of them."""
    world = World()
    for seq, event in enumerate(events[:end], 1):
        world.evolve(Fact(seq, event, key_of(event)))
    return world


def run(server: NatsServer, dice: random.Random, scenario: object, **options: int) -> None:
    async def main() -> None:
        async with await Bus.connect(server.url, "ipam") as bus:
            await ensure_streams(bus)
            await scenario(Log(bus, dice, **options))  # type: ignore[operator]

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(3))
def test_a_moment_is_answered_as_it_was_whatever_has_expired(server: NatsServer, seed: int) -> None:
    dice = random.Random(seed)
    answered: list[bool] = []

    async def scenario(log: Log) -> None:
        nonlocal answered
        for _ in range(20):
            await keep_for(log.bus, dice.choice((3, 4, 6, 30)))
            for _ in range(dice.randrange(4)):
                await log.append(dice.randrange(1, 40))
                await mirrored(log)  # the ages are shorter than a busy machine may take for that; an hour is the least elsewhere
                if dice.random() < 0.7:
                    await take(log.bus)
                if dice.random() < 0.5:
                    await tidy(log.bus)
            await asyncio.sleep(dice.random() * 0.5)  # so that something expires
            answered += [await ask(log, dice.randint(1, len(log.events))) for _ in range(10 if log.events else 0)]
            world, head = await world_at(log.bus, "")
            assert (world.facts, head) == (log.world(head).facts, len(log.events))
            assert await started(log.bus) == log.world(len(log.events)).facts

    run(server, dice, scenario)
    assert any(answered), "no moment was covered: nothing was tested"
    print(f"{sum(answered)} of {len(answered)} moments covered")


async def mirrored(log: Log) -> None:
    """The mirror has all that was appended."""
    async with asyncio.timeout(60):
        while (await log.bus.stream(STATE))["state"]["last_seq"] < len(log.events):
            await asyncio.sleep(0.01)


async def ask(log: Log, end: int) -> bool:
    """Asks for a moment; whether it was covered.  One that is must not be refused, nor one answered that is not."""
    first, snapshots = await log.first(), await sequences(log.bus)
    covered_before = [at for at in (0, *snapshots) if at <= end and at >= first - 1]
    try:
        world, position = await world_at(log.bus, str(end))
    except Unanswerable:
        still = await log.first()
        assert not [at for at in covered_before if at >= still - 1], f"{end} was refused: history from {still}, snapshots {snapshots}"
        return False
    assert position == end
    assert world.facts == log.world(end).facts, f"as of {end}: history from {first}, snapshots {snapshots}"
    return True


async def started(bus: Bus) -> dict[str, Fact]:
    """What a service folds when it starts."""
    world, state = World(), bus.state()
    async for entries in state:
        for entry in entries:
            world.evolve(entry.fact)
    head = (await bus.stream())["state"]["last_seq"]
    async with bus.follow(state.position) as pull:
        position = state.position
        while position < head:
            for entry in await pull.next():
                world.evolve(entry.fact)
                position = entry.fact.seq
    return world.facts


@pytest.fixture
def expired(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> list[AnyEvent]:
    """A log whose first 200 events have expired, with two snapshots; what it said."""
    events: list[AnyEvent] = []

    async def scenario(log: Log) -> None:
        await log.append(100)
        await take(log.bus)
        await keep_for(log.bus, 0.5)
        while await log.first() <= 200:
            await asyncio.sleep(0.05)
        await keep_for(log.bus, 3600)
        await log.append(20)
        await take(log.bus)
        await log.append(20)
        events.extend(log.events)

    run(server, random.Random(6), scenario)
    monkeypatch.setenv("WEIR_NATS", server.url)
    return events


def test_a_dump_stands_alone(expired: list[AnyEvent], tmp_path: Path) -> None:
    dump("weir", tmp_path / "log")

    async def asked(moment: str) -> tuple[dict[str, Fact], int]:
        with Recording(tmp_path / "log") as recording:
            world, at = await world_at(recording, moment)
            return world.facts, at

    for end in (200, 201, 239, 240, 260, 280):
        assert asyncio.run(asked(str(end))) == (folded(expired, end).facts, end)
    assert asyncio.run(asked("")) == (folded(expired, 280).facts, 280)
    with pytest.raises(Unanswerable, match="199 is before the oldest moment that the log covers, event 200"):
        asyncio.run(asked("199"))
    assert verify("weir", tmp_path / "log", "table") == 0


def test_why_goes_back_to_what_only_a_snapshot_holds(expired: list[AnyEvent], capsys: pytest.CaptureFixture[str]) -> None:
    old = [fact for fact in folded(expired, 280).facts.values() if fact.seq <= 200]
    assert old, "each entity changed since: nothing is tested"
    why("weir", old[0].event.root.path, "", "json")
    assert old[0].seq in [found["sequence"] for found in json.loads(capsys.readouterr().out)]


def test_verify_finds_a_snapshot_that_differs_from_the_history(
    server: NatsServer, expired: list[AnyEvent], capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify("weir", None, "table") == 0, capsys.readouterr().out
    entity = next(fact for fact in folded(expired, 280).facts.values() if fact.seq > 240)

    async def forge(log: Log) -> None:
        live = snapshotter.live

        async def lacking(bus: Bus) -> tuple[Snapshot | None, dict[str, Delivered], int]:
            snapshot, changed, head = await live(bus)
            return snapshot, {key: message for key, message in changed.items() if message.sequence != entity.seq}, head

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(snapshotter, "live", lacking)
            await take(log.bus)

    run(server, random.Random(8), forge)
    assert verify("weir", None, "table") == 1
    assert "the snapshot at 280 " in capsys.readouterr().out


def test_a_reader_does_not_wait_for_what_is_gone(server: NatsServer) -> None:
    async def scenario(log: Log) -> None:
        await log.append(500)
        await mirrored(log)
        async with log.bus.reader(STREAM, 1, (), as_it_is, credit=10) as pull:
            await keep_for(log.bus, 0.1)
            while await log.first() <= 1000:
                await asyncio.sleep(0.02)
            async with asyncio.timeout(30):
                while pull.pending:
                    await pull.next()
        with pytest.raises(Trimmed, match="the history ends at 900, wanted up to 1000"):
            [found async for found in history(log.bus, 901, 1000)]

    run(server, random.Random(9), scenario)


def test_names_that_are_gone_leave_nothing_behind(server: NatsServer) -> None:
    async def scenario(log: Log) -> None:
        roots = [Root(kind="Service", namespace="ci", name=f"run-{number}") for number in range(2000)]
        await log._append("watcher", [ServiceObserved(root=root, exposed=True) for root in roots])
        await log.append(5)
        await take(log.bus)
        await log._append("watcher", [ServiceGone(root=root) for root in roots])
        await take(log.bus)
        await log.append(5)
        last = await take(log.bus)
        await mirrored(log)  # it is trimmed as far as it has come
        await tidy(log.bus)
        live = len(log.world(len(log.events)).facts)
        assert last.entities == live < 20
        state = (await log.bus.stream(STATE))["state"]
        assert state["messages"] <= 20, "what a snapshot holds need not stay"
        assert await started(log.bus) == log.world(len(log.events)).facts

    run(server, random.Random(1), scenario)


def test_a_service_takes_them_when_they_are_due(server: NatsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEIR_NATS", server.url)
    monkeypatch.setattr(snapshotter, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(snapshotter, "LEAST_EVENTS", 100)
    monkeypatch.setattr(Where, "run", tmp_path)

    async def scenario(log: Log) -> None:
        runner = Runner("health", Recorder(), (EndpointDown,), Where())
        working = [asyncio.create_task(runner.run()), asyncio.create_task(snapshotter.keep_snapshots(runner))]
        async with asyncio.timeout(20):
            while (await log.bus.stream())["state"]["last_seq"] < 2:  # the runner's epoch, and what it announces
                await asyncio.sleep(0.02)
        log.events += [(await log.bus.at(seq)).fact.event for seq in (1, 2)]
        for _ in range(2):
            await log.append(60)
            async with asyncio.timeout(20):
                while (await sequences(log.bus))[-1:] != [len(log.events)]:
                    await asyncio.sleep(0.02)
        assert await ask(log, 130)
        for task in working:
            task.cancel()

    run(server, random.Random(10), scenario)


def test_what_was_trimmed_stays_away_when_the_server_is_killed(server: NatsServer) -> None:
    dice = random.Random(2)
    kept: list[AnyEvent] = []

    async def before(log: Log) -> None:
        for _ in range(4):
            await log.append(200)
            await take(log.bus)
            await tidy(log.bus)
        kept.extend(log.events)

    async def after(log: Log) -> None:
        log.events.extend(kept)
        assert await started(log.bus) == log.world(len(kept)).facts
        await log.append(50)
        await take(log.bus)
        await tidy(log.bus)
        assert await started(log.bus) == log.world(len(log.events)).facts

    run(server, dice, before)
    server.kill()
    server.start()
    run(server, dice, after)


def test_a_snapshot_that_was_not_finished_is_not_seen_and_the_next_one_is_whole(server: NatsServer) -> None:
    async def scenario(log: Log) -> None:
        await log.append(50)
        await take(log.bus)
        await log.append(50)
        store, calls = log.bus.store, []

        async def dies(subject: str, body: bytes, last: int) -> int:
            calls.append(subject)
            if len(calls) > 1:
                raise LogError("killed")
            return await store(subject, body, last)

        log.bus.store = dies  # type: ignore[method-assign]
        with pytest.raises(LogError, match="killed"):
            await take(log.bus)
        log.bus.store = store  # type: ignore[method-assign]
        assert await sequences(log.bus) == [100]
        await take(log.bus)
        assert await sequences(log.bus) == [100, 200]
        assert await started(log.bus) == log.world(200).facts

    run(server, random.Random(3), scenario)


@pytest.mark.parametrize(
    "alphabet", [string.ascii_letters + string.digits + "+/", "".join(map(chr, range(0x4E00, 0x9FFF)))], ids=["ascii", "cjk"]
)
def test_the_largest_event_that_the_log_takes_fits_into_a_snapshot_however_badly_it_compresses(server: NatsServer, alphabet: str) -> None:
    async def scenario(log: Log) -> None:
        root = Root(kind="Service", namespace="shop", name="large")
        room = MOST_BYTES - len(ENCODE(ServiceObserved(root=root, exposed=True, labels={"n": ""})))
        text = "".join(log.dice.choices(alphabet, k=room // len(alphabet[-1].encode())))
        large = ServiceObserved(root=root, exposed=True, labels={"n": text})
        assert MOST_BYTES - 2 <= len(ENCODE(large)) <= MOST_BYTES
        await log.append(20)
        await log._append("watcher", [large])
        await log.append(20)
        for _ in range(2):  # from the log, and from the snapshot before
            assert (await take(log.bus)).entities == len(log.world(len(log.events)).facts)
            assert await started(log.bus) == log.world(len(log.events)).facts
            await log.append(20)

    run(server, random.Random(6), scenario)


def test_a_snapshot_is_never_read_as_another_logs(server: NatsServer) -> None:
    async def scenario(log: Log) -> None:
        await log.append(50)
        await take(log.bus)
        await log.bus.api("STREAM.DELETE.WEIR_STATE")
        await log.bus.api("STREAM.DELETE.WEIR")

    async def again(log: Log) -> None:
        assert await sequences(log.bus) == []
        assert (await log.bus.stream(SNAPSHOTS))["state"]["messages"] > 0
        assert await started(log.bus) == {}

    run(server, random.Random(4), scenario)
    run(server, random.Random(4), again)


def test_one_is_due_by_how_much_there_is_behind_the_last_and_by_how_old_that_is() -> None:
    day = 86400.0
    assert not is_due(0, 0, 0, 1000 * day, day)
    assert not is_due(LEAST_EVENTS - 1, 0, 0, 0, day)
    assert is_due(LEAST_EVENTS, 0, 0, 0, day)
    assert not is_due(LEAST_EVENTS, 0, 4 * LEAST_EVENTS, 0, day)
    assert is_due(2 * LEAST_EVENTS, 0, 4 * LEAST_EVENTS, 0, day)
    assert is_due(1, 1, 0, day / SHARE_OF_AGE, day)
    assert not is_due(1, 1, 0, day / SHARE_OF_AGE - 1, day)


def test_a_burst_is_waited_out_and_a_steady_rate_is_not() -> None:
    assert not is_due(5 * LEAST_EVENTS, LEAST_EVENTS, 0, 0, 86400)
    assert is_due(10 * LEAST_EVENTS, LEAST_EVENTS, 0, 0, 86400)


async def is_due_now(bus: Bus) -> bool:
    return due(await bus.stream(), await newest(bus))


def test_a_history_that_grows_old_is_due_by_the_servers_clock(server: NatsServer) -> None:
    async def scenario(log: Log) -> None:
        assert not await is_due_now(log.bus)
        await log.append(5)
        assert not await is_due_now(log.bus)
        await keep_for(log.bus, 10)
        while not await is_due_now(log.bus):  # 1 s, by whole seconds
            await asyncio.sleep(0.05)
        await take(log.bus)
        assert not await is_due_now(log.bus)

    run(server, random.Random(5), scenario)


@pytest.mark.parametrize(
    ("end", "first", "snapshots", "base", "covered"),
    [
        (0, 1, [], 0, 0),
        (7, 1, [], 0, 0),
        (7, 1, [5], 5, 0),
        (7, 1, [5, 8], 5, 0),
        (7, 3, [], None, None),
        (7, 6, [5], 5, 5),
        (7, 7, [5], None, None),
        (7, 3, [5, 7], 7, 5),
        (5, 9, [5, 12], 5, 12),
        (6, 9, [5, 12], None, 12),
    ],
)
def test_a_moment_is_read_from_the_newest_snapshot_that_the_history_reaches(
    end: int, first: int, snapshots: list[int], base: int | None, covered: int | None
) -> None:
    assert base_of(end, first, snapshots) == (base, covered)
