"""Several entries for one address, in one slice or over slices (kubernetes/kubernetes#135266).

The best counts, whole, whatever their order.
"""

from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_plan import allocated, endpoint_slice, root

from services.planner.core import Planner, plan
from services.watcher.kinds.reader import Document, read
from services.watcher.settings import DEFAULT
from weir.decider import Fact, World
from weir.events import AnyEvent, BackendsPlanned, EndpointSliceObserved, NodeObserved, NodeSeen, ServiceObserved
from weir.model import Backend, Endpoint, Root, ServicePort

OLD = Endpoint(address="192.0.2.12", ready=False, serving=False, terminating=True, node="node-b")
LEAVING = Endpoint(address="192.0.2.12", ready=False, serving=True, terminating=True, node="node-b")
STARTING = Endpoint(address="192.0.2.12", ready=False, serving=False, node="node-a")
NEW = Endpoint(address="192.0.2.12", node="node-a")


def planned(slices: Sequence[Sequence[Endpoint]]) -> tuple[Backend, ...]:
    """The backends of a Service with externalTrafficPolicy Local on node-a and node-b, both of which forward."""
    service = ServiceObserved(root=root("web"), exposed=True, ports=(ServicePort(port=80, target=8080),), local=True, health_port=31000)
    nodes: list[AnyEvent] = [NodeObserved(root=Root(kind="Node", name=name)) for name in ("node-a", "node-b")]
    seen: list[AnyEvent] = [NodeSeen(node=name, hook="tc", layout=1, interfaces=()) for name in ("node-a", "node-b")]
    of = [endpoint_slice(f"web-{i}", "web", _read(entries)) for i, entries in enumerate(slices)]
    world = World(Planner().indexes)
    for i, event in enumerate([service, *nodes, *seen, *of, allocated("203.0.113.9", "web")], 1):
        assert isinstance(event, Planner().subscribes)
        world.evolve(Fact(i, event))
    chunks = [event for event in plan(world).values() if isinstance(event, BackendsPlanned)]
    return tuple(backend for chunk in chunks for backend in chunk.backends)


def _read(entries: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """Through the watcher, as one slice of a folder."""
    listed = [
        {
            "addresses": [entry.address],
            "conditions": {"ready": entry.ready, "serving": entry.serving, "terminating": entry.terminating},
            "nodeName": entry.node,
        }
        for entry in entries
    ]
    metadata = {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}
    head = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata}
    (reading,) = read(Document("a.yaml#1", {**head, "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": listed}), DEFAULT)
    assert reading.problems == ()
    assert isinstance(reading.event, EndpointSliceObserved)
    return reading.event.endpoints


CASES = {
    "terminated and ready": ([OLD, NEW], Backend(address="192.0.2.12", port=8080, node="node-a")),
    "leaving and ready": ([LEAVING, NEW], Backend(address="192.0.2.12", port=8080, node="node-a")),
    "leaving and starting": ([LEAVING, STARTING], Backend(address="192.0.2.12", port=8080, state="draining", node="node-b")),
    "three": ([OLD, LEAVING, NEW], Backend(address="192.0.2.12", port=8080, node="node-a")),
}


@pytest.mark.parametrize(("entries", "expected"), CASES.values(), ids=CASES)
def test_the_best_entry_counts_in_any_order_in_one_slice_or_several(entries: list[Endpoint], expected: Backend) -> None:
    for order in permutations(entries):
        assert planned([order]) == (expected,)
        assert planned([[entry] for entry in order]) == (expected,)


ENTRY = st.builds(
    Endpoint,
    address=st.sampled_from(["192.0.2.12", "192.0.2.13"]),
    ready=st.booleans(),
    serving=st.booleans(),
    terminating=st.booleans(),
    node=st.sampled_from(["", "node-a", "node-b"]),
)


@given(st.lists(ENTRY, max_size=6), st.randoms(use_true_random=False), st.integers(1, 3))
def test_no_order_and_no_distribution_over_slices_changes_the_plan(entries: list[Endpoint], random: "st.Random", parts: int) -> None:
    before = planned([entries])
    for backend in before:
        ready = [entry for entry in entries if entry.address == backend.address and entry.ready]
        assert (backend.state == "active") == bool(ready)
        assert not ready or backend.node in {entry.node for entry in ready}
    random.shuffle(entries)
    assert planned([entries[i::parts] for i in range(parts)]) == before
