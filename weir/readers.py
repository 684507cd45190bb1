"""Who reads the log, and which events each reader knows.

A reader counts once it has announced itself; one of an LB node, until that node is retired.
"""

from collections.abc import Iterable
from typing import Final

from weir.decider import World
from weir.events import AnyEvent, Event, NodeSeen, ReaderAnnounced, tag_of
from weir.lbnodes import RETIRED, retired_at

# What a world must hold for the functions below.
ABOUT_READERS: Final[tuple[type[Event], ...]] = (ReaderAnnounced, NodeSeen, *RETIRED)


def announcement(author: str, node: str, kinds: Iterable[str]) -> ReaderAnnounced:
    """Return what this version announces as a reader of `kinds`."""
    read = frozenset(kinds)
    knows = (tag_of(event) for event in AnyEvent.__args__ if event.kind in read)
    return ReaderAnnounced(writer=author, lbnode=node, kinds=tuple(sorted(read)), knows=tuple(sorted(knows)))


def without(world: World, event: type[Event]) -> list[str]:
    """Return the readers that subscribe to the kind of `event` and do not know its type."""
    tag = tag_of(event)
    readers = (each for each in world.of(ReaderAnnounced) if event.kind in each.kinds and tag not in each.knows)
    return [each.writer for each in readers if _counts(world, each)]


def _counts(world: World, reader: ReaderAnnounced) -> bool:
    if not reader.lbnode:
        return True
    seen = NodeSeen(node=reader.lbnode, hook="", layout=0, interfaces=())
    return max(world.seq(reader), world.seq(seen)) > retired_at(world, reader.lbnode)
