"""How many may read the log at one time."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.nats_server import nats_server
from weir.bus import streams
from weir.bus.client import Bus
from weir.bus.reader import LogCrowded
from weir.decider import Decided
from weir.events import ServiceGone
from weir.model import Root


def test_one_reader_too_many_is_refused_by_name_and_disturbs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_READERS", 5)

    async def scenario(url: str) -> None:
        async with await Bus.connect(url, "watcher") as bus, AsyncExitStack() as open_ones:
            await streams.ensure_streams(bus)
            pulls = [await open_ones.enter_async_context(bus.follow(0)) for _ in range(5)]
            with pytest.raises(LogCrowded, match="maximum consumers limit reached: somebody opens reader after reader"):
                await open_ones.enter_async_context(bus.follow(0))
            event = ServiceGone(root=Root(kind="Service", namespace="shop", name="web"))
            await bus.append("watcher", [Decided(event, 0)], 0)
            for pull in pulls:
                (entry,) = await pull.next()
                assert entry.fact.event == event
            async with bus.mirror(0) as pull:
                while not await pull.next():
                    pass
            await open_ones.aclose()
            async with bus.follow(0) as again:
                assert await again.next()

    with nats_server(tmp_path) as server:
        asyncio.run(scenario(server.url))
