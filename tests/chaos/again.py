"""Appends facts of the log once more, in their authors' names: three times each, or from a fold that is behind.  Prints how many."""

import asyncio
import contextlib
import sys

from weir.bus.client import Bus
from weir.bus.reader import Refused
from weir.bus.writer import Writer
from weir.decider import Decided
from weir.events import AnyEvent, author_of
from weir.view.history import entries
from weir.where import Where

TRIES = 20  # the author whose name is used writes too


async def main(instance: str, what: str, order: str) -> int:
    async with await Bus.connect(Where(instance).nats_url(), "again") as bus:
        found = [entry async for entry in entries(bus, 1)]
        last = [entry.fact.event for entry in {entry.key: entry for entry in found}.values()]
        if what == "stale":
            plan = [entry.fact for entry in found if author_of(entry.fact.event) == "planner"]
            return sum([await taken(bus, fact.event, fact.seq) for fact in plan[:-1]])
        facts = [event for _ in range(3) for event in (last if order == "as they came" else reversed(last))]
        return sum([await insisted(bus, event) for event in facts])


async def taken(bus: Bus, event: AnyEvent, last: int) -> bool:
    with contextlib.suppress(Refused):
        return bool(await Writer(bus, author_of(event)).append([Decided(event, 0)], last))
    return False


async def insisted(bus: Bus, event: AnyEvent) -> bool:
    for _ in range(TRIES):
        if await taken(bus, event, await bus.last(author_of(event))):
            return True
    raise SystemExit(f"{event} was refused {TRIES} times")


print(asyncio.run(main(*sys.argv[1:])))
