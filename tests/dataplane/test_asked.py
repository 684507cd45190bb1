"""What a Service asks for its clients, from the plan by way of real maps to who answers: affinity, and endpoints of the node alone."""

import socket
from collections.abc import Iterator
from itertools import count

import pytest

from services.dataplane.core import INDEXES
from services.dataplane.l4.apply import Applier
from services.dataplane.l4.kernel import MAPS
from tests.dataplane.conftest import needs_kernel
from tests.dataplane.lab import inside
from tests.dataplane.wire import BACKENDS, VIPS, Wire, name, wire
from weir.decider import Fact, World
from weir.events import BackendsPlanned, FrontendPlanned, VipPlanned
from weir.model import Backend, BackendSet, Root

pytestmark = needs_kernel
ROOT = Root(kind="Service", namespace="shop", name="echo")
SETS = (BackendSet(name="shop/echo", chunks=1),)


@pytest.fixture(scope="module")
def built() -> Iterator[Wire]:
    with wire() as built:
        yield built


class Node:
    """n1 with the plan of one Service; b1 runs on n1, b2 on n2."""

    def __init__(self, built: Wire, vip: str) -> None:
        self._maps = {title: built.map(title) for title in MAPS}
        self._vip, self._world, self._seq = vip, World(INDEXES), count(1)
        self.restart()

    def restart(self) -> None:
        """Another life of the agent."""
        self._applier = Applier(self._maps, "n1")

    def plan(self, nodes: dict[str, str], **asked: object) -> None:
        """nodes: backend -> where it runs."""
        number = ":" in self._vip
        found = tuple(Backend(address=BACKENDS[each][number], port=8080, node=node) for each, node in sorted(nodes.items()))
        frontend = {"vip": self._vip, "port": 80, "protocol": "UDP", "owner": "Service/shop/echo", "sets": SETS}
        for event in (
            VipPlanned(vip=self._vip, root=ROOT),
            BackendsPlanned(set="shop/echo", chunk=0, chunks=1, protocol="UDP", backends=found, root=ROOT),
            FrontendPlanned(**frontend, algorithm="rr", root=ROOT, **asked),  # type: ignore[arg-type]
        ):
            self._world.evolve(Fact(next(self._seq), event))
        self._applier.apply_all(self._world)
        assert self._applier.rejections() == ()

    def answers(self, flows: int) -> set[str]:
        """Who answers so many new flows of one client; "" is nobody."""
        return {self._ask() for _ in range(flows)}

    def _ask(self) -> str:
        with inside(name("c")):
            asking = socket.socket(socket.AF_INET6 if ":" in self._vip else socket.AF_INET, socket.SOCK_DGRAM)
        with asking:
            asking.settimeout(1)
            asking.sendto(b"who", (self._vip, 80))
            try:
                return asking.recv(100).split()[0].decode()
            except TimeoutError:
                return ""


@pytest.fixture(params=VIPS)
def node(built: Wire, request: pytest.FixtureRequest) -> Node:
    return Node(built.without_flows(), request.param)


def test_client_keeps_its_backend_through_another_life_of_the_agent(node: Node) -> None:
    both = {"b1": "n1", "b2": "n2"}
    node.plan(both)
    assert node.answers(8) == {"b1", "b2"}
    node.plan(both, affinity_s=60)
    (kept,) = node.answers(8)
    node.restart()
    node.plan(both, affinity_s=60)
    assert node.answers(8) == {kept}
    (other,) = both.keys() - {kept}
    node.plan({other: "n1"}, affinity_s=60)
    assert node.answers(3) == {other}
    node.plan(both, affinity_s=60)
    assert node.answers(8) == {other}, "it is there since the first left"


def test_node_is_answered_for_by_its_own_endpoints_or_by_nobody(built: Wire, node: Node) -> None:
    node.plan({"b1": "n1", "b2": "n2"}, local=True)
    assert node.answers(6) == {"b1"}
    node.plan({"b1": "n2", "b2": "n1"}, local=True)
    assert node.answers(6) == {"b2"}
    node.plan({"b1": "n2", "b2": "n2"}, local=True)
    dropped = built.verdict("no_backend")
    assert node.answers(1) == {""}
    assert built.verdict("no_backend") == dropped + 1
    node.plan({"b1": "n2", "b2": "n2"})
    assert node.answers(8) == {"b1", "b2"}
