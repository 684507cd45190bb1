"""Who announces a VIP: spread over nodes, sticky, moved for a reason only."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.planner.test_touched import Log, seen, served
from weir.events import (
    AnnouncersPlanned,
    AnyEvent,
    EndpointSliceObserved,
    NodeCordoned,
    NodeGone,
    NodeLeft,
    NodeObserved,
    NodeUncordoned,
    PoolObserved,
    ServiceObserved,
    VipAllocated,
    VipTaken,
)
from weir.model import Endpoint, Root

NODES = ("lb-1", "lb-2", "lb-3")


def orders(log: Log) -> dict[str, tuple[str, ...]]:
    return {planned.vip: planned.nodes for planned in log.fold.world.of(AnnouncersPlanned)}


def several(count: int = 8, nodes: tuple[str, ...] = NODES) -> Log:
    log = Log()
    log.take(*(replace(seen(node), hellos=True) for node in nodes))
    for number in range(1, count + 1):
        log.take(*served(number))
    return log


def test_nodes_that_say_no_hello_take_no_turns() -> None:
    log = Log()
    log.take(seen("lb-1"), seen("lb-2"), *served(1))
    assert orders(log) == {}
    log.take(replace(seen("lb-2"), hellos=True))
    assert orders(log) == {"192.0.2.1": ("lb-2",)}


def test_vips_are_spread_over_all_nodes() -> None:
    found = orders(several(60))
    assert len(found) == 60
    assert {frozenset(order) for order in found.values()} == {frozenset(NODES)}
    first = Counter(order[0] for order in found.values())
    assert min(first[node] for node in NODES) >= 10, first


def test_a_node_that_joins_takes_nothing_and_one_that_leaves_moves_only_its_own() -> None:
    log = several()
    before = orders(log)
    log.take(replace(seen("lb-4"), hellos=True))
    assert orders(log) == {vip: (*order, "lb-4") for vip, order in before.items()}
    log.take(NodeLeft(lbnode="lb-1"))
    assert orders(log) == {vip: (*(node for node in order if node != "lb-1"), "lb-4") for vip, order in before.items()}
    log.take(NodeLeft(lbnode="lb-2"), NodeLeft(lbnode="lb-3"))
    assert {*orders(log).values()} == {("lb-4",)}
    log.take(replace(seen("lb-1"), hellos=True))
    assert {*orders(log).values()} == {("lb-4", "lb-1")}, "who comes back is last"


def test_who_took_over_stays_first() -> None:
    log = several(2)
    vip, (first, second, third) = next(iter(orders(log).items()))
    log.take(VipTaken(node=second, vip=vip, interfaces=("eth0",)))
    assert orders(log)[vip] == (second, first, third)
    log.take(VipTaken(node=first, vip=vip, interfaces=("eth0",)))
    assert orders(log)[vip] == (first, second, third)
    log.take(VipTaken(node="lb-9", vip=vip, interfaces=("eth0",)))
    assert orders(log)[vip] == (first, second, third), "a node that does not count"


def test_a_cordoned_node_is_last_until_it_is_uncordoned_and_takes_nothing_back() -> None:
    log = several()
    before = orders(log)
    log.take(NodeCordoned(lbnode="lb-1"))
    moved = {vip: (*(node for node in order if node != "lb-1"), "lb-1") for vip, order in before.items()}
    assert orders(log) == moved
    vip, (first, *_) = next(iter(moved.items()))
    log.take(VipTaken(node="lb-1", vip=vip, interfaces=("eth0",)))
    assert orders(log) == moved, "the last choice, though it was the only one for a while"
    log.take(VipTaken(node=first, vip=vip, interfaces=("eth0",)))
    log.take(NodeUncordoned(lbnode="lb-1"))
    assert orders(log) == moved


def test_vips_of_pools_with_one_announcer_have_one_order() -> None:
    log = Log()
    log.take(*(replace(seen(node), hellos=True) for node in NODES))
    pool = PoolObserved(root=Root(kind="VIPPool", name="lan"), addresses=("10.0.0.0/8",), one_announcer=True)
    log.take(pool)
    for number in range(1, 7):
        log.take(*served(number))
    assert len(set(orders(log).values())) == 1
    (first, second, third), vips = next(iter(orders(log).values())), sorted(orders(log))
    log.take(*(VipTaken(node=second, vip=vip, interfaces=("eth0",)) for vip in vips))
    assert set(orders(log).values()) == {(second, first, third)}
    log.take(*served(7))
    assert set(orders(log).values()) == {(second, first, third)}, "a new one comes to where the others are"
    log.take(replace(pool, one_announcer=False))
    assert set(orders(log).values()) == {(second, first, third)}, "it moves nothing"


def test_a_pool_in_use_that_wants_one_announcer_gets_one() -> None:
    log = several(6)
    log.take(*(VipTaken(node=order[0], vip=vip, interfaces=("eth0",)) for vip, order in orders(log).items()))
    assert len(set(orders(log).values())) > 1
    pool = PoolObserved(root=Root(kind="VIPPool", name="lan"), addresses=("10.0.0.0/8",), one_announcer=True)
    log.take(pool)
    assert len(set(orders(log).values())) == 1
    (order,) = set(orders(log).values())
    log.take(VipTaken(node=order[2], vip="192.0.2.3", interfaces=("eth0",)))
    assert set(orders(log).values()) == {order}, "one of them alone is not followed"
    log.take(VipTaken(node=order[2], vip="192.0.2.1", interfaces=("eth0",)))
    assert set(orders(log).values()) == {(order[2], order[0], order[1])}, "the first of them is"
    assert quiet(log)


def quiet(log: Log) -> bool:
    """Whether a second look plans nothing."""
    return not list(log.core.reconcile(log.fold.world))


def test_a_local_service_is_announced_by_nodes_that_have_a_backend_of_it() -> None:
    log = several(1)
    observed, slice_of_it, _ = served(1)
    assert isinstance(observed, ServiceObserved)
    assert isinstance(slice_of_it, EndpointSliceObserved)
    log.take(*(NodeObserved(root=Root(kind="Node", name=node)) for node in NODES))
    (order,) = orders(log).values()
    last = order[2]
    on_last = replace(slice_of_it, endpoints=(Endpoint(address="10.0.0.1", node=last),))
    local = replace(observed, local=True)
    steps: list[tuple[AnyEvent, str]] = [
        (on_last, order[0]),
        (local, last),
        (replace(slice_of_it, endpoints=(Endpoint(address="10.0.0.1", node=order[1]),)), order[1]),
        (NodeGone(root=Root(kind="Node", name=order[0])), order[1]),
        (replace(on_last, endpoints=()), order[1]),
        (on_last, last),
        (observed, last),
    ]
    for event, first in steps:
        log.take(event)
        (now,) = orders(log).values()
        assert now[0] == first, event
        assert quiet(log), event


@given(st.integers(0, 10_000))
def test_any_history_leaves_each_vip_all_nodes_that_count_and_plans_once(seed: int) -> None:
    dice, log = random.Random(seed), several(3)
    vips = sorted(orders(log))
    out: set[str] = set()
    cordoned: set[str] = set()
    for _ in range(12):
        node = dice.choice(NODES)
        match dice.randrange(5):
            case 0 if len(out) < 1:
                out.add(node)
                log.take(NodeLeft(lbnode=node))
            case 1 if node in out:
                out.discard(node)
                log.take(replace(seen(node), hellos=True))
            case 2:
                cordoned.add(node)
                log.take(NodeCordoned(lbnode=node))
            case 3:
                cordoned.discard(node)
                log.take(NodeUncordoned(lbnode=node))
            case _:
                log.take(VipTaken(node=node, vip=dice.choice(vips), interfaces=(str(dice.random()),)))
        for order in orders(log).values():
            assert sorted(order) == sorted({*NODES} - out)
            assert [node in cordoned for node in order] == sorted(node in cordoned for node in order)
        assert quiet(log)


@pytest.mark.parametrize("shared", [True, False])
def test_an_address_of_a_node_itself_is_nobodys_to_take(shared: bool) -> None:
    log = several(1)
    (vip,) = log.fold.world.of(VipAllocated)
    log.take(replace(vip, shared_with_node=shared))
    assert bool(orders(log)) is not shared
