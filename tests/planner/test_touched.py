"""What one event costs: the number of Services that are planned again because of it."""

from collections.abc import Iterable, Sequence

from msgspec import structs

from services.planner.core import Planner
from weir.decider import Change, Decided, Fact, Fold, World
from weir.events import (
    AnyEvent,
    AppliedThrough,
    BackendsWithdrawn,
    EndpointSliceObserved,
    FrontendPlanned,
    FrontendWithdrawn,
    NodeSeen,
    ServiceObserved,
    StatusPlanned,
    VipAllocated,
    VipDenied,
)
from weir.model import MORE_REJECTED, Endpoint, Rejection, Root, ServicePort, SlicePort


class Counting(Planner):
    """The planner, which notes whom the last changes touch."""

    touches: frozenset[str] = frozenset()

    def decide(self, world: World, changes: Sequence[Change]) -> Iterable[Decided]:
        self.touches = frozenset(service for change in changes for service in self.touched(world, change))
        return super().decide(world, changes)


class Log:
    """A log, and the planner that follows it."""

    def __init__(self) -> None:
        self.core = Counting()
        self.fold = Fold(self.core, "planner")
        self.head = 0
        self.facts: list[Fact] = []  # decided

    def take(self, *events: AnyEvent) -> set[str]:
        """Appends `events`, one by one, and what is decided on them; returns the Services that the last of them touches."""
        services: set[str] = set()
        for event in events:
            self.head += 1
            fact = Fact(self.head, event)
            decided, _ = self.fold.hear([fact])
            services = set(self.core.touches)
            first = self.head + 1
            self.fold.acked(decided, first)
            for item in decided:
                self.head += 1
                self.facts.append(Fact(self.head, item.event))
                self.fold.hear([self.facts[-1]])
        return services

    def ack(self, node: str = "n1", *rejected: Rejection) -> set[str]:
        """The node holds all there is."""
        return self.take(AppliedThrough(node=node, seq=self.head, rejected=rejected))

    def would_touch(self, before: AnyEvent | None, event: AnyEvent) -> set[str]:
        """The Services that `event` would touch."""
        return self.core.touched(self.fold.world, Change("", before, Fact(self.head + 1, event)))

    def programmed(self, service: str) -> bool:
        """Whether the Service is reported as programmed."""
        (status,) = self.fold.world.find("planned", service, StatusPlanned)
        return all(condition.status for condition in status.conditions if condition.type == "Programmed")


def seen(node: str) -> NodeSeen:
    return NodeSeen(node=node, hook="tc", layout=2, interfaces=("eth0",))


def served(number: int) -> Iterable[AnyEvent]:
    """A Service with a VIP and an endpoint."""
    root = Root(kind="Service", namespace="shop", name=f"s{number}")
    place = Root(kind="EndpointSlice", namespace="shop", name=f"s{number}-x")
    endpoints = (Endpoint(address=f"10.0.0.{number}"),)
    yield ServiceObserved(root=root, exposed=True, ports=(ServicePort(port=80),))
    yield EndpointSliceObserved(root=place, service=root.name, family="IPv4", ports=(SlicePort(port=80),), endpoints=endpoints)
    yield VipAllocated(vip=f"192.0.2.{number}", pool="lan", holders=(root.owner,), root=root)


def denied(number: int) -> Iterable[AnyEvent]:
    root = Root(kind="Service", namespace="shop", name=f"d{number}")
    yield ServiceObserved(root=root, exposed=True, ports=(ServicePort(port=80),))
    yield VipDenied(owner=root.owner, family="IPv4", reason="PoolExhausted", message="full", holders=(), since=1, root=root)


def test_an_acknowledgement_touches_what_it_acknowledges_and_no_service_that_waits_for_something_else() -> None:
    log = Log()
    log.take(seen("n1"), seen("n2"), *(event for n in range(200) for event in denied(n)))
    log.take(*(event for n in range(1, 51) for event in served(n)))
    assert len(log.ack("n1")) == 50
    assert len(log.ack("n2")) == 50
    assert all(log.programmed(f"Service/shop/s{n}") for n in range(1, 51))
    assert log.ack("n1") == log.ack("n2") == set()
    log.take(*served(51), *served(52))
    assert log.ack("n1") == {"Service/shop/s51", "Service/shop/s52"}
    assert not log.programmed("Service/shop/s51")
    assert log.ack("n2") == {"Service/shop/s51", "Service/shop/s52"}
    assert log.programmed("Service/shop/s51")
    assert log.programmed("Service/shop/s52")


def test_an_endpoint_that_changes_is_pending_until_every_node_holds_it_and_costs_two_statuses_whatever_the_nodes() -> None:
    log = Log()
    log.take(seen("n1"), seen("n2"), seen("n3"), *served(1), *served(2))
    for node in ("n1", "n2", "n3"):
        log.ack(node)
    _, slice_of_it, _ = served(1)
    assert isinstance(slice_of_it, EndpointSliceObserved)
    log.take(structs.replace(slice_of_it, endpoints=(Endpoint(address="10.0.0.101"),)))
    assert not log.programmed("Service/shop/s1")
    assert log.programmed("Service/shop/s2")
    before = log.head
    assert log.ack("n1") == log.ack("n2") == {"Service/shop/s1"}
    assert log.head == before + 2, "what one node of three confirms is no news"
    assert not log.programmed("Service/shop/s1")
    log.ack("n3")
    assert log.programmed("Service/shop/s1")
    assert log.head == before + 4


def test_what_is_withdrawn_is_pending_until_every_node_holds_no_more_of_it() -> None:
    """A port, or the last endpoint, goes: a node that has not confirmed anything since then may still forward to it."""
    log = Log()
    observed, slice_of_it, given = served(1)
    assert isinstance(observed, ServiceObserved)
    assert isinstance(slice_of_it, EndpointSliceObserved)
    two = structs.replace(observed, ports=(ServicePort(port=80, name="a"), ServicePort(port=81, name="b")))
    log.take(seen("n1"), two, structs.replace(slice_of_it, ports=(SlicePort(port=80, name="a"), SlicePort(port=81, name="b"))), given)
    for event, withdrawal in (
        (structs.replace(two, ports=two.ports[:1]), FrontendWithdrawn),
        (structs.replace(slice_of_it, ports=(SlicePort(port=80, name="a"),), endpoints=()), BackendsWithdrawn),
    ):
        log.ack("n1")
        assert log.programmed("Service/shop/s1")
        before = log.head + 1
        log.take(event)
        assert not log.programmed("Service/shop/s1")
        withdrawn = max(fact.seq for fact in log.facts if isinstance(fact.event, withdrawal))
        assert withdrawn > before
        log.take(AppliedThrough(node="n1", seq=withdrawn - 1))
        assert not log.programmed("Service/shop/s1"), "it holds all but the withdrawal"
    log.ack("n1")
    assert log.programmed("Service/shop/s1")
    assert log.fold.caught_up() == []


def test_refusals_that_stand_touch_nothing_again() -> None:
    log = Log()
    log.take(seen("n1"), *(event for n in range(1, 11) for event in served(n)))
    (frontend,) = log.fold.world.find("planned", "Service/shop/s3", FrontendPlanned)
    refused = Rejection(entity=f"planner.frontend._.{frontend.vip.replace('.', '=2E')}=3A80=2FTCP", reason="the map is full")
    log.ack("n1")
    assert log.ack("n1", refused) == {"Service/shop/s3"}
    assert not log.programmed("Service/shop/s3")
    assert log.ack("n1", refused) == set()
    more = Rejection(entity=MORE_REJECTED, reason="7 more are refused")
    assert len(log.ack("n1", refused, more)) == 10
    assert log.ack("n1", refused, more) == set()
    assert len(log.ack("n1", refused)) == 10
    assert log.ack("n1") == {"Service/shop/s3"}
    assert log.programmed("Service/shop/s3")


def test_a_node_whose_interfaces_change_touches_nothing() -> None:
    log = Log()
    log.take(seen("n1"), *served(1), *served(2))
    changed = NodeSeen(node="n1", hook="tc", layout=2, interfaces=("eth0",), hooks=("tc",))
    assert log.would_touch(seen("n1"), changed) == set()
    assert log.would_touch(None, seen("n2")) == {"Service/shop/s1", "Service/shop/s2"}
