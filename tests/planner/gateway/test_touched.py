"""One event plans what a whole plan would: objects of the Gateway API in any order of arrival."""

import random
from pathlib import Path

import pytest

from services.ipam.core import Ipam
from services.planner.core import Planner
from services.watcher.core import Watcher, differences
from services.watcher.inventory import Observation
from services.watcher.sources.yaml_documents import documents
from weir.decider import Change, Core, Fact, World
from weir.events import AnyEvent, AppliedThrough, GatewayStatusPlanned, NodeAddressesObserved, NodeSeen, key_of

TESTDATA = Path(__file__).parent / "testdata"
OBJECTS = (TESTDATA / "several.yaml").read_text()
INGRESSES = (TESTDATA / "ingress.in.yaml").read_text()


class Log:
    """Cores that decide on every event, and what they have decided."""

    def __init__(self) -> None:
        self.watcher, self.ipam, self.planner = Watcher(), Ipam(), Planner()
        self.world = World({**self.watcher.indexes, **self.ipam.indexes, **self.planner.indexes})
        self.head = 0

    def take(self, event: AnyEvent) -> None:
        """Record an event and all that follows from it: what a core decides is in the world when it decides on."""
        waiting: list[tuple[Core | None, Change]] = [(None, self._recorded(event))]
        cores: tuple[Core, ...] = (self.ipam, self.planner)
        while waiting:
            author, change = waiting.pop(0)
            for core in cores:
                if core is not author:
                    waiting += [(core, self._recorded(decided.event)) for decided in core.decide(self.world, [change])]

    def _recorded(self, event: AnyEvent) -> Change:
        self.head += 1
        return self.world.evolve(Fact(self.head, event))

    def observed(self, text: str) -> list[AnyEvent]:
        found = self.watcher.inventory.read(Observation({"case.yaml": documents("case.yaml", text.encode())}, complete=True))
        return list(differences(self.world, self.watcher.inventory, self.watcher.inventory.take(found)))

    def not_planned(self) -> list[str]:
        """What a whole plan would change."""
        return [key_of(decided.event) for decided in self.planner.reconcile(self.world)]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("objects", [OBJECTS, INGRESSES], ids=["gateways", "ingresses"])
def test_objects_in_any_order_are_planned_as_at_once(objects: str, seed: int) -> None:
    log, order = Log(), random.Random(seed)
    log.take(NodeSeen(node="n1", hook="tc", layout=1, interfaces=("eth0",)))
    log.take(NodeAddressesObserved(node="n1"))
    events = log.observed(objects)
    order.shuffle(events)
    for event in events:
        log.take(event)
        assert log.not_planned() == [], key_of(event)
        if order.random() < 0.5:
            log.take(AppliedThrough(node="n1", seq=log.head))
            assert log.not_planned() == [], f"acknowledged after {key_of(event)}"
    assert log.world.of(GatewayStatusPlanned)
    for event in log.observed("\n---\n".join(text for text in objects.split("\n---\n") if "kind: EndpointSlice" not in text)):
        log.take(event)
        assert log.not_planned() == [], key_of(event)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("objects", [OBJECTS, INGRESSES], ids=["gateways", "ingresses"])
def test_objects_that_go_in_any_order_leave_what_a_whole_plan_would(objects: str, seed: int) -> None:
    log, texts = Log(), objects.split("\n---\n")
    log.take(NodeSeen(node="n1", hook="tc", layout=1, interfaces=("eth0",)))
    log.take(NodeAddressesObserved(node="n1"))
    for event in log.observed(objects):
        log.take(event)
    log.take(AppliedThrough(node="n1", seq=log.head))
    random.Random(seed).shuffle(texts)
    while texts:
        gone = texts.pop()
        for event in log.observed("\n---\n".join(texts)):
            log.take(event)
            assert log.not_planned() == [], gone
    assert log.world.of(GatewayStatusPlanned) == []
