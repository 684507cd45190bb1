"""externalTrafficPolicy Local where the machines that forward are no Nodes, by name or at all."""

import sys
from collections.abc import Sequence

import pytest
from test_plan import allocated, endpoint_slice, root

from services.planner.core import Planner, plan
from weir.decider import Fact, World
from weir.events import AnyEvent, NodeObserved, NodeSeen, ServiceObserved, StatusPlanned
from weir.model import Condition, Endpoint, Root, ServicePort
from weir.service.settings import Common, configured
from weir.view.summary import notes


def serving(forwards: Sequence[str], nodes: Sequence[str]) -> Condition:
    service = ServiceObserved(root=root("web"), exposed=True, ports=(ServicePort(port=80, target=8080),), local=True)
    events: list[AnyEvent] = [service, endpoint_slice("web-1", "web", [Endpoint(address="10.0.0.1", node="edge-01")])]
    events += [NodeObserved(root=Root(kind="Node", name=name)) for name in nodes]
    events += [NodeSeen(node=name, hook="tc", layout=1, interfaces=()) for name in forwards]
    events.append(allocated("203.0.113.9", "web"))
    world = World(Planner().indexes)
    for i, event in enumerate(events, 1):
        world.evolve(Fact(i, event))
    (status,) = (event for event in plan(world).values() if isinstance(event, StatusPlanned))
    return next(condition for condition in status.conditions if condition.type == "Serving")


def test_a_policy_that_cannot_be_applied_is_reported_with_the_names_that_no_node_has() -> None:
    condition = serving(["edge-9"], ["edge-01", "edge-02"])
    assert (condition.status, condition.reason) == (True, "LocalIgnored")
    assert condition.message == "externalTrafficPolicy Local counts as Cluster: no Node has the name of an LB node (edge-9)"
    assert notes([condition]) == [condition.message]
    assert serving(["lb-1", "lb-2"], []).reason == "LocalIgnored"


@pytest.mark.parametrize(("forwards", "nodes"), [(["edge-01"], ["edge-01"]), ([], ["edge-01"]), ([], [])])
def test_a_policy_that_is_applied_or_that_nobody_applies_yet_is_not(forwards: list[str], nodes: list[str]) -> None:
    assert serving(forwards, nodes).reason == "Serving"


def test_a_machines_name_is_read_in_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["weir-health", "--node", "Edge-01.Example.COM"])
    assert configured("health", Common).node == "edge-01.example.com"
    monkeypatch.setattr("os.uname", lambda: type("Uname", (), {"nodename": "Edge-01"}))
    monkeypatch.setattr(sys, "argv", ["weir-health"])
    assert configured("health", Common).node == "edge-01"
