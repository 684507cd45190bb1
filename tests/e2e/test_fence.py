"""The fence of appends on a real NATS: sessions that overlap, epochs whose start has expired, three servers with appends in flight."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_log_cluster import CLIENTS, three
from tests.log_server import LogServer
from tests.nats_server import NatsServer, keep_for, nats_server
from tests.sim.sessions import AUTHOR, Session, Sessions
from weir.bus.appends import Appends
from weir.bus.client import Bus
from weir.bus.reader import Refused, read
from weir.bus.streams import ensure_streams
from weir.bus.subjects import STREAM
from weir.cli.log.verify import Audit
from weir.decider import Decided
from weir.events import EpochStarted, VipFreed
from weir.model import Root

ROUNDS = 50


class UniqueAppends(Appends):
    """Ids are never the same: for two minutes the server refuses most of what is late by its id alone, and that is not under test."""

    def _headers(self, author: str, last: int, batch: str, index: int, count: int, cause: int) -> dict[str, str]:
        headers = super()._headers(author, last, batch, index, count, cause)
        return headers | {"Nats-Msg-Id": f"{os.urandom(6).hex()}.{headers['Nats-Msg-Id']}"}


class Unique(Bus):
    """A connection with such appends."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._appends = UniqueAppends(self._nc, self.prefix)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as found:
        yield found


def run(server: NatsServer, scenario: Callable[[Bus], Awaitable[None]]) -> None:
    async def main() -> None:
        async with await Unique.connect(server.url, AUTHOR) as bus:
            await ensure_streams(bus)
            await scenario(bus)

    asyncio.run(main())


async def audit(bus: Bus) -> tuple[list[str], int]:
    """What is wrong with the history, and how many epochs it has."""
    state = (await bus.stream())["state"]
    found, epochs = Audit(state["first_seq"]), 0
    async with bus.unread(state["first_seq"] - 1) as pull:
        while pull.pending:
            for message in await pull.next():
                found.hear(message)
                epochs += isinstance(read(message).fact.event, EpochStarted)
    return [fault.fault for fault in found.faults], epochs


@pytest.mark.parametrize("seed", range(6))
def test_an_append_is_stored_only_if_it_knows_all_events_of_its_author(server: NatsServer, seed: int) -> None:
    async def scenario(bus: Bus) -> None:
        sessions = Sessions(bus, random.Random(seed))
        for _ in range(150):
            await sessions.step()
        await sessions.end()
        faults, epochs = await audit(bus)
        assert faults == []
        assert epochs > 3
        assert sessions.refused > 10

    run(server, scenario)


def test_an_epoch_whose_start_has_expired_ends_its_session_alone(server: NatsServer) -> None:
    dice = random.Random(1)

    async def scenario(bus: Bus) -> None:
        sessions = Sessions(bus, dice)
        old = await sessions.begin()
        await old.append(dice)
        await keep_for(bus, 1)
        await expired(bus)
        with pytest.raises(Refused):
            await old.append(dice)
        await keep_for(bus, 3600)
        new = await sessions.begin()
        assert new.last == 0
        await new.append(dice)
        with pytest.raises(Refused):
            await old.append(dice)
        await new.append(dice)
        assert await audit(bus) == ([], 1)

    run(server, scenario)


async def expired(bus: Bus) -> None:
    """All that the history held is gone."""
    async with asyncio.timeout(60):
        while (await bus.stream(STREAM))["state"]["messages"]:
            await asyncio.sleep(0.1)


def test_a_new_epoch_is_refused_while_three_servers_have_an_append_of_the_old_one_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader compares with what it has applied, not with what it has proposed; but it refuses two that expect the same subject."""
    dice = random.Random(1)

    async def scenario(url: str) -> None:
        async with await Unique.connect(url, AUTHOR) as bus:
            for _ in range(ROUNDS):
                old = Session(bus, await bus.last(AUTHOR))
                await old.append(dice)
                new = Session(bus, await bus.last(AUTHOR))
                await new.way.prepare(AUTHOR)
                with before_commit(bus, lambda old=old: old.append(dice, 1)) as first, pytest.raises(Refused, match="wrong last sequence"):
                    await new.append(dice)
                await first[0]
            assert (await audit(bus))[0] == []

    with three(tmp_path) as servers:
        server = LogServer(servers.keys, ",".join(f"nats://localhost:{port}" for port in CLIENTS[:3]), tmp_path)
        create = [sys.executable, "-m", "weir.cli", "log", "create", "--replicas", "3", "--size", "16MiB", "--timeout=2m"]
        subprocess.run(create, env=server.environment("bootstrap.seed"), check=True, capture_output=True, timeout=200)
        for name, value in server.environment("ipam.seed").items():
            monkeypatch.setenv(name, value)
        asyncio.run(scenario(server.url))


@contextmanager
def before_commit(bus: Bus, act: Callable[[], Awaitable[None]]) -> Iterator[list[asyncio.Future[None]]]:
    """Sends what `act` does between the last two messages of the next batch."""
    publish, acting = bus._nc.publish, list[asyncio.Future[None]]()

    async def between(subject: str, body: bytes, *, reply: str = "", headers: dict[str, str] | None = None) -> None:
        if not acting and "Nats-Batch-Commit" in (headers or {}):
            acting.append(asyncio.ensure_future(act()))
            await asyncio.sleep(0)
        await publish(subject, body, reply=reply, headers=headers)

    bus._nc.publish = between
    try:
        yield acting
    finally:
        bus._nc.publish = publish


def test_a_single_append_without_an_epoch_compares_everything(server: NatsServer) -> None:
    """As `weir leave` does it."""
    freed = Decided(VipFreed(vip="192.0.2.1", pool="p", holders=(), root=Root(kind="Service", name="web")), 0)

    async def scenario(bus: Bus) -> None:
        session = await Sessions(bus, random.Random(1)).begin()
        await session.append(random.Random(1))
        with pytest.raises(Refused):
            await bus.append(AUTHOR, [freed], session.last - 1)
        await bus.append(AUTHOR, [freed], session.last)

    run(server, scenario)
