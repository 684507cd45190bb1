"""What the agent records of VIPs that LB nodes take turns in announcing."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.dataplane.announce import announcements
from services.dataplane.announce.announcements import Announcements, Shared
from services.dataplane.announce.order import Alive
from services.dataplane.announce.peers import Peers
from services.dataplane.applier import Step
from weir.decider import Change, Fact, World
from weir.events import AnnouncersPlanned, AnnouncersWithdrawn, AnyEvent, PeersObserved, VipTaken
from weir.model import Root

VIP, ROOT = "192.0.2.1", Root(kind="Service", namespace="shop", name="web")
BOTH, NONE, ONLY_B = Alive(frozenset({0, 1}), frozenset({0, 1})), Alive(), Alive(frozenset({0, 1}), frozenset({1}))
WITHOUT_B = Alive(frozenset({0}), frozenset({0}))


class Node:
    """lb-a, and what it claims on the wire; lb-b is its peer."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.claimed: list[str] = []
        self.table = SimpleNamespace(at=lambda _: self.alive)
        self.alive, self.world, self.seq = BOTH, World(), 0
        patch.setattr(announcements, "Announcer", lambda: SimpleNamespace(announce=self._announce))
        patch.setattr(announcements, "LOOK_EVERY_S", 0)
        shared = Shared(Peers(folder / "peers.json", "lb-a"), self.table, None)  # type: ignore[arg-type]
        self.it = Announcements("lb-a", ("eth0",), list, lambda: None, shared)

    def _announce(self, vip: str, interfaces: tuple[str, ...]) -> tuple[str, ...]:
        self.claimed.append(vip)
        return interfaces

    def hear(self, *events: AnyEvent) -> None:
        changes: list[Change] = []
        for event in events:
            self.seq += 1
            changes.append(self.world.evolve(Fact(self.seq, event)))
        self.it.apply(Step(self.world, changes, {}, self.seq))

    def order(self, *nodes: str) -> None:
        self.hear(AnnouncersPlanned(vip=VIP, nodes=nodes, root=ROOT))

    def become(self, alive: Alive) -> None:
        """The hello process finds others alive, and the agent looks."""
        self.alive = alive

        async def look() -> None:
            task: Any = asyncio.ensure_future(self.it.follow_peers(None))  # type: ignore[arg-type]
            await asyncio.sleep(0.01)
            task.cancel()

        asyncio.run(look())

    def taken(self) -> list[str]:
        """The VIPs that it records now; the log has them then."""
        news = [event for event in self.it.news(self.world) if isinstance(event, VipTaken)]
        self.it.recorded(self.it.unrecorded())
        for event in news:
            self.seq += 1
            self.world.evolve(Fact(self.seq, event))
        return [event.vip for event in news]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


def test_the_first_claims_the_other_does_not_and_takes_over_when_it_is_gone(node: Node) -> None:
    node.order("lb-b", "lb-a")
    assert (node.claimed, node.taken()) == ([], [])
    node.become(WITHOUT_B)
    assert (node.claimed, node.taken()) == ([], [VIP]), "claimed by the hello process already"
    node.become(BOTH)
    node.order("lb-a", "lb-b")
    assert (node.claimed, node.taken()) == ([VIP], []), "the log has it as the last that took it"


def test_a_planned_move_is_claimed_and_recorded_at_both_ends(node: Node) -> None:
    node.order("lb-a", "lb-b")
    assert (node.claimed, node.taken()) == ([VIP], [VIP])
    node.order("lb-b", "lb-a")
    node.hear(VipTaken(node="lb-b", vip=VIP, interfaces=("eth0",)))
    assert node.taken() == []
    node.order("lb-a", "lb-b")
    assert (node.claimed, node.taken()) == ([VIP, VIP], [VIP]), "though its own event reads the same as before"


def test_an_order_and_a_death_at_the_same_time_are_not_missed(node: Node) -> None:
    node.order("lb-b", "lb-a")
    node.become(BOTH)
    node.alive = WITHOUT_B
    node.order("lb-b", "lb-a")
    node.order("lb-a", "lb-b")
    assert node.taken() == [VIP]


def test_two_that_do_not_hear_each_other_do_not_answer_each_others_records(node: Node) -> None:
    node.order("lb-a", "lb-b")
    assert node.taken() == [VIP]
    node.become(WITHOUT_B)
    node.hear(VipTaken(node="lb-b", vip=VIP, interfaces=("eth0",)))
    node.order("lb-b", "lb-a")
    node.become(WITHOUT_B)
    assert node.taken() == [], "it has announced it all the time"


def test_what_is_withdrawn_is_announced_no_more(node: Node) -> None:
    node.order("lb-a", "lb-b")
    node.taken()
    node.hear(AnnouncersWithdrawn(vip=VIP, root=ROOT))
    node.become(NONE)
    node.become(BOTH)
    assert node.taken() == []


def test_whom_it_hears_is_recorded_by_name(node: Node) -> None:
    node.order("lb-b", "lb-a")
    node.become(ONLY_B)
    (seen,) = [event for event in node.it.news(node.world) if isinstance(event, PeersObserved)]
    assert (seen.alive, seen.ready) == (("lb-a", "lb-b"), ("lb-b",))
