"""Two backend sets behind one frontend, from the plan by way of real maps to who answers: as often as the weights say."""

import socket
from collections import Counter
from collections.abc import Iterator

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
CLIENTS = 1000


@pytest.fixture(scope="module")
def built() -> Iterator[Wire]:
    with wire() as built:
        yield built


def plan(built: Wire, vip: str, weights: tuple[int, int], algorithm: str) -> None:
    """b1 and b2 each are a set of their own."""
    world, number = World(INDEXES), ":" in vip
    sets = tuple(BackendSet(name=f"shop/{each}", chunks=1, weight=weight) for each, weight in zip(BACKENDS, weights, strict=True))
    chunks = [
        BackendsPlanned(
            set=f"shop/{each}", chunk=0, chunks=1, protocol="UDP", root=ROOT, backends=(Backend(address=addresses[number], port=8080),)
        )
        for each, addresses in BACKENDS.items()
    ]
    frontend = FrontendPlanned(vip=vip, port=80, protocol="UDP", owner="Service/shop/echo", sets=sets, algorithm=algorithm, root=ROOT)
    for seq, event in enumerate((VipPlanned(vip=vip, root=ROOT), *chunks, frontend), 1):
        world.evolve(Fact(seq, event))
    applier = Applier({title: built.map(title) for title in MAPS}, "n1")
    applier.apply_all(world)
    assert applier.rejections() == ()


def answers(vip: str, clients: int) -> Counter[str]:
    """How often each backend answers new flows, each from a port of its own."""
    found = Counter[str]()
    for _ in range(clients):
        with inside(name("c")):
            asking = socket.socket(socket.AF_INET6 if ":" in vip else socket.AF_INET, socket.SOCK_DGRAM)
        with asking:
            asking.settimeout(10)
            asking.sendto(b"who", (vip, 80))
            found[asking.recv(100).split()[0].decode()] += 1
    return found


@pytest.mark.parametrize("vip", VIPS)
@pytest.mark.parametrize(
    ("weights", "least", "most"), [((90, 10), 50, 160), ((50, 50), 400, 600), ((0, 100), 1000, 1000), ((100, 0), 0, 0), ((99, 1), 1, 35)]
)
def test_new_flows_go_to_sets_by_their_weights(built: Wire, vip: str, weights: tuple[int, int], least: int, most: int) -> None:
    """least, most: of b2, six standard deviations around its share."""
    plan(built.without_flows(), vip, weights, "maglev")
    found = answers(vip, CLIENTS)
    assert found.total() == CLIENTS
    assert least <= found["b2"] <= most


def test_round_robin_takes_turns_by_weight(built: Wire) -> None:
    plan(built.without_flows(), VIPS[0], (3, 1), "rr")
    found = answers(VIPS[0], 40)
    assert found.total() == 40
    assert 5 <= found["b2"] <= 15, "each processor counts its own turns"
