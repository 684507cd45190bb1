"""The fence of appends against the model of the log: whatever overlaps, an append is stored only if it knows all of its author's events."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from tests.sim.log_model import LogModel
from tests.sim.sessions import AUTHOR, Session, Sessions
from weir.bus.appends import BATCH
from weir.bus.reader import Refused
from weir.bus.subjects import Expected, epoch_key, subtree
from weir.decider import Decided
from weir.events import EpochStarted

HOUR_S = 3600


class Bus:
    """The model behind the interface of `weir.bus.client.Bus`; `asked` holds what each append expected."""

    def __init__(self) -> None:
        self.log = LogModel()
        self.asked: list[list[Expected]] = []

    async def last(self, author: str) -> int:
        return self.log.last(subtree(author, 0).key)

    async def epoch(self, author: str) -> int:
        return self.log.last(epoch_key(author))

    async def stream(self) -> dict[str, Any]:
        return {"config": {"max_age": HOUR_S * 1_000_000_000}}

    async def append(self, author: str, decided: Sequence[Decided], last: int, expected: Sequence[Expected]) -> int:
        assert 0 < len(decided) <= BATCH + 1
        self.asked.append(list(expected))
        return self.log.store(author, decided, last, expected)


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock stands until it is set."""

    now_s = 0.0

    def time(self) -> float:
        return self.now_s


@pytest.mark.parametrize("first", range(0, 600, 100))
def test_an_append_is_stored_only_if_it_knows_all_events_of_its_author(first: int) -> None:
    stored = refused = 0
    for seed in range(first, first + 100):
        dice = random.Random(seed)

        async def scenario(dice: random.Random = dice) -> Sessions:
            bus = Bus()
            sessions = Sessions(bus, dice)
            for _ in range(60):
                await sessions.step()
                if dice.random() < 0.05:
                    bus.log.expire()
            await sessions.end()
            return sessions

        found = asyncio.run(scenario())
        stored, refused = stored + found.stored, refused + found.refused
    assert stored > 50, "nothing late was ever stored: the test is too kind"
    assert refused > 500, "nothing late was ever refused: the test is too kind"


def test_only_the_first_append_of_a_session_compares_all_that_the_author_wrote() -> None:
    async def scenario() -> tuple[Bus, int]:
        bus = Bus()
        session = await Sessions(bus, random.Random(1)).begin()
        for _ in range(3):
            await session.append(random.Random(1))
        return bus, await bus.epoch(AUTHOR)

    bus, epoch = asyncio.run(scenario())
    own = epoch_key(AUTHOR)
    assert bus.asked == [[Expected(own, 0), subtree(AUTHOR, 0)], [Expected(own, epoch)], [Expected(own, epoch)]]


def test_an_epoch_is_renewed_before_the_history_drops_its_start() -> None:
    loop = Loop()

    async def scenario() -> list[int]:
        bus = Bus()
        session = await Sessions(bus, random.Random(1)).begin()
        for minute in range(0, 121, 20):
            loop.now_s = minute * 60.0
            await session.append(random.Random(1))
        return [entry.fact.seq for entry in bus.log.entries if isinstance(entry.fact.event, EpochStarted)]

    try:
        assert len(loop.run_until_complete(scenario())) == 4, "at 0, 40, 80 and 120 minutes of an hour"
    finally:
        loop.close()


def test_an_expired_epoch_ends_its_session_and_no_other() -> None:
    async def scenario() -> None:
        bus = Bus()
        sessions = Sessions(bus, random.Random(1))
        old = await sessions.begin()
        await old.append(random.Random(1))
        bus.log.expire()
        with pytest.raises(Refused):
            await old.append(random.Random(1))
        await (await sessions.begin()).append(random.Random(1))
        with pytest.raises(Refused):
            await old.append(random.Random(1))

    asyncio.run(scenario())


def test_a_session_that_appends_nothing_shuts_nobody_out() -> None:
    async def scenario() -> None:
        sessions = Sessions(Bus(), random.Random(1))
        first = await sessions.begin()
        await first.append(random.Random(1))
        idle: Session = await sessions.begin()
        await first.append(random.Random(1))
        with pytest.raises(Refused):
            await idle.append(random.Random(1))  # it has not read what came meanwhile
        await first.append(random.Random(1))

    asyncio.run(scenario())
