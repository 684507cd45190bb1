"""What `weir get` makes of the maps."""

from types import SimpleNamespace
from typing import Any

import pytest

from services.dataplane.core import INDEXES
from services.dataplane.l4.layout import Flow, FlowKey, Frontend, FrontendKey, backend_key
from weir.cli.show.get_kernel import connections, endpoints, wide
from weir.cli.show.kernel import Kernel
from weir.decider import Fact, World
from weir.events import BackendsPlanned, UpstreamPlanned
from weir.model import Backend, BackendSet, Probe, Root

WEB = FrontendKey("192.0.2.1", 80, "TCP")


def kernel(*flows: tuple[str, int]) -> Any:
    """One that serves shop/web as frontend 7, and has flows to these VIPs of these frontends."""
    keys = [(FlowKey("198.51.100.1", vip, 40000, 80, "TCP"), number) for vip, number in flows]
    pairs = [(Flow(key, key.destination, "10.0.0.1", 1, 2, frontend_id=number), 9) for key, number in keys]
    return SimpleNamespace(
        frontends={WEB: Frontend(1, 101, 7)},
        planned=lambda where: SimpleNamespace(owner="Service/shop/web") if where == WEB else None,
        flows=lambda: pairs,
    )


def test_a_flow_outlives_its_frontend_and_is_of_no_other() -> None:
    rows = connections(kernel(("192.0.2.1", 7), ("192.0.2.9", 7), ("192.0.2.1", 3)))
    assert [row["service name"] for row in rows] == ["shop/web", "192.0.2.9:80/TCP (gone)", "192.0.2.1:80/TCP (gone)"]


def test_wide_counts_the_frontend_and_beside_it_the_endpoint() -> None:
    """An endpoint of two Services has one counter."""
    counted = {"packets_in": 2, "packets_out": 1, "bytes_in": 200, "bytes_out": 100}
    endpoint = {"endpoint": "10.0.0.1", "counters": "9:900"}
    rows = wide([{"ext ip": "192.0.2.1", "counters": counted, "endpoints": [endpoint]}, {"counters": counted, "endpoints": []}])
    assert [(row["counters"], row["all services"]) for row in rows] == [("3:300", "9:900"), ("3:300", "")]


def proxying(*upstreams: Probe | None, dead: frozenset[bytes] = frozenset()) -> Kernel:
    """On lb-1, no frontend in the maps, and in the plan upstreams of the same two backends, probed so."""
    web, edge = Root(kind="Service", namespace="shop", name="web"), Root(kind="Gateway", namespace="shop", name="edge")
    backends = (Backend(address="10.0.0.1", port=8080), Backend(address="10.0.0.2", port=8080, down_on=("lb-1",)))
    chunk = BackendsPlanned(set="shop/web:80/TCP:IPv4", chunk=0, chunks=1, protocol="TCP", backends=backends, root=web)
    sets, world = (BackendSet(name=chunk.set, chunks=1),), World(INDEXES)
    world.evolve(Fact(1, chunk))
    for seq, probe in enumerate(upstreams, 2):
        name = f"shop/edge shop/web:80 http{seq}"
        world.evolve(Fact(seq, UpstreamPlanned(owner=edge.owner, name=name, sets=sets, probe=probe, root=edge)))
    found = Kernel("nowhere")
    vars(found).update(plan=world, node="lb-1", frontends={}, delays={}, down=dead)
    return found


PROBE = Probe(kind="tcp", interval_s=2, retries=3)


@pytest.mark.parametrize(("upstreams", "first"), [((None,), "unprobed"), ((PROBE,), "ok"), ((PROBE, None), "ok"), ((None, PROBE), "ok")])
def test_backends_of_the_proxy_are_shown_with_their_probe(upstreams: tuple[Probe | None, ...], first: str) -> None:
    rows = endpoints(proxying(*upstreams))
    assert [(row["name"], row["state"]) for row in rows] == [("10.0.0.1:8080/TCP", first), ("10.0.0.2:8080/TCP", "nok")]
    assert {(row["ptype"], row["duration"], row["retries"]) for row in rows} == {("tcp:", 2, 3) if PROBE in upstreams else ("", 0, 0)}


def test_a_backend_of_the_proxy_is_down_as_soon_as_a_probe_finds_it_dead() -> None:
    """The plan follows the map."""
    rows = endpoints(proxying(PROBE, dead=frozenset({backend_key("10.0.0.1", 8080, "TCP")})))
    assert [row["state"] for row in rows] == ["nok", "nok"]
