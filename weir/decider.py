"""The fold and the step: how events become a world, and how a core's decisions become events.

A world is one dict, entity key -> last event, with indexes derived from it here and nowhere else.  `Fold` is the runner without
I/O: it takes events in log order, lets the core decide, and holds the decisions as guesses until the log has them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from weir.events import AnyEvent, Event, author_of, key_of

E = TypeVar("E", bound=Event)
_CLASS = ""  # the name of the index that every world has

PENDING = 2**63 - 1  # the sequence of a fact that the log does not have yet
Index = Callable[[AnyEvent], Iterable[str]]


class BySequence:
    """An index by place in the log, of events of some classes: `World.between` finds them by it, and no word does."""

    def __init__(self, *kinds: type[Event]) -> None:
        self.kinds = kinds

    def __call__(self, _: AnyEvent) -> Iterable[str]:
        """No word."""
        return ()


class Fact(NamedTuple):
    """An event and its place in the log.  key: its entity's, where whoever made the fact knew it; see `entity_of`."""

    seq: int
    event: AnyEvent
    key: str = ""


class Change(NamedTuple):
    """A change of one entity; `before` is its event until now."""

    key: str
    before: AnyEvent | None
    fact: Fact


class World:
    """Last event per entity, and indexes over them.

    indexes: name -> function that returns the words under which an event is found; run once per event, in both directions.
    """

    def __init__(self, indexes: Mapping[str, Index] | None = None) -> None:
        self.facts: dict[str, Fact] = {}
        self._functions: dict[str, Index] = {**(indexes or {}), _CLASS: _class_of}
        self._numbered = tuple(kind for index in (indexes or {}).values() if isinstance(index, BySequence) for kind in index.kinds)
        self._at: dict[int, str] = {}  # sequence -> key, of events of these classes
        # Most words list one key: it stands alone there, a set of it would take four times the memory.
        self._found: dict[str, dict[str, str | set[str]]] = {name: {} for name in self._functions}

    def evolve(self, fact: Fact) -> Change:
        """Record an event; an entity whose last event is `gone` is dropped.  Never refuses."""
        key = entity_of(fact)
        before = self.facts.pop(key, None)
        if before:
            self._at.pop(before.seq, None)
            self._unindex(key, before.event)
        if not fact.event.gone:
            self.facts[key] = fact if fact.key else fact._replace(key=key)
            self._number(key, fact)
            self._index(key, fact.event)
        return Change(key, before.event if before else None, fact)

    def settle(self, key: str, fact: Fact) -> None:
        """Replace the guess at `key` by the event that the log has stored."""
        self.facts[key] = fact
        self._number(key, fact)

    def between(self, after: int, upto: int) -> list[AnyEvent]:
        """Return the events of a `BySequence` index with a sequence above `after`, up to `upto`; costs the lesser of the two numbers."""
        if upto - after > len(self._at):
            keys = [self._at[seq] for seq in sorted(self._at) if after < seq <= upto]
        else:
            keys = [self._at[seq] for seq in range(after + 1, upto + 1) if seq in self._at]
        return [self.facts[key].event for key in keys]

    def get(self, key: str) -> AnyEvent | None:
        """Return the last event of an entity, None when there is none or it is gone."""
        fact = self.facts.get(key)
        return fact.event if fact else None

    def find(self, index: str, word: str, kind: type[E]) -> list[E]:
        """Return the events of class `kind` that `index` lists under `word`, by key."""
        keys = self._found[index].get(word)
        if not keys:
            return []
        if isinstance(keys, str):
            event = self.facts[keys].event
            return [event] if isinstance(event, kind) else []
        events = (self.facts[key].event for key in sorted(keys))
        return [event for event in events if isinstance(event, kind)]

    def listed(self, index: str, word: str) -> dict[str, AnyEvent]:
        """Entity key -> event of all that `index` lists under `word`, by key."""
        keys = self._found[index].get(word, ())
        return {key: self.facts[key].event for key in ((keys,) if isinstance(keys, str) else sorted(keys))}

    def count(self, index: str, word: str) -> int:
        """Count the events that `index` lists under `word`, without reading them."""
        keys = self._found[index].get(word, ())
        return 1 if isinstance(keys, str) else len(keys)

    def of(self, kind: type[E]) -> list[E]:
        """Return every event of class `kind`, by key."""
        return self.find(_CLASS, kind.__name__, kind)

    def seq(self, event: Event) -> int:
        """Return the sequence of the last event about the entity of `event`; 0 when there is none."""
        fact = self.facts.get(key_of(event))
        return fact.seq if fact else 0

    def newest(self, keys: Iterable[str]) -> int:
        """Return the latest sequence of the entities at `keys` that the log has; 0 when there is none."""
        found = (fact.seq for key in keys if (fact := self.facts.get(key)) and fact.seq != PENDING)
        return max(found, default=0)

    def words(self, index: str) -> list[str]:
        """Return every word of `index`, sorted."""
        return sorted(self._found[index])

    def _number(self, key: str, fact: Fact) -> None:
        if fact.seq != PENDING and isinstance(fact.event, self._numbered):
            self._at[fact.seq] = key

    def _index(self, key: str, event: AnyEvent) -> None:
        for name, words_of in self._functions.items():
            for word in words_of(event):
                found = self._found[name]
                keys = found.setdefault(word, key)
                if isinstance(keys, set):
                    keys.add(key)
                elif keys != key:
                    found[word] = {keys, key}

    def _unindex(self, key: str, event: AnyEvent) -> None:
        for name, words_of in self._functions.items():
            for word in set(words_of(event)):
                keys = self._found[name][word]
                if isinstance(keys, set):
                    keys.discard(key)
                if not keys or keys == key:
                    del self._found[name][word]


def _class_of(event: AnyEvent) -> Iterable[str]:
    return (type(event).__name__,)


class Decided(NamedTuple):
    """A decision on its way into the log; `cause` is the sequence that led to it.  key: as in `Fact`."""

    event: AnyEvent
    cause: int
    key: str = ""


def entity_of(item: Fact | Decided) -> str:
    """The key of its entity.  Computing it is a tenth of what a cold start costs, so it is passed on where it is known."""
    return item.key or key_of(item.event)


class Core(Protocol):
    """What a service decides.  Both functions are pure and idempotent: deciding again what the world holds yields nothing."""

    @property
    def indexes(self) -> Mapping[str, Index]:
        """Indexes the world is to keep."""

    def decide(self, world: World, changes: Sequence[Change]) -> Iterable[Decided]:
        """Decide on `changes`, in log order; the world has all of them already, so states in between are skipped.

        Whatever is yielded is in the world when the next is asked for.
        """

    def reconcile(self, world: World) -> Iterable[Decided]:
        """Decide on the world as a whole; run once after catching up, to recover from a crash before an append.

        The cause of a decision is the newest event that it depends on, or 0.
        Here, too, a decision is in the world at once: a Service may get what another has just released.
        """


def one_by_one(world: World, changes: Iterable[Change], decide: Callable[[World, Change], Iterable[AnyEvent]]) -> Iterator[Decided]:
    """`Core.decide` of a core that takes one change after the other; what it decides on one is complete before it is in the world."""
    for change in changes:
        for event in list(decide(world, change)):
            yield Decided(event, change.fact.seq)


class Recorder:
    """A core that folds and decides nothing: the events of its service come from an edge."""

    def __init__(self, indexes: Mapping[str, Index] | None = None) -> None:
        self.indexes: Mapping[str, Index] = indexes or {}

    def decide(self, world: World, changes: Sequence[Change]) -> Iterable[Decided]:  # noqa: ARG002
        """Nothing."""
        return ()

    def reconcile(self, world: World) -> Iterable[Decided]:  # noqa: ARG002
        """Nothing."""
        return ()


class Fold:
    """A core's world, kept in step with the log.

    Own events enter the world when decided, as guesses with sequence PENDING, and get their sequence by `acked`.
    They come back from the log later and are recognised by sequence, not author: an event of an earlier life is new.
    After a refusal the whole fold is discarded and read again.
    """

    def __init__(self, core: Core, author: str) -> None:
        self._core = core
        self._author = author
        self._own: set[int] = set()
        self.world = World(core.indexes)
        self.position = 0  # last sequence heard
        self.last = 0  # the author's own last sequence, as far as heard or acked

    def load(self, fact: Fact) -> None:
        """Fold an event of the past; it is never decided on again."""
        self.world.evolve(fact)
        self._passed(fact)

    def knows(self, seq: int) -> bool:
        """Whether this fold appended the event at `seq` and has not received it back yet."""
        return seq in self._own

    def caught_up(self) -> list[Decided]:
        """Decisions that are owed once the past is read; none, unless a life ended between deciding and appending."""
        return self._guess(self._core.reconcile(self.world))

    def hear(self, facts: Iterable[Fact]) -> tuple[list[Decided], list[Change]]:
        """Fold new events; return decisions and changes.  Own events that come back change nothing."""
        changes = [change for fact in facts if (change := self._evolve(fact))]
        return self._guess(self._core.decide(self.world, changes)), changes

    def _evolve(self, fact: Fact) -> Change | None:
        if fact.seq in self._own:
            self._own.discard(fact.seq)
            self.position = fact.seq
            return None
        change = self.world.evolve(fact)
        self._passed(fact)
        return change

    def acked(self, decided: Iterable[Decided], first: int) -> None:
        """Record that the log has stored `decided` at `first`, `first` + 1 …"""
        for seq, item in enumerate(decided, first):
            self.last = seq
            self._own.add(seq)
            key = entity_of(item)
            held = self.world.facts.get(key)
            if held and held.event is item.event:
                self.world.settle(key, Fact(seq, item.event, key))

    def _passed(self, fact: Fact) -> None:
        self.position = fact.seq
        if author_of(fact.event) == self._author:
            self.last = max(self.last, fact.seq)

    def propose(self, events: Iterable[AnyEvent], cause: int = 0) -> list[Decided]:
        """Add decisions, of the core or of an edge, to the world as guesses, to be appended next."""
        return self._guess(Decided(event, cause) for event in events)

    def _guess(self, items: Iterable[Decided]) -> list[Decided]:
        return [item._replace(key=self.world.evolve(Fact(PENDING, item.event)).key) for item in items]
