"""The agent and its appliers: each gets what it is interested in, and the node acknowledges the least that all of them hold."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from services.dataplane.applier import Step, through
from services.dataplane.core import INDEXES
from services.dataplane.edge import Agent
from tests.sim.machine import Machine, isolate
from tests.unit.test_apply import WEB, backends, frontend
from weir.decider import Change, Fact, World
from weir.events import AppliedThrough, BackendsPlanned, Event, VipPlanned, VipTaken
from weir.model import Rejection
from weir.where import Where


class Late:
    """An applier that reaches a position when it is told to, as Envoy does."""

    interested: tuple[type[Event], ...] = (BackendsPlanned,)
    unfinished = False

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.through = 0
        self.refused: list[Rejection] = []

    def apply(self, step: Step) -> None:
        self.steps.append(step)

    def rejections(self) -> Sequence[Rejection]:
        return self.refused


class Node:
    """An agent on a kernel in memory, with one more applier."""

    def __init__(self) -> None:
        self.machine = Machine(None, "n1", (), ())  # type: ignore[arg-type]  of its log this needs nothing
        self.agent = Agent(Where(self.machine.instance), "n1", "tc", ["eth0"])
        self.late = Late()
        self.agent._appliers += (self.late,)
        self.world, self.seq = World(INDEXES), 0

    def evolve(self, event: Any) -> Change:
        self.seq += 1
        return self.world.evolve(Fact(self.seq, event))

    async def plan(self, *events: Any) -> None:
        changes = [self.evolve(event) for event in events]
        await self.agent.heard(self.world, changes, self.seq)

    def applied(self) -> tuple[int, tuple[Rejection, ...]] | None:
        """Position and rejections that the agent would acknowledge now; None: nothing new."""
        found = (event for event in self.agent._news(self.world) if isinstance(event, AppliedThrough))
        return next(((event.seq, event.rejected) for event in found), None)


@pytest.fixture(autouse=True)
def _in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch)


def test_a_node_acknowledges_the_least_position_of_its_appliers() -> None:
    async def test() -> None:
        node = Node()
        await node.agent.heard(node.world, None, 0)
        await node.plan(*WEB)
        assert node.applied() == (0, ()), "one of them is behind"
        node.late.through = 2
        assert node.applied() == (2, ())
        node.late.through = 3
        assert node.applied() == (3, ())
        for event in node.agent._news(node.world):
            node.evolve(event)
        assert node.applied() is None
        refused = Rejection(entity="planner.backends.shop.web", reason="no memory")
        node.late.refused = [refused]
        assert node.applied() == (3, (refused,)), "later than the kernel, and the kernel is not asked again"

    asyncio.run(test())


def test_an_applier_gets_the_changes_that_it_is_interested_in() -> None:
    async def test() -> None:
        node = Node()
        await node.plan(*WEB)
        await node.plan(frontend("192.0.2.1", "web", idle_timeout_s=9))
        await node.plan(backends("web", 1))
        kinds = [[type(change.fact.event) for change in step.changes or ()] for step in node.late.steps]
        assert kinds == [[BackendsPlanned], [], [BackendsPlanned]]
        assert [step.position for step in node.late.steps] == [3, 4, 5], "also without a change for it, so that it is not behind"

    asyncio.run(test())


def test_a_vip_is_announced_once_the_kernel_has_it_and_recorded() -> None:
    async def test() -> None:
        node = Node()
        await node.plan(*WEB)
        taken = [event for event in node.agent._news(node.world) if isinstance(event, VipTaken)]
        assert [(event.vip, event.interfaces) for event in taken] == [("192.0.2.1", ("eth0",))]
        node.agent.announcements.recorded(1)
        await node.plan(backends("web", 1))
        assert not [event for event in node.agent._news(node.world) if isinstance(event, VipTaken)]

    asyncio.run(test())


def test_a_refused_vip_is_announced_when_another_try_brings_it_into_the_kernel() -> None:
    async def test() -> None:
        node = Node()
        node.machine.maps["vips"].fails = iter(lambda: True, None)
        await node.plan(*WEB)
        assert node.agent.l4.unfinished
        assert not node.agent.announcements.unrecorded()
        node.machine.heal()
        node.agent._apply(Step(node.world, (), {}, node.seq))
        assert node.agent.announcements.unrecorded() == 1

    asyncio.run(test())


def test_the_least_counts() -> None:
    found = [Late(), Late(), Late()]
    for applier, position in zip(found, (7, 3, 9), strict=True):
        applier.through = position
    assert through(found) == 3
    assert Step(World({}), None, {}, 1).of((VipPlanned,)).changes is None, "everything is for everybody"
