"""A client keeps its backend over new flows, where the frontend asks for it.

The frontends go round robin: without affinity each new flow would find another backend.
"""

import time
from collections.abc import Iterable

import pytest

from services.dataplane.l4.layout import AFFINITY, AFFINITY_KEY, AFFINITY_OF, ALGORITHMS, FRONTEND_AFFINITY, ID, LRU_HASH
from tests.dataplane.lab import TICK_MOST_NS, Lab
from tests.dataplane.test_flows import SECOND, Net, opening
from weir.pins import address_bytes

RR = ALGORITHMS.index("rr")
TIMEOUT_S = 60


@pytest.fixture(params=["v4", "v6"])
def net(request: pytest.FixtureRequest) -> Net:
    return Net(request.param)


def serve(lab: Lab, net: Net, proto: str = "TCP", frontend: int = 1, port: int = 80) -> None:
    first = 6 * frontend
    settings = {"algorithm": RR, "flags": FRONTEND_AFFINITY}
    lab.serve(net.vip, net.backends, port=port, to=8000 + port, protocol=proto, frontend=frontend, first=first, **settings)
    for backend in range(first, first + 6):
        lab.map("affinity_s").put(AFFINITY_OF.pack(frontend, backend), ID.pack(TIMEOUT_S))


def backends(lab: Lab, net: Net, ports: Iterable[int], **changes: object) -> list[str]:
    """Where so many new flows go."""
    return [lab.out(opening(net, sport=port, **changes), "forwarded").dst for port in ports]


def last_began(lab: Lab, net: Net, ago_s: float) -> None:
    """The client's last flow began so long ago."""
    key = AFFINITY_KEY.pack(1, address_bytes(net.client))
    backend, _ = AFFINITY.unpack(lab.map("affinity").get(key) or b"")
    then = (time.clock_gettime_ns(time.CLOCK_MONOTONIC) - int(ago_s * SECOND)) % 2**64  # it may wrap: see `age` of the flows
    lab.map("affinity").put(key, AFFINITY.pack(backend, then))


@pytest.mark.parametrize("proto", ["TCP", "UDP"])
def test_new_flows_of_a_client_find_the_backend_of_its_last(lab: Lab, net: Net, proto: str) -> None:
    serve(lab, net, proto)
    (mine,) = set(backends(lab, net, range(1000, 1010), proto=proto))
    (another,) = set(backends(lab, net, range(1000, 1010), proto=proto, src=net.other_client))
    assert mine != another
    assert set(backends(lab, net, range(1010, 1020), proto=proto)) == {mine}


def test_time_begins_anew_with_each_flow_and_ends(lab: Lab, net: Net) -> None:
    serve(lab, net)
    (first,) = backends(lab, net, [1000])
    last_began(lab, net, TIMEOUT_S - 20)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert backends(lab, net, [1001]) == [first]
    assert AFFINITY.unpack(next(value for _, value in lab.map("affinity").items()))[1] > before - TICK_MOST_NS
    last_began(lab, net, TIMEOUT_S + 5)
    assert backends(lab, net, [1002]) != [first]


def test_client_of_a_backend_that_died_keeps_the_next(lab: Lab, net: Net) -> None:
    serve(lab, net)
    (first,) = backends(lab, net, [1000])
    lab.down(first, port=8080)
    (second,) = set(backends(lab, net, range(1001, 1005)))
    assert second != first
    lab.map("backend_up").delete_many([key for key, _ in lab.map("backend_up").items()])
    assert set(backends(lab, net, range(1005, 1010))) == {second}


def test_backend_that_drains_keeps_no_client(lab: Lab, net: Net) -> None:
    serve(lab, net)
    (first,) = backends(lab, net, [1000])
    lab.map("affinity_s").delete(AFFINITY_OF.pack(1, 6 + net.backends.index(first)))
    (second,) = set(backends(lab, net, range(1001, 1005)))
    assert second != first


def test_each_frontend_has_clients_of_its_own(lab: Lab, net: Net) -> None:
    serve(lab, net)
    serve(lab, net, frontend=2, port=81)
    backends(lab, net, [1000], src=net.other_client)
    (first,) = set(backends(lab, net, range(1000, 1005)))
    (other,) = set(backends(lab, net, range(1000, 1005), dport=81))
    assert (first, other) == (net.backends[1], net.backends[0]), "each went round by itself"


def test_frontend_that_does_not_ask_remembers_nobody(lab: Lab, net: Net) -> None:
    serve(lab, net)
    lab.serve(net.vip, net.backends, algorithm=RR, first=6)
    assert len(set(backends(lab, net, range(1000, 1006)))) == 6
    assert not list(lab.map("affinity").items())


def test_more_clients_than_are_remembered_are_served(lab: Lab, net: Net) -> None:
    serve(lab, net)
    room = lab.map("affinity").max_entries
    clients = (f"192.0.2.{at % 250 + 1}" if net.client.startswith("192") else f"fd02::{at + 1:x}" for at in range(room * 2))
    where = address_bytes(net.client)[:12]
    for at in range(room * 2):
        fresh = AFFINITY_KEY.pack(9, where + at.to_bytes(4, "big"))
        lab.map("affinity").put(fresh, AFFINITY.pack(1, 1))
    for client in clients:
        lab.out(opening(net, src=client), "forwarded")
    assert lab.map("affinity").kind == LRU_HASH
    assert len(list(lab.map("affinity").items())) <= room
