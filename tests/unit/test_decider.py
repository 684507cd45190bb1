"""World and Fold: indexes that never drift, folds that need only the last fact per entity, guesses that become facts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.decider import PENDING, BySequence, Change, Decided, Fact, Fold, Index, World, one_by_one
from weir.events import (
    AnyEvent,
    Event,
    NodeObserved,
    PoolObserved,
    ServiceGone,
    ServiceObserved,
    VipAllocated,
    VipFreed,
    VipPlanned,
    VipWithdrawn,
    key_of,
)
from weir.model import Root

NAMES = st.sampled_from(["a", "b", "c"])
WORDS = st.lists(st.sampled_from(["x", "y", "z"]), max_size=4).map(tuple)


def root(name: str) -> Root:
    return Root(kind="Service", name=name, namespace="ns")


def exposed(name: str, *requested: str) -> ServiceObserved:
    return ServiceObserved(root=root(name), exposed=True, requested=requested)


def vip(name: str, *services: str) -> VipAllocated:
    return VipAllocated(vip=name, pool="p", holders=services, root=root(name))


def freed(name: str) -> VipFreed:
    return VipFreed(vip=name, pool="p", holders=(), root=root(name))


EVENTS = st.one_of(
    st.builds(lambda name, words: exposed(name, *words), NAMES, WORDS),
    st.builds(lambda name: ServiceGone(root=root(name)), NAMES),
    st.builds(lambda name, words: vip(name, *words), NAMES, WORDS),
    st.builds(freed, NAMES),
    st.builds(lambda name, words: NodeObserved(root=root(name), addresses=words), NAMES, WORDS),
)


def words_of(event: AnyEvent) -> Iterable[str]:
    match event:
        case ServiceObserved(requested=words) | VipAllocated(holders=words) | NodeObserved(addresses=words):
            return words
    return ()


INDEXES: Mapping[str, Index] = {"words": words_of, "name": lambda event: (event.entity()[1],)}


def log_of(events: Iterable[AnyEvent]) -> list[Fact]:
    return [Fact(seq, event) for seq, event in enumerate(events, 1)]


def fold(facts: Iterable[Fact]) -> World:
    world = World(INDEXES)
    for fact in facts:
        world.evolve(fact)
    return world


def seen(world: World) -> dict[str, dict[str, list[Event]]]:
    """Everything that an index shows."""
    return {index: {word: world.find(index, word, Event) for word in world.words(index)} for index in INDEXES}


def last_per_entity(facts: Iterable[Fact]) -> list[Fact]:
    return sorted({key_of(fact.event): fact for fact in facts}.values())


# ── World ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(EVENTS, max_size=30))
def test_indexes_equal_a_search_through_everything(events: list[AnyEvent]) -> None:
    world = fold(log_of(events))
    held = [world.facts[key].event for key in sorted(world.facts)]
    for index, function in INDEXES.items():
        assert world.words(index) == sorted({word for event in held for word in function(event)})
        for word in world.words(index):
            assert world.find(index, word, Event) == [event for event in held if word in function(event)]
    for kind in (ServiceObserved, VipAllocated, NodeObserved, PoolObserved):
        assert world.of(kind) == [event for event in held if isinstance(event, kind)]


@given(st.lists(EVENTS, max_size=30))
def test_last_fact_per_entity_gives_the_same_world(events: list[AnyEvent]) -> None:
    facts = log_of(events)
    whole, short = fold(facts), fold(last_per_entity(facts))
    assert whole.facts == short.facts
    assert seen(whole) == seen(short)


@given(st.lists(EVENTS, max_size=20), st.lists(EVENTS, max_size=20))
def test_state_first_and_history_after_gives_the_same_world(past: list[AnyEvent], rest: list[AnyEvent]) -> None:
    facts = log_of([*past, *rest])
    begun = fold([*last_per_entity(facts[: len(past)]), *facts[len(past) :]])
    assert begun.facts == fold(facts).facts
    assert seen(begun) == seen(fold(facts))


@given(st.lists(EVENTS, max_size=20))
def test_change_tells_what_the_entity_was(events: list[AnyEvent]) -> None:
    world, model = World(INDEXES), dict[str, AnyEvent]()
    for fact in log_of(events):
        change = world.evolve(fact)
        assert change == Change(key_of(fact.event), model.pop(change.key, None), fact)
        if not fact.event.gone:
            model[change.key] = fact.event


def test_word_given_twice_does_not_break_the_index() -> None:
    world = fold(log_of([NodeObserved(root=root("n"), addresses=("x", "x"))]))
    world.evolve(Fact(2, NodeObserved(root=root("n"), addresses=("y",))))
    assert world.words("words") == ["y"]


def test_entity_that_is_gone_leaves_nothing() -> None:
    world = fold(log_of([exposed("a", "x"), ServiceGone(root=root("a"))]))
    assert world.facts == {}
    assert [world.words(index) for index in INDEXES] == [[], []]
    assert world.seq(exposed("a")) == 0
    assert world.get(key_of(exposed("a"))) is None


def test_what_went_without_having_been_is_no_fault() -> None:
    change = World(INDEXES).evolve(Fact(1, ServiceGone(root=root("a"))))
    assert change.before is None


# ── Fold ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Giver:
    """A core that gives each exposed Service one VIP of its own name."""

    indexes: ClassVar[Mapping[str, Index]] = {}

    def decide(self, world: World, changes: Sequence[Change]) -> Iterable[Decided]:
        return one_by_one(world, changes, self._on)

    def _on(self, world: World, change: Change) -> Iterable[AnyEvent]:
        match change.fact.event:
            case ServiceObserved(root=at) if world.get(key_of(vip(at.name))) is None:
                return [vip(at.name, at.name)]
            case ServiceGone(root=at) if world.get(key_of(vip(at.name))):
                return [freed(at.name)]
        return ()

    def reconcile(self, world: World) -> Iterable[Decided]:
        return [
            Decided(vip(at.root.name, at.root.name), world.seq(at))
            for at in world.of(ServiceObserved)
            if world.get(key_of(vip(at.root.name))) is None
        ]


@pytest.fixture
def giver() -> Fold:
    return Fold(Giver(), "ipam")


def test_decision_is_a_guess_until_the_log_has_it(giver: Fold) -> None:
    decided, (change,) = giver.hear([Fact(1, exposed("a"))])
    assert [item[:2] for item in decided] == [(vip("a", "a"), 1)]
    assert change.before is None
    assert giver.world.seq(vip("a")) == PENDING
    giver.acked(decided, first=5)
    assert giver.world.seq(vip("a")) == 5
    assert giver.last == 5


def test_own_fact_come_back_is_recognised_once(giver: Fold) -> None:
    decided, _ = giver.hear([Fact(1, exposed("a"))])
    giver.acked(decided, first=2)
    assert giver.knows(2)
    assert giver.hear([Fact(2, vip("a", "a"))]) == ([], [])
    assert not giver.knows(2)
    assert giver.position == 2


def test_fact_in_our_name_from_an_earlier_life_is_news(giver: Fold) -> None:
    giver.hear([Fact(1, exposed("a"))])
    decided, (change,) = giver.hear([Fact(2, vip("a", "a"))])
    assert decided == []
    assert change.fact.seq == 2
    assert giver.world.seq(vip("a")) == 2
    assert giver.last == 2


def test_own_fact_come_back_late_does_not_undo_a_newer_guess(giver: Fold) -> None:
    decided, _ = giver.hear([Fact(1, exposed("a"))])
    giver.acked(decided, first=4)
    newer, _ = giver.hear([Fact(2, ServiceGone(root=root("a")))])
    assert [item.event for item in newer] == [freed("a")]
    assert giver.hear([Fact(4, vip("a", "a"))]) == ([], [])
    assert giver.world.get(key_of(vip("a"))) is None


def test_ack_of_an_overtaken_guess_does_not_date_its_successor(giver: Fold) -> None:
    first = giver.propose([vip("a", "old")])
    second = giver.propose([vip("a", "new")])
    giver.acked(first, first=7)
    assert giver.world.seq(vip("a")) == PENDING
    giver.acked(second, first=8)
    assert giver.world.seq(vip("a")) == 8


def test_last_is_the_last_event_of_our_own_subtree(giver: Fold) -> None:
    giver.load(Fact(3, vip("a", "a")))
    giver.load(Fact(9, exposed("a")))
    assert (giver.last, giver.position) == (3, 9)


def test_past_is_folded_and_not_decided_again(giver: Fold) -> None:
    giver.load(Fact(1, exposed("a")))
    assert giver.world.get(key_of(vip("a"))) is None
    giver.load(Fact(2, exposed("b")))
    giver.load(Fact(3, VipPlanned(vip="another's", root=root("c"))))
    assert [item[:2] for item in giver.caught_up()] == [(vip("a", "a"), 1), (vip("b", "b"), 2)], (
        "each with its own cause, not the last event"
    )
    assert giver.caught_up() == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.builds(exposed, NAMES), st.builds(lambda name: ServiceGone(root=root(name)), NAMES)), max_size=12), st.data())
def test_any_interleaving_with_the_log_gives_the_world_of_the_log(events: list[AnyEvent], data: st.DataObject) -> None:
    """The log takes facts of others while our decisions are on their way, and gives ours back when it likes."""
    giver, log, heard = Fold(Giver(), "ipam"), list[Fact](), 0
    left = list(events)
    while left or heard < len(log):
        if left and (heard == len(log) or data.draw(st.booleans())):
            log.append(Fact(len(log) + 1, left.pop(0)))
            continue
        decided, _ = giver.hear([log[heard]])
        heard += 1
        if decided:
            giver.acked(decided, len(log) + 1)
            log += [Fact(len(log) + 1 + at, item.event) for at, item in enumerate(decided)]
    again = World()
    for fact in log:
        again.evolve(fact)
    assert giver.world.facts == again.facts
    assert giver.caught_up() == []
    assert giver.last == max((fact.seq for fact in log if isinstance(fact.event, VipAllocated | VipFreed)), default=0)


def test_an_index_by_sequence_finds_what_the_log_took_in_a_range_guesses_only_once_they_are_taken() -> None:
    world = World({"order": BySequence(VipPlanned)})
    first, second = (VipPlanned(vip=f"192.0.2.{n}", root=root("web")) for n in (1, 2))
    world.evolve(Fact(5, first))
    world.evolve(Fact(PENDING, second))
    assert world.between(0, 100) == [first]
    world.settle(key_of(second), Fact(9, second))
    assert world.between(0, 100) == world.between(4, 9) == [first, second]
    assert world.between(5, 9) == [second]
    world.evolve(Fact(12, first))
    assert world.between(0, 11) == [second]
    world.evolve(Fact(13, VipWithdrawn(vip=second.vip, release=1, root=root("web"))))
    assert world.between(0, 100) == [first]
