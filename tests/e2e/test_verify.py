"""A log on a real NATS that is not as it must be: verify tells each fault and reads on behind it."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from bench.replay import connect, history, server
from weir.bus.appends import BATCH
from weir.bus.client import Bus
from weir.bus.streams import ensure_streams
from weir.cli.log.verify import verify
from weir.decider import Decided
from weir.events import ENCODE, author_of, key_of
from weir.view.history import world_at

COUNT = 1200


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with server(tmp_path) as found:
        monkeypatch.setitem(os.environ, "WEIR_NATS", found)
        yield found


async def fill(bus: Bus) -> None:
    """COUNT facts in batches of two authors."""
    await ensure_streams(bus, max_bytes=1 << 24)
    fences: dict[str, int] = {}
    facts = list(history(COUNT))
    for at in range(0, COUNT, BATCH // 5):
        part = facts[at : at + BATCH // 5]
        author = author_of(part[0])
        first = await bus.append(author, [Decided(fact, 0) for fact in part], fences.get(author, 0))
        fences[author] = first + len(part) - 1


async def forge(url: str) -> None:
    """An unknown type, a fact under another's subject, and one that follows no fence of its author."""
    nats = Client()
    await nats.connect(url)
    fact = next(history(1))
    await nats.request("weir.local.watcher.service.shop.forged", b'{"type":"made_up"}', timeout=10)
    await nats.request("weir.local.watcher.service.shop.other", ENCODE(fact), timeout=10)
    await nats.request(f"weir.local.{key_of(fact)}", ENCODE(fact), headers={"Nats-Msg-Id": "weir.local.watcher.7.1"}, timeout=10)
    await nats.close()


def test_sound_log_has_no_fault(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def given() -> None:
        async with await connect(url) as bus:
            await fill(bus)

    asyncio.run(given())
    assert verify("weirverify", None, "table") == 0
    assert f"no faults in {COUNT} events up to {COUNT}" in capsys.readouterr().out


def test_each_forged_fact_is_told_and_the_rest_still_read(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def given() -> None:
        async with await connect(url) as bus:
            await fill(bus)
        await forge(url)

    asyncio.run(given())
    assert verify("weirverify", None, "table") == 1
    out = capsys.readouterr().out
    for number, words in enumerate(("made_up", "misplaced", "was appended behind event 7"), COUNT + 1):
        assert any(line.startswith(str(number)) and words in line for line in out.splitlines()), out
    assert f"3 faults in {COUNT + 3} events" in out


def test_world_of_a_moment_needs_no_fact_that_came_after(url: str) -> None:
    """What cannot be understood stands behind the moment, so it does not matter."""

    async def given() -> int:
        async with await connect(url) as bus:
            await fill(bus)
            await forge(url)
            world, last = await world_at(bus, str(COUNT))
            assert last == COUNT
            return len(world.facts)

    assert asyncio.run(given()) == len({key_of(fact) for fact in history(COUNT)})
