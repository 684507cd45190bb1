"""What the owner of a Service is told, where the golden files show too little of it."""

from collections.abc import Sequence

import pytest

from services.dataplane.l4.source_ranges import ranges as source_entries
from services.planner.core import Planner, plan
from services.planner.l4.services import plan_service
from weir.decider import Fact, World
from weir.events import (
    AnyEvent,
    AppliedThrough,
    EndpointSliceObserved,
    NodeAddressesObserved,
    NodeSeen,
    ServiceObserved,
    StatusPlanned,
    VipAllocated,
    VipPlanned,
    key,
)
from weir.model import Condition, Endpoint, Rejection, Root, ServicePort, SlicePort, family_of

ROOT = Root(kind="Service", namespace="shop", name="web")


def test_an_address_that_its_pool_offers_no_more_is_told_and_counts_as_allocated() -> None:
    world = World(Planner().indexes)
    world.evolve(Fact(1, ServiceObserved(root=ROOT, exposed=True, ports=(ServicePort(port=80),))))
    world.evolve(Fact(2, VipAllocated(vip="192.0.2.1", pool="lan", holders=("Service/shop/web",), orphaned=True, root=ROOT)))
    (status,) = (event for event in plan_service(world, "Service/shop/web") if isinstance(event, StatusPlanned))
    (allocated,) = (condition for condition in status.conditions if condition.type == "Allocated")
    assert (allocated.status, allocated.reason) == (True, "Orphaned")
    assert allocated.message == "192.0.2.1 stays, though pool lan does not offer it any more"


@pytest.mark.parametrize(("shared", "reason"), [(False, "AddressInUse"), (True, "Allocated")])
def test_an_address_that_a_machine_has_too_is_reported_unless_it_is_shared(shared: bool, reason: str) -> None:
    world = World(Planner().indexes)
    held = {"in_use_by": "LB node lb-1's own address", "shared_with_node": shared}
    world.evolve(Fact(1, ServiceObserved(root=ROOT, exposed=True, ports=(ServicePort(port=80),))))
    world.evolve(Fact(2, VipAllocated(vip="192.0.2.1", pool="lan", holders=("Service/shop/web",), root=ROOT, **held)))
    (status,) = (event for event in plan_service(world, "Service/shop/web") if isinstance(event, StatusPlanned))
    (allocated,) = (condition for condition in status.conditions if condition.type == "Allocated")
    assert (allocated.status, allocated.reason) == (True, reason)
    assert allocated.message == ("" if shared else "192.0.2.1 is also LB node lb-1's own address; both stay until one is changed")
    assert plan(world)[key("planner", "planvip", "", "192.0.2.1")] == VipPlanned(vip="192.0.2.1", shared_with_node=shared, root=ROOT)


@pytest.mark.parametrize(
    ("own", "local_backends", "said"),
    [
        ("10.0.0.9", False, (True, "Serving", "")),
        ("10.0.0.1", False, (False, "LocalBackends", "lb-1 gets no answer from backends at its own address 10.0.0.1")),
        ("10.0.0.1", True, (True, "Serving", "")),
    ],
)
def test_backends_at_an_lb_nodes_own_address_are_not_served_unless_it_says_so(
    own: str, local_backends: bool, said: tuple[bool, str, str]
) -> None:
    world = World(Planner().indexes)
    slice_root = Root(kind="EndpointSlice", namespace="shop", name="web-x")
    endpoints = (Endpoint(address="10.0.0.1"), Endpoint(address="10.0.0.2"))
    events: list[AnyEvent] = [
        ServiceObserved(root=ROOT, exposed=True, ports=(ServicePort(port=80),)),
        EndpointSliceObserved(root=slice_root, service="web", family="IPv4", ports=(SlicePort(port=80),), endpoints=endpoints),
        VipAllocated(vip="192.0.2.1", pool="lan", holders=("Service/shop/web",), root=ROOT),
        NodeSeen(node="lb-1", hook="tc", layout=2, interfaces=("eth0",), local_backends=local_backends),
        NodeAddressesObserved(node="lb-1", addresses=(own,)),
    ]
    for seq, event in enumerate(events, 1):
        world.evolve(Fact(seq, event))
    (status,) = (event for event in plan_service(world, "Service/shop/web") if isinstance(event, StatusPlanned))
    (serving,) = (condition for condition in status.conditions if condition.type == "Serving")
    assert (serving.status, serving.reason, serving.message) == said


def test_a_vip_that_is_shared_with_its_node_is_programmed_once_the_node_confirmed_it_so() -> None:
    def told(planned: VipPlanned) -> Condition:
        world = World(Planner().indexes)
        allocated = VipAllocated(vip="192.0.2.1", pool="lan", holders=("Service/shop/web",), shared_with_node=True, root=ROOT)
        for seq, event in enumerate([ServiceObserved(root=ROOT, exposed=True, ports=(ServicePort(port=80),)), allocated, planned], 1):
            world.evolve(Fact(seq, event))
        for seq, event in enumerate(plan_service(world, "Service/shop/web"), 4):
            world.evolve(Fact(seq, event))
        world.evolve(Fact(11, NodeSeen(node="n1", hook="tc", layout=2, interfaces=("eth0",))))
        world.evolve(Fact(12, AppliedThrough(node="n1", seq=10)))
        (status,) = (event for event in plan_service(world, "Service/shop/web") if isinstance(event, StatusPlanned))
        return status.conditions[-1]

    assert told(VipPlanned(vip="192.0.2.1", shared_with_node=True, root=ROOT)).reason == "Programmed"
    assert told(VipPlanned(vip="192.0.2.1", root=ROOT)).reason == "Pending"


def programmed(rejections: Sequence[Rejection], nodes: int = 1) -> Condition:
    """What is told of the last condition where so many nodes have read everything back."""
    world = World(Planner().indexes)
    world.evolve(Fact(1, ServiceObserved(root=ROOT, exposed=True, ports=(ServicePort(port=80),))))
    world.evolve(Fact(2, VipAllocated(vip="192.0.2.1", pool="lan", holders=("Service/shop/web",), root=ROOT)))
    for seq, event in enumerate([VipPlanned(vip="192.0.2.1", root=ROOT), *plan_service(world, "Service/shop/web")], 3):
        world.evolve(Fact(seq, event))
    for number in range(1, nodes + 1):
        world.evolve(Fact(10 * number, NodeSeen(node=f"n{number}", hook="tc", layout=2, interfaces=("eth0",))))
        world.evolve(Fact(10 * number + 1, AppliedThrough(node=f"n{number}", seq=9, rejected=tuple(rejections))))
    (status,) = (event for event in plan_service(world, "Service/shop/web") if isinstance(event, StatusPlanned))
    return status.conditions[-1]


def test_what_every_node_holds_is_programmed_whatever_their_number() -> None:
    assert programmed([], 1) == programmed([], 7) == Condition(type="Programmed", status=True, reason="Programmed")


def test_health_port_that_is_anothers_is_told_of_a_service_that_is_served() -> None:
    taken = Rejection(entity="watcher.service.shop.web", reason="health port 31000: address already in use")
    assert programmed([taken]) == Condition(
        type="Programmed", status=True, reason="HealthPortUnserved", message="n1: health port 31000: address already in use"
    )


@pytest.mark.parametrize(
    ("ranges", "vips", "serving", "reason", "message"),
    [
        ((), ["192.0.2.1", "2001:db8::1"], True, "Serving", ""),
        (("0.0.0.0/0", "::/0"), ["192.0.2.1", "2001:db8::1"], True, "Serving", ""),
        (("10.0.0.0/8",), ["192.0.2.1"], True, "Serving", ""),
        (("::/0",), ["192.0.2.1"], False, "SourcesOfOneFamily", "over IPv4"),
        (("10.0.0.0/8",), ["2001:db8::1"], False, "SourcesOfOneFamily", "over IPv6"),
        (("::/0",), ["192.0.2.1", "2001:db8::1"], True, "SourcesOfOneFamily", "over IPv4"),
    ],
)
def test_a_family_that_its_source_ranges_close_is_reported(
    ranges: tuple[str, ...], vips: list[str], serving: bool, reason: str, message: str
) -> None:
    """As the nodes have it (`services.dataplane.l4.source_ranges`): of a family without a range nobody may connect."""
    world = World(Planner().indexes)
    events: list[AnyEvent] = [ServiceObserved(root=ROOT, exposed=True, ports=(ServicePort(port=80),), source_ranges=ranges)]
    for vip, family, address in (("192.0.2.1", "IPv4", "10.0.0.1"), ("2001:db8::1", "IPv6", "fd00::1")):
        if vip in vips:
            place = Root(kind="EndpointSlice", namespace="shop", name=family)
            ports, endpoints = (SlicePort(port=80),), (Endpoint(address=address),)
            events.append(EndpointSliceObserved(root=place, service="web", family=family_of(vip), ports=ports, endpoints=endpoints))
            events.append(VipAllocated(vip=vip, pool="lan", holders=("Service/shop/web",), root=ROOT))
    for seq, event in enumerate(events, 1):
        world.evolve(Fact(seq, event))
    (status,) = (event for event in plan_service(world, "Service/shop/web") if isinstance(event, StatusPlanned))
    (found,) = (condition for condition in status.conditions if condition.type == "Serving")
    assert (found.status, found.reason) == (serving, reason)
    assert message in found.message
    closed = [vip for vip in vips if source_entries(1, vip, ranges) == {}]
    assert (not closed) == (reason == "Serving")
