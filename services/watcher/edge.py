"""Following a source: what it contains goes into the inventory, and the differences from the log are appended."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from services.watcher.core import differences
from services.watcher.inventory import Inventory, Observation
from services.watcher.kinds.reader import Document
from weir.decider import World
from weir.events import AnyEvent

Appending = Callable[[Sequence[AnyEvent]], None]  # called with the events that are about to be appended


class Source(Protocol):
    """A cluster, or folders: iterating yields everything there is, then each change, without end."""

    def __aiter__(self) -> AsyncIterator[Observation[Document]]:
        """The first observation is complete."""


class Proposer(Protocol):
    """The runner, as far as it is used here."""

    async def propose(self, decide: Callable[[World], Iterable[AnyEvent]]) -> None:
        """Append what `decide` makes of the world; return once the log has it."""


async def follow(source: Source, inventory: Inventory, appending: Appending, runner: Proposer) -> None:
    """Append the differences between the source and the log, without end."""
    async for seen in source:
        readings = inventory.read(seen) if seen.small else await asyncio.to_thread(inventory.read, seen)
        await runner.propose(partial(_differences, inventory, inventory.take(readings), appending))


def nobody(_: Sequence[AnyEvent]) -> None:
    """Needs to know of no event."""


def _differences(inventory: Inventory, units: Sequence[str] | None, appending: Appending, world: World) -> list[AnyEvent]:
    events = differences(world, inventory, units)
    appending(events)
    return events
