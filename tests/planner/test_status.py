"""What the owner of a Service is told, where the golden files show too little of it."""

from collections.abc import Sequence

from services.planner.core import Planner, plan_service
from weir.decider import Fact, World
from weir.events import AppliedThrough, NodeSeen, ServiceObserved, StatusPlanned, VipAllocated, VipPlanned
from weir.model import Condition, Rejection, Root, ServicePort

ROOT = Root(kind="Service", namespace="shop", name="web")


def test_an_address_that_its_pool_offers_no_more_is_told_and_counts_as_allocated() -> None:
    world = World(Planner.indexes)
    world.evolve(Fact(1, ServiceObserved(root=ROOT, exposed=True, ports=(ServicePort(port=80),))))
    world.evolve(Fact(2, VipAllocated(vip="192.0.2.1", pool="lan", services=("shop/web",), orphaned=True, root=ROOT)))
    (status,) = (event for event in plan_service(world, "shop/web") if isinstance(event, StatusPlanned))
    (allocated,) = (condition for condition in status.conditions if condition.type == "Allocated")
    assert (allocated.status, allocated.reason) == (True, "Orphaned")
    assert allocated.message == "192.0.2.1 stays, though pool lan does not offer it any more"


def programmed(rejections: Sequence[Rejection], nodes: int = 1) -> Condition:
    """What is told of the last condition where so many nodes have read everything back."""
    world = World(Planner.indexes)
    world.evolve(Fact(1, ServiceObserved(root=ROOT, exposed=True, ports=(ServicePort(port=80),))))
    world.evolve(Fact(2, VipAllocated(vip="192.0.2.1", pool="lan", services=("shop/web",), root=ROOT)))
    for seq, event in enumerate([VipPlanned(vip="192.0.2.1", root=ROOT), *plan_service(world, "shop/web")], 3):
        world.evolve(Fact(seq, event))
    for number in range(1, nodes + 1):
        world.evolve(Fact(10 * number, NodeSeen(node=f"n{number}", hook="tc", layout=2, interfaces=("eth0",))))
        world.evolve(Fact(10 * number + 1, AppliedThrough(node=f"n{number}", seq=9, rejected=tuple(rejections))))
    (status,) = (event for event in plan_service(world, "shop/web") if isinstance(event, StatusPlanned))
    return status.conditions[-1]


def test_nodes_that_hold_it_are_named_the_first_of_them() -> None:
    assert programmed([], 2) == Condition(type="Programmed", status=True, reason="Programmed", message="on n1, n2")
    assert programmed([], 7).message == "on n1, n2, n3, n4, n5, and 2 more"


def test_health_port_that_is_anothers_is_told_of_a_service_that_is_served() -> None:
    taken = Rejection(entity="watcher.service.shop.web", reason="health port 31000: address already in use")
    assert programmed([taken]) == Condition(
        type="Programmed", status=True, reason="HealthPortUnserved", message="on n1; n1: health port 31000: address already in use"
    )
