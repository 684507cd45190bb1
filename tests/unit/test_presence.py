"""Which LB nodes are called silent, and when nobody is: the edge's clock is the loop's, turned by hand."""

import asyncio
from collections.abc import Callable, Iterable

import pytest

from services.watcher.core import Watcher, differences
from services.watcher.edge import nobody
from services.watcher.inventory import Inventory, Observation
from services.watcher.presence import CHECK_S, SILENT_S, Presence, transitions
from weir.decider import Fact, World
from weir.events import AnyEvent, NodeGone, NodeHeard, NodeLeft, NodeObserved, NodeRetired, NodeSeen, NodeSilent
from weir.model import Root


def seen(node: str) -> NodeSeen:
    return NodeSeen(node=node, hook="tc", layout=2, interfaces=("eth0",))


def world(*events: AnyEvent) -> World:
    found = World(Watcher.indexes)
    for seq, event in enumerate(events, 1):
        found.evolve(Fact(seq, event))
    return found


def test_silence_is_stated_once_and_ends_when_the_node_is_heard_or_retired() -> None:
    one, two = NodeSilent(lbnode="lb-1"), NodeHeard(lbnode="lb-1")
    assert transitions(world(seen("lb-1"), seen("lb-2")), heard={"lb-2"}, missed={"lb-1"}) == [one]
    assert transitions(world(seen("lb-1"), one), heard=set(), missed={"lb-1"}) == []
    assert transitions(world(seen("lb-1"), one), heard=set(), missed=set()) == [], "only a sign of life ends it, not a new watcher"
    assert transitions(world(seen("lb-1"), one), heard={"lb-1"}, missed=set()) == [two]
    assert transitions(world(seen("lb-1"), one, NodeLeft(lbnode="lb-1")), heard=set(), missed=set()) == [two]
    assert transitions(world(), heard=set(), missed={"lb-1"}) == [], "of a node that never reported itself nothing is stated"


class Log:
    """Stands for the runner: a world, and whether there is a session."""

    def __init__(self, *events: AnyEvent) -> None:
        self.world, self.following, self.stated = world(*events), True, list[AnyEvent]()

    async def propose(self, decide: Callable[[World], Iterable[AnyEvent]]) -> None:
        for event in decide(self.world):
            self.stated.append(event)
            self.world.evolve(Fact(100 + len(self.stated), event))


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time passes only when it would sleep; `stop_s` more at the next sleep."""

    now_s, stopped_s = 1000.0, 0.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now_s = max(self.now_s, self._scheduled[0].when()) + self.stopped_s  # type: ignore[attr-defined]
            self.stopped_s = 0.0
        super()._run_once()  # type: ignore[misc]


def run(log: Log, story: Callable[[Presence, Clock], "asyncio.Future[None]"]) -> list[AnyEvent]:
    loop = Clock()

    async def main() -> None:
        presence = Presence(nobody)
        running = asyncio.ensure_future(presence.run(log))  # type: ignore[arg-type]
        await story(presence, loop)
        running.cancel()

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    return log.stated


def test_a_node_that_sends_no_sign_of_life_is_called_silent_within_a_minute_and_heard_at_once() -> None:
    async def story(presence: Presence, loop: Clock) -> None:
        begun_s = loop.time()
        while not log.stated:
            presence.beat("dataplane-lb-2")
            presence.beat("planner")
            await asyncio.sleep(5)
        assert SILENT_S < loop.time() - begun_s < 60
        presence.beat("dataplane-lb-1")
        await asyncio.sleep(0.1)

    log = Log(seen("lb-1"), seen("lb-2"))
    assert run(log, story) == [NodeSilent(lbnode="lb-1"), NodeHeard(lbnode="lb-1")]  # type: ignore[arg-type]


def test_a_node_that_joins_has_as_long_for_its_first_sign_of_life() -> None:
    async def story(_: Presence, loop: Clock) -> None:
        await asyncio.sleep(10 * SILENT_S)
        log.world.evolve(Fact(50, seen("lb-1")))
        await asyncio.sleep(SILENT_S)
        assert log.stated == []
        await asyncio.sleep(2 * CHECK_S)

    log = Log()
    assert run(log, story) == [NodeSilent(lbnode="lb-1")]  # type: ignore[arg-type]


@pytest.mark.parametrize("gap", ["without the log", "stopped"])
def test_who_did_not_listen_calls_nobody_silent(gap: str) -> None:
    async def story(presence: Presence, loop: Clock) -> None:
        presence.beat("dataplane-lb-1")
        await asyncio.sleep(CHECK_S)
        if gap == "stopped":
            loop.stopped_s = 10 * SILENT_S
            await asyncio.sleep(CHECK_S)
        else:
            log.following = False
            await asyncio.sleep(10 * SILENT_S)
            log.following = True
        await asyncio.sleep(SILENT_S - 2 * CHECK_S)
        assert log.stated == []
        await asyncio.sleep(5 * CHECK_S)

    log = Log(seen("lb-1"))
    assert run(log, story) == [NodeSilent(lbnode="lb-1")], "and somebody, once it did for long enough"  # type: ignore[arg-type]


def test_a_node_whose_node_object_is_gone_is_retired_with_it() -> None:
    def observed(name: str) -> NodeObserved:
        return NodeObserved(root=Root(kind="Node", name=name, place=f"@local/Node/{name}"))

    said = Inventory(scopes=("@local",))
    said.take(said.read(Observation({}, complete=True, scope="@local")))
    found = differences(world(seen("lb-1"), observed("lb-1"), observed("worker")), said)
    assert [(type(event), event.entity()[1]) for event in found] == [(NodeGone, "lb-1"), (NodeGone, "worker"), (NodeRetired, "lb-1")]
