"""What the owner of a Service is told, where the golden files show too little of it."""

from services.planner.core import Planner, plan_service
from weir.decider import Fact, World
from weir.events import ServiceObserved, StatusPlanned, VipAllocated
from weir.model import Root, ServicePort

ROOT = Root(kind="Service", namespace="shop", name="web")


def test_an_address_that_its_pool_offers_no_more_is_told_and_counts_as_allocated() -> None:
    world = World(Planner.indexes)
    world.evolve(Fact(1, ServiceObserved(root=ROOT, exposed=True, ports=(ServicePort(port=80),))))
    world.evolve(Fact(2, VipAllocated(vip="192.0.2.1", pool="lan", services=("shop/web",), orphaned=True, root=ROOT)))
    (status,) = (event for event in plan_service(world, "shop/web") if isinstance(event, StatusPlanned))
    (allocated,) = (condition for condition in status.conditions if condition.type == "Allocated")
    assert (allocated.status, allocated.reason) == (True, "Orphaned")
    assert allocated.message == "192.0.2.1 stays, though pool lan does not offer it any more"
