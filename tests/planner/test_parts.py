"""Backend sets that owners of several kinds refer to, with a part made up for it: a Namespace whose labels name Services to forward to."""

from collections.abc import Iterable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from test_plan import SAID, allocated, bare, endpoint_slice, many, root, service

from services.planner.core import PARTS, Planner, plan
from services.planner.shared.backends import backend_set, backends_of
from services.planner.shared.programmed import programmed
from weir.decider import Change, Fact, Fold, Index, World
from weir.events import (
    AnyEvent,
    AppliedThrough,
    BackendsPlanned,
    BackendsWithdrawn,
    Event,
    FrontendPlanned,
    FrontendWithdrawn,
    NamespaceGone,
    NamespaceObserved,
    NodeSeen,
    ServiceGone,
    ServiceObserved,
    StatusPlanned,
    StatusWithdrawn,
    VipWithdrawn,
    key_of,
    object_key,
)
from weir.model import Endpoint, Probe, Root

VIP = "198.51.100.1"
SET = "shop/web:80/TCP:IPv4"


def _named(event: AnyEvent) -> Iterable[str]:
    return [f"Service/shop/{name}" for name in event.labels] if isinstance(event, NamespaceObserved) else ()


class Namespaces:
    """A frontend on port 8000 of VIP, or of the one that the label `vip` names; each other label is a Service and its weight."""

    kinds = ("Namespace",)
    indexes: Mapping[str, Index] = {"named by": _named}
    subscribes: tuple[type[Event], ...] = (NamespaceObserved,)

    def owners(self, world: World) -> list[str]:
        return [event.root.owner for event in world.of(NamespaceObserved)]

    def touched(self, world: World, change: Change) -> set[str]:
        match change.fact.event:
            case NamespaceObserved(root=root) | NamespaceGone(root=root):
                return {root.owner}
            case ServiceObserved(root=root) | ServiceGone(root=root):
                return {found.root.owner for found in world.find("named by", root.owner, NamespaceObserved)}
        return set()

    def plan(self, world: World, owner: str) -> list[AnyEvent]:
        observed = world.get(object_key(owner))
        if not isinstance(observed, NamespaceObserved):
            return []
        parts, entries = [], list[AnyEvent]()
        for name, weight in sorted(observed.labels.items()):
            target = world.get(object_key(f"Service/shop/{name}"))
            if isinstance(target, ServiceObserved) and target.ports:
                backends = backends_of(world, target, target.ports[0], "IPv4")
                part, chunks = backend_set(target, target.ports[0], "IPv4", backends, int(weight))
                parts.append(part)
                entries += chunks
        if parts:
            vip = observed.labels.get("vip", VIP)
            entries.append(FrontendPlanned(vip=vip, port=8000, protocol="TCP", owner=owner, sets=tuple(parts), root=observed.root))
        conditions = (programmed(world, owner, entries),)
        return [*entries, StatusPlanned(owner=owner, vips=(), conditions=conditions, root=observed.root)]


class Log:
    """The log, and a planner with that part."""

    def __init__(self, *events: AnyEvent) -> None:
        self.parts = (*PARTS, Namespaces())
        self.facts: list[Fact] = []
        self.fold = Fold(Planner(self.parts), "planner")
        self.say(*events)

    def say(self, *events: AnyEvent) -> list[AnyEvent]:
        """What follows from `events`, which arrive one by one; and that it is complete."""
        found: list[AnyEvent] = []
        for event in events:
            decided, _ = self.fold.hear([self._append(event)])
            self.fold.acked(decided, len(self.facts) + 1)
            for item in decided:
                self.fold.hear([self._append(item.event)])
            found += [item.event for item in decided]
            self._check()
        return found

    def _append(self, event: AnyEvent) -> Fact:
        self.facts.append(Fact(len(self.facts) + 1, event))
        return self.facts[-1]

    def _check(self) -> None:
        world, scratch = self.fold.world, plan(self.fold.world, self.parts)
        own = {key: fact.event for key, fact in world.facts.items() if fact.event.author == "planner"}
        standing = {key: bare(event) for key, event in own.items() if key in scratch or not isinstance(event, VipWithdrawn)}
        assert standing == {key: bare(event) for key, event in scratch.items()}
        referred = {part.name for frontend in world.of(FrontendPlanned) for part in frontend.sets}
        assert {chunk.set for chunk in world.of(BackendsPlanned)} <= referred
        assert list(Planner(self.parts).reconcile(world)) == [], "a restart owes nothing"

    def chunks(self) -> list[str]:
        return sorted(key_of(chunk) for chunk in self.fold.world.of(BackendsPlanned))


def forwards(name: str = "edge", **weights: str) -> NamespaceObserved:
    return NamespaceObserved(root=Root(kind="Namespace", name=name), labels=weights)


def web(*endpoints: Endpoint) -> list[AnyEvent]:
    return [service("web"), endpoint_slice("s1", "web", endpoints or [Endpoint(address="10.0.0.1")]), allocated("192.0.2.1", "web")]


def types(events: Iterable[AnyEvent]) -> list[type[AnyEvent]]:
    return [type(event) for event in events]


GONE: Mapping[str, AnyEvent] = {
    "Service": replace(service("web"), exposed=False),
    "Namespace": NamespaceGone(root=Root(kind="Namespace", name="edge")),
}


@pytest.mark.parametrize("first", ["Service", "Namespace"])
def test_a_shared_set_is_planned_once_and_until_its_last_owner_goes_whichever_goes_first(first: str) -> None:
    log = Log(*web())
    assert BackendsPlanned not in types(log.say(forwards(web="1"))), "it is planned already"
    assert len(log.chunks()) == 1
    assert types(log.say(GONE[first])) == [FrontendWithdrawn, StatusWithdrawn]
    assert len(log.chunks()) == 1
    assert sorted(types(log.say(*GONE.values())), key=str) == [BackendsWithdrawn, FrontendWithdrawn, StatusWithdrawn]
    assert log.chunks() == []


def test_a_frontend_may_refer_to_sets_of_services_that_are_not_exposed_by_weight() -> None:
    slices = [endpoint_slice(f"s{name}", name, [Endpoint(address=f"10.0.0.{at}")]) for at, name in enumerate(("web", "api"), 1)]
    log = Log(service("web", exposed=False), service("api", exposed=False), *slices)
    assert log.chunks() == []
    log.say(forwards(web="9", api="0"))
    (frontend,) = log.fold.world.of(FrontendPlanned)
    assert [(part.name, part.chunks, part.weight) for part in frontend.sets] == [("shop/api:80/TCP:IPv4", 1, 0), (SET, 1, 9)]
    assert len(log.chunks()) == 2, "flows that a set of weight 0 has may go on"
    log.say(forwards(web="1"))
    assert len(log.chunks()) == 1
    log.say(ServiceGone(root=root("web")))
    assert log.chunks() == []


@pytest.mark.parametrize("exposed", [True, False])
def test_an_endpoint_of_a_set_that_others_use_costs_one_chunk_and_its_users(exposed: bool) -> None:
    log = Log(
        *web(*many(1000)), replace(service("web"), exposed=exposed), forwards(web="1"), forwards("other", web="1", vip="198.51.100.2")
    )
    log.say(service("b"), endpoint_slice("sb", "b", [Endpoint(address="10.0.9.9")]), allocated("192.0.2.9", "b"))
    flip = endpoint_slice("s1", "web", many(1000, down=617))
    change = Change("", None, Fact(len(log.facts) + 1, flip))
    assert Planner(log.parts).touched(log.fold.world, change) == {"Service/shop/web", "Namespace/edge", "Namespace/other"}
    (changed,) = log.say(flip)
    assert isinstance(changed, BackendsPlanned)


def test_of_a_set_with_another_number_of_chunks_the_old_go_when_no_frontend_refers_to_them() -> None:
    log = Log(*web(*many(100)), forwards(web="1"))
    found = types(log.say(endpoint_slice("s1", "web", many(101))))
    chunks = found.count(BackendsPlanned)
    assert found == [*[BackendsPlanned] * chunks, FrontendPlanned, FrontendPlanned, BackendsWithdrawn]


def test_the_last_endpoint_that_goes_takes_the_chunk_and_the_first_that_comes_brings_it() -> None:
    log = Log(*web(), replace(service("web"), exposed=False), forwards(web="1"))
    log.say(endpoint_slice("s1", "web", []))
    assert log.chunks() == []
    log.say(endpoint_slice("s1", "web", [Endpoint(address="10.0.0.2")]))
    assert len(log.chunks()) == 1


@pytest.mark.parametrize("taker", ["aaa", "zzz"])
def test_a_frontend_that_another_owner_takes_over_releases_its_sets(taker: str) -> None:
    slices = [endpoint_slice(f"s{name}", name, [Endpoint(address=f"10.0.0.{at}")]) for at, name in enumerate(("web", "api"), 1)]
    log = Log(service("web", exposed=False), service("api", exposed=False), *slices, forwards("mmm", web="1"))
    before, after = NamespaceGone(root=Root(kind="Namespace", name="mmm")), forwards(taker, api="1")
    facts = [log._append(before), log._append(after)]
    decided, _ = log.fold.hear(facts)
    assert (FrontendWithdrawn in types(item.event for item in decided)) == (taker == "zzz")
    log._check()


def test_programmed_of_any_owner_waits_for_the_chunks_that_it_refers_to() -> None:
    def programmed_of(log: Log) -> bool:
        (status,) = (event for event in log.fold.world.of(StatusPlanned) if event.owner == "Namespace/edge")
        return status.conditions[-1].status

    log = Log(NodeSeen(node="n1", hook="tc", layout=1, interfaces=()), *web(), forwards(web="1"))
    assert not programmed_of(log)
    log.say(AppliedThrough(node="n1", seq=len(log.facts)))
    assert programmed_of(log)
    log.say(endpoint_slice("s1", "web", [Endpoint(address="10.0.0.2")]))
    assert not programmed_of(log)
    log.say(AppliedThrough(node="n1", seq=len(log.facts)))
    assert programmed_of(log)


def test_two_parts_that_give_one_name_to_two_indexes_are_refused() -> None:
    class Other(Namespaces):
        indexes: Mapping[str, Index] = {"users": lambda _: ()}

    with pytest.raises(ValueError, match="indexes users"):
        Planner((*PARTS, Other()))


FORWARDS = st.builds(
    lambda name, targets: forwards(name, vip=f"198.51.100.{len(name)}", **dict.fromkeys(targets, "1")),
    st.sampled_from(["x", "yy"]),
    st.sets(st.sampled_from(["a", "b"])),
)
STOPS = st.builds(lambda name: NamespaceGone(root=Root(kind="Namespace", name=name)), st.sampled_from(["x", "yy"]))
BEGUN = [service("a", probe=Probe()), endpoint_slice("s1", "a", many(3)), allocated("192.0.2.1", "a"), allocated("192.0.2.2", "b")]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(SAID, FORWARDS, FORWARDS, STOPS), min_size=3, max_size=15))
def test_any_order_of_owners_ends_where_planning_from_scratch_does(steps: Sequence[AnyEvent]) -> None:
    Log(*BEGUN, *steps)
