"""LB nodes that fall silent, are retired and come back: what the planner waits for."""

import pytest

from tests.planner.test_touched import Log, seen, served
from weir.decider import Fact
from weir.events import (
    AnyEvent,
    AppliedThrough,
    BackendsPlanned,
    EndpointDown,
    EndpointSliceObserved,
    EndpointUp,
    NodeHeard,
    NodeLeft,
    NodeRetired,
    NodeSeen,
    NodeSilent,
    ServiceObserved,
    StatusPlanned,
    VipAllocated,
)
from weir.model import Condition, Endpoint, Probe, Root, ServicePort, SlicePort

PROGRAMMED = Condition(type="Programmed", status=True, reason="Programmed")


def programmed(log: Log, service: str = "Service/shop/s1") -> Condition:
    (status,) = log.fold.world.find("planned", service, StatusPlanned)
    return status.conditions[-1]


def two_nodes() -> Log:
    """Both have confirmed s1."""
    log = Log()
    log.take(seen("lb-1"), seen("lb-2"), *served(1))
    log.ack("lb-1")
    log.ack("lb-2")
    assert programmed(log) == PROGRAMMED
    return log


@pytest.mark.parametrize("out", [NodeRetired(lbnode="lb-1", reason="its Node was deleted"), NodeLeft(lbnode="lb-1")])
def test_a_node_that_is_retired_is_not_waited_for_until_it_reports_itself_again(out: NodeRetired | NodeLeft) -> None:
    log = two_nodes()
    log.take(*served(2))
    log.ack("lb-2")
    assert programmed(log, "Service/shop/s2").message == "waiting for lb-1 to confirm"
    log.take(out)
    assert programmed(log, "Service/shop/s2") == PROGRAMMED
    assert programmed(log) == PROGRAMMED
    log.take(*served(3))
    log.ack("lb-2")
    assert programmed(log, "Service/shop/s3").status
    log.take(AppliedThrough(node="lb-1", seq=log.head), seen("lb-1"))
    assert programmed(log, "Service/shop/s3") == programmed(log) == PROGRAMMED
    log.take(*served(4))
    log.ack("lb-2")
    assert programmed(log, "Service/shop/s4").message == "waiting for lb-1 to confirm"


def test_a_node_that_another_replaced_does_not_hold_up_new_services() -> None:
    log = Log()
    log.take(seen("lb-1"), *served(1))
    log.ack("lb-1")
    log.take(NodeRetired(lbnode="lb-1", reason="its Node was deleted"), seen("lb-2"), *served(2))
    log.ack("lb-2")
    assert programmed(log) == programmed(log, "Service/shop/s2") == PROGRAMMED


def test_a_silent_node_is_not_waited_for_where_another_is_heard() -> None:
    log = two_nodes()
    log.take(*served(2))
    log.ack("lb-2")
    assert not log.programmed("Service/shop/s2")
    assert log.take(NodeSilent(lbnode="lb-1")) == {"Service/shop/s2"}
    assert programmed(log, "Service/shop/s2") == PROGRAMMED
    assert programmed(log) == PROGRAMMED, "its kernel forwards on, for what it confirmed"
    log.take(*served(3))
    log.ack("lb-2")
    assert log.programmed("Service/shop/s3")
    log.take(NodeHeard(lbnode="lb-1"))
    log.ack("lb-1")
    assert programmed(log, "Service/shop/s3") == PROGRAMMED


def test_where_every_node_is_silent_nobody_knows_and_the_command_that_ends_it_is_named() -> None:
    log = Log()
    log.take(seen("lb-1"), *served(1))
    log.ack("lb-1")
    log.take(NodeSilent(lbnode="lb-1"))
    ends = "if it is gone: kubectl delete lbnode lb-1, or weir leave --node lb-1"
    assert programmed(log) == Condition(
        type="Programmed",
        status=False,
        unknown=True,
        reason="NodeSilent",
        message=f"nothing is heard of lb-1, whose kernel may still forward; {ends}",
    )
    log.take(*served(2))
    assert programmed(log, "Service/shop/s2").message == f"waiting for lb-1 to confirm; nothing is heard of lb-1, {ends}"
    log.take(NodeHeard(lbnode="lb-1"))
    assert programmed(log).status
    log.ack("lb-1")
    assert log.programmed("Service/shop/s2")


def test_nodes_that_are_all_silent_are_heard_again_at_once() -> None:
    log = two_nodes()
    log.take(NodeSilent(lbnode="lb-1"), NodeSilent(lbnode="lb-2"))
    assert programmed(log).unknown
    log.fold.hear([Fact(log.head + 1, NodeHeard(lbnode="lb-1")), Fact(log.head + 2, NodeHeard(lbnode="lb-2"))])
    assert programmed(log) == PROGRAMMED


def test_of_nodes_that_are_heard_all_must_find_a_backend_dead_and_a_verdict_rewrites_one_chunk() -> None:
    log = Log()
    root, place = Root(kind="Service", namespace="shop", name="web"), Root(kind="EndpointSlice", namespace="shop", name="web-x")
    endpoints = tuple(Endpoint(address=f"10.0.{n >> 8}.{n & 255}") for n in range(300))
    log.take(
        *(seen("lb-1"), seen("lb-2"), ServiceObserved(root=root, exposed=True, ports=(ServicePort(port=80),), probe=Probe())),
        EndpointSliceObserved(root=place, service="web", family="IPv4", ports=(SlicePort(port=80),), endpoints=endpoints),
        VipAllocated(vip="192.0.2.1", pool="lan", holders=("Service/shop/web",), root=root),
    )

    def down(node: str) -> EndpointDown:
        return EndpointDown(node=node, address="10.0.0.7", port=80, protocol="TCP", reason="refused", failures=2)

    def state(event: AnyEvent) -> tuple[str, tuple[str, ...], int]:
        before = log.head
        log.take(event)
        chunks = log.fold.world.find("planned", "Service/shop/web", BackendsPlanned)
        (found,) = (b for chunk in chunks for b in chunk.backends if b.address == "10.0.0.7")
        return found.state, found.down_on, log.head - before - 1

    assert state(down("lb-3")) == ("active", (), 0), "no LB node"
    assert state(down("lb-1")) == ("active", ("lb-1",), 1)
    assert state(NodeSilent(lbnode="lb-2"))[:2] == ("down", ("lb-1",))
    assert state(NodeHeard(lbnode="lb-2"))[:2] == ("active", ("lb-1",))
    assert state(down("lb-2")) == ("down", ("lb-1", "lb-2"), 1)
    assert state(NodeLeft(lbnode="lb-1"))[:2] == ("down", ("lb-2",))
    assert state(EndpointUp(node="lb-2", address="10.0.0.7", port=80, protocol="TCP", reason="")) == ("active", (), 1)


def test_hooks_that_change_touch_nothing_and_a_return_touches_all() -> None:
    log = two_nodes()
    changed = NodeSeen(node="lb-1", hook="tc", layout=2, interfaces=("eth0",), hooks=("tc",))
    assert log.take(changed) == set()
    log.take(NodeLeft(lbnode="lb-1"))
    assert log.take(changed) == {"Service/shop/s1"}


def test_a_node_that_joins_or_leaves_rewrites_no_status_of_what_is_programmed() -> None:
    log = Log()
    log.take(seen("lb-1"), *(event for number in range(1, 51) for event in served(number)))
    log.ack("lb-1")
    assert all(programmed(log, f"Service/shop/s{number}") == PROGRAMMED for number in range(1, 51))
    for joins_or_leaves in (
        (AppliedThrough(node="lb-2", seq=log.head), seen("lb-2")),
        (NodeLeft(lbnode="lb-1"),),
        (AppliedThrough(node="lb-1", seq=log.head), seen("lb-1")),
        (NodeSilent(lbnode="lb-2"),),
        (NodeHeard(lbnode="lb-2"),),
        (NodeRetired(lbnode="lb-2", reason="its Node was deleted"),),
    ):
        before = log.head
        log.take(*joins_or_leaves)
        assert log.head == before + len(joins_or_leaves), joins_or_leaves
