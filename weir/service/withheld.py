"""What a writer withholds: events that a reader of their kind would not understand.

Readers are upgraded before writers, but not always: such a reader would stop at the first event of a type that it does not know.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import structlog

from weir.decider import Change, Decided, World
from weir.events import Event, tag_of
from weir.readers import ABOUT_READERS, without
from weir.words import few

log = structlog.get_logger()


class Withheld:
    """What one session withholds.  It is in the session's world as if the log had it."""

    def __init__(self, author: str) -> None:
        self._author = author
        self._readers: dict[type[Event], list[str]] = {}  # that do not know the type
        self._events = Counter[type[Event]]()

    def passed(self, world: World, decided: Iterable[Decided]) -> list[Decided]:
        """Return what all its readers know, and withhold the rest."""
        passed = []
        for item in decided:
            event = type(item.event)
            if event not in self._readers:
                self._readers[event] = without(world, event)
            if not self._readers[event]:
                passed.append(item)
                continue
            if event not in self._events:
                log.warning("events_withheld", service=self._author, type=tag_of(event), readers=self._readers[event])
            self._events[event] += 1
        return passed

    def released(self, world: World, changes: Sequence[Change]) -> bool:
        """Whether, after these changes, all readers know a type that was withheld."""
        if not any(isinstance(change.fact.event, ABOUT_READERS) for change in changes):
            return False
        self._readers = {event: without(world, event) for event in self._events}
        return not all(self._readers.values())

    def __str__(self) -> str:
        """Say what is withheld and what ends that; "" where nothing is."""
        if not self._events:
            return ""
        events = ", ".join(sorted(f"{count} {tag_of(event)}" for event, count in self._events.items()))
        readers = sorted({reader for event in self._events for reader in self._readers[event]})
        return f"withholds {events}: not known to {few(readers)}; upgrade it, or retire its node"
