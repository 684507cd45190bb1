"""Readers of the log: how many there may be at one time, and when one is lost."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import pytest

from tests.nats_server import nats_server
from weir.bus import streams
from weir.bus.client import Bus, as_it_is
from weir.bus.reader import LogCrowded, LogUnreachable, Pull
from weir.decider import Decided
from weir.events import ServiceGone
from weir.model import Root

GONE = ServiceGone(root=Root(kind="Service", namespace="shop", name="web"))


def test_one_reader_too_many_is_refused_by_name_and_disturbs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_READERS", 5)

    async def scenario(url: str) -> None:
        async with await Bus.connect(url, "watcher") as bus, AsyncExitStack() as open_ones:
            await streams.ensure_streams(bus)
            pulls = [await open_ones.enter_async_context(bus.follow(0)) for _ in range(5)]
            with pytest.raises(LogCrowded, match="maximum consumers limit reached: a client opens too many consumers"):
                await open_ones.enter_async_context(bus.follow(0))
            await bus.append("watcher", [Decided(GONE, 0)], 0)
            for pull in pulls:
                (entry,) = await pull.next()
                assert entry.fact.event == GONE
            async with bus.mirror(0) as pull:
                while not await pull.next():
                    pass
            await open_ones.aclose()
            async with bus.follow(0) as again:
                assert await again.next()

    with nats_server(tmp_path) as server:
        asyncio.run(scenario(server.url))


@pytest.mark.parametrize("flushed", [False, True])
def test_a_reader_is_not_lost_while_its_process_computes(tmp_path: Path, flushed: bool) -> None:
    """As a start does that decides on thousands of Services; its first request may still be in the client's buffer meanwhile."""

    async def scenario(url: str) -> None:
        async with await Bus.connect(url, "watcher") as bus:
            await streams.ensure_streams(bus)
            async with bus.follow(0) as pull:
                if flushed:
                    await asyncio.sleep(0)
                time.sleep(4)
                waiting = asyncio.ensure_future(pull.next())
                await asyncio.wait({waiting}, timeout=2.5)
                assert not waiting.done(), waiting.exception()
                await bus.append("watcher", [Decided(GONE, 0)], 0)
                (entry,) = await waiting
                assert entry.fact.event == GONE

    with nats_server(tmp_path) as server:
        asyncio.run(scenario(server.url))


class Mute:
    """A connection whose server answers requests and sends nothing by itself."""

    api = "$JS.API."
    headers: ClassVar[dict[str, str]] = {}
    data = b'{"num_pending": 0}'

    def new_inbox(self) -> str:
        return "_INBOX.mute"

    async def subscribe(self, *_: object, **__: object) -> Self:
        return self

    async def unsubscribe(self) -> None:
        return

    async def publish(self, *_: object, **__: object) -> None:
        return

    async def request(self, *_: object, **__: object) -> Self:
        return self


def test_a_reader_that_waits_and_hears_no_heartbeat_is_lost() -> None:
    async def scenario() -> None:
        async with Pull(cast("Any", Mute()), "WEIR", 1, prefix="weir.", filters=(), read=as_it_is) as pull:
            with pytest.raises(LogUnreachable, match="WEIR: reader is silent"):
                await pull.next()

    asyncio.run(scenario())
