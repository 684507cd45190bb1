"""Repeats facts of others in the log, as a duplicate delivery or a second, stale writer would: run in the LB's namespace."""

import asyncio
import sys

from weir.bus import Bus
from weir.cli.history import entries
from weir.decider import Decided
from weir.events import AppliedThrough, EndpointSliceObserved, ServiceObserved, author_of
from weir.reader import Refused
from weir.service import Where


async def main(instance: str) -> None:
    """Every observation and ack once more; and an append with a stale fence, which must be refused."""
    async with await Bus.connect(Where(instance).nats_url(), "repeat") as bus:
        found = [entry async for entry in entries(bus, 1)]
        last = {entry.key: entry for entry in found}
        for entry in last.values():
            event = entry.fact.event
            if isinstance(event, ServiceObserved | EndpointSliceObserved | AppliedThrough):
                author = author_of(event)
                await bus.append(author, [Decided(event, 0)], await bus.last(author))
        stale = next(entry.fact.event for entry in found if isinstance(entry.fact.event, ServiceObserved))
        try:
            await bus.append("watcher", [Decided(stale, 0)], 1)
        except Refused:
            return
        raise SystemExit("a stale append was taken")


asyncio.run(main(sys.argv[1]))
