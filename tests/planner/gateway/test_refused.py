"""What a node's proxy refuses of one route is reported on that route, and holds up nothing else."""

from typing import get_args

from services.planner.core import Planner
from weir.decider import Fact, Fold
from weir.events import (
    AnyEvent,
    AppliedThrough,
    BackendsPlanned,
    EndpointSliceObserved,
    GatewayClassObserved,
    GatewayObserved,
    GatewayStatusPlanned,
    HttpRouteObserved,
    NodeSeen,
    Planned,
    RouteStatusPlanned,
    ServiceObserved,
    VipAllocated,
    VirtualHostPlanned,
    key_of,
)
from weir.model import BackendRef, Condition, Endpoint, Listener, ParentRef, Rejection, Root, RouteRule, ServicePort, SlicePort

WORDS = "regex 'a(': missing closing )"


class Log:
    """A planner that hears events as from the log."""

    def __init__(self, *events: AnyEvent) -> None:
        self.fold, self.seq = Fold(Planner(), "planner"), 0
        for event in events:
            self.say(event)

    def say(self, event: AnyEvent) -> None:
        self.seq += 1
        decided, _ = self.fold.hear([Fact(self.seq, event)])
        self.fold.acked(decided, self.seq + 1)
        self.seq += len(decided)

    def ack(self, *rejected: Rejection) -> None:
        self.say(AppliedThrough(node="n1", seq=self.seq, rejected=rejected))

    def gateway(self) -> dict[str, Condition]:
        (status,) = self.fold.world.of(GatewayStatusPlanned)
        return {each.type: each for each in status.conditions}

    def route(self, name: str) -> Condition:
        (status,) = (each for each in self.fold.world.of(RouteStatusPlanned) if each.root.name == name)
        return status.parents[0].conditions[0]


def root(kind: str, name: str) -> Root:
    return Root(kind=kind, namespace="" if kind == "GatewayClass" else "shop", name=name)


def route(name: str) -> HttpRouteObserved:
    rules = (RouteRule(backends=(BackendRef(name="web", namespace="shop", port=80),)),)
    parents = (ParentRef(name="edge", namespace="shop"),)
    return HttpRouteObserved(root=root("HTTPRoute", name), parents=parents, hostnames=(f"{name}.example.com",), rules=rules)


def served() -> Log:
    edge = root("Gateway", "edge")
    return Log(
        NodeSeen(node="n1", hook="tc", layout=1, interfaces=("eth0",)),
        GatewayClassObserved(root=root("GatewayClass", "weir"), controller="weir.dev/weir", ours=True),
        GatewayObserved(root=edge, class_name="weir", listeners=(Listener(name="http", port=80, protocol="HTTP"),)),
        ServiceObserved(root=root("Service", "web"), exposed=False, ports=(ServicePort(port=80),)),
        VipAllocated(vip="192.0.2.1", pool="p", holders=(edge.owner,), root=edge),
        route("good"),
        route("bad"),
    )


def refusal(log: Log) -> Rejection:
    (host,) = (each for each in log.fold.world.of(VirtualHostPlanned) if each.hostname == "bad.example.com")
    return Rejection(entity=key_of(host), reason=WORDS, owner="HTTPRoute/shop/bad")


def test_a_refused_route_says_so_in_the_proxys_words_and_the_gateway_is_programmed() -> None:
    log = served()
    log.ack(refusal(log))
    assert (log.route("bad").status, log.route("bad").reason, log.route("bad").message) == (False, "UnsupportedValue", f"n1: {WORDS}")
    assert log.route("good").status
    assert log.gateway()["Programmed"].status


def test_a_route_that_is_no_longer_refused_is_accepted_again() -> None:
    log = served()
    log.ack(refusal(log))
    log.ack()
    assert log.route("bad").status


def test_a_refused_entity_that_is_nobodys_fault_alone_holds_up_its_gateway() -> None:
    log = served()
    log.ack(Rejection(entity=refusal(log).entity, reason=WORDS))
    assert (log.gateway()["Programmed"].status, log.gateway()["Programmed"].reason) == (False, "Rejected")


def test_a_route_that_is_added_is_programmed_once_nodes_confirm_it() -> None:
    log = served()
    log.ack()
    log.say(route("late"))
    assert (log.gateway()["Programmed"].status, log.gateway()["Programmed"].reason) == (False, "Pending")
    log.ack()
    assert log.gateway()["Programmed"].status


def test_a_planner_that_starts_again_knows_all_that_is_planned() -> None:
    planned = {event.kind for event in get_args(AnyEvent) if issubclass(event, Planned)}
    assert planned <= {event.kind for event in Planner().subscribes}
    log = served()
    log.ack()
    again = Fold(Planner(), "planner")
    for _, fact in sorted(log.fold.world.facts.items(), key=lambda item: item[1].seq):
        again.load(fact)
    assert again.caught_up() == []


def test_endpoints_that_come_after_the_route_are_planned() -> None:
    log = served()
    assert not log.fold.world.of(BackendsPlanned)
    ports, endpoints = (SlicePort(port=8080),), (Endpoint(address="10.0.0.1"),)
    log.say(EndpointSliceObserved(root=root("EndpointSlice", "web-1"), service="web", family="IPv4", ports=ports, endpoints=endpoints))
    assert [chunk.set for chunk in log.fold.world.of(BackendsPlanned)] == ["shop/web:80/TCP:IPv4"]
