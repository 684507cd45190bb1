"""What a plan says of clients, refusals and leaving, as the kernel's maps have it."""

from collections.abc import Sequence
from itertools import zip_longest

import pytest

from services.dataplane.l4.apply import Applier
from services.dataplane.l4.conntrack import Drains
from services.dataplane.l4.layout import (
    AFFINITY_OF,
    FRONTEND_AFFINITY,
    FRONTEND_REJECT,
    FRONTEND_SOURCES,
    ID,
    Frontend,
    source_range_key,
)
from services.dataplane.l4.source_ranges import ranges
from tests.unit.test_apply import ROOT, Node
from weir.events import BackendsPlanned, FrontendPlanned, FrontendWithdrawn
from weir.model import Backend, BackendSet

SET = "shop/web:80/TCP:IPv4"


def frontend(vip: str = "198.51.100.1", **changes: object) -> FrontendPlanned:
    whole = {
        "vip": vip,
        "port": 80,
        "protocol": "TCP",
        "owner": "Service/shop/web",
        "sets": (BackendSet(name=SET, chunks=1),),
        "root": ROOT,
    }
    return FrontendPlanned(**(whole | changes))  # type: ignore[arg-type]


def backends(*states: str, nodes: Sequence[str] = ()) -> BackendsPlanned:
    """10.0.0.1 and so on.  nodes: where each runs, and by whose probes it is down."""
    some = tuple(
        Backend(address=f"10.0.0.{number}", port=8080, state=state, node=node, down_on=(node,) * (state == "down"))  # type: ignore[arg-type]
        for number, (state, node) in enumerate(zip_longest(states, nodes, fillvalue=""), 1)
    )
    return BackendsPlanned(set=SET, chunk=0, chunks=1, protocol="TCP", backends=some, root=ROOT)


def held(node: Node) -> tuple[Frontend, set[bytes]]:
    (value,) = node.maps["frontends"].held.values()
    return Frontend.unpack(value), set(node.maps["source_ranges"].held)


@pytest.mark.parametrize(
    ("vip", "sources", "expected"),
    [
        ("198.51.100.1", (), None),
        ("198.51.100.1", ("10.0.0.0/8", "0.0.0.0/0"), None),
        ("198.51.100.1", ("10.0.0.0/8", "fd00::/8"), {source_range_key(3, "10.0.0.0", 8): b"\1"}),
        ("fd03::1", ("10.0.0.0/8", "fd00::/8"), {source_range_key(3, "fd00::", 8): b"\1"}),
        ("fd03::1", ("10.0.0.0/8",), {}),
        ("fd03::1", ("::/0",), None),
    ],
)
def test_ranges_are_of_the_vips_family_and_all_of_it_is_no_range(
    vip: str, sources: tuple[str, ...], expected: dict[bytes, bytes] | None
) -> None:
    assert ranges(3, vip, sources) == expected


def test_ranges_are_there_before_the_flag_and_go_after_it() -> None:
    node = Node()
    node.plan(frontend(), backends("active"))
    node.journal.clear()
    node.plan(frontend(sources=("10.0.0.0/8", "192.0.2.0/24")))
    assert node.journal == [("put", "source_ranges"), ("put", "source_ranges"), ("put", "frontends")]
    found, keys = held(node)
    assert found.flags == FRONTEND_SOURCES
    assert keys == {source_range_key(found.id, "10.0.0.0", 8), source_range_key(found.id, "192.0.2.0", 24)}
    node.journal.clear()
    node.plan(frontend(sources=("192.0.2.0/24", "203.0.113.0/24")))
    assert [operation for operation, name in node.journal if name == "source_ranges"] == ["put", "delete"]
    node.journal.clear()
    node.plan(frontend())
    assert node.journal == [("put", "frontends"), ("delete", "source_ranges"), ("delete", "source_ranges")]


def test_ranges_are_read_back_by_a_new_process_and_go_with_the_frontend() -> None:
    node = Node()
    node.plan(frontend(sources=("10.0.0.0/8",)), backends("active"))
    assert node.restart() == 0
    node.maps["source_ranges"].held[source_range_key(9, "10.0.0.0", 8)] = b"\1"  # of a life that was interrupted
    assert node.restart() == 1
    node.plan(FrontendWithdrawn(vip="198.51.100.1", port=80, protocol="TCP", root=ROOT))
    assert not node.maps["source_ranges"].held


def test_frontend_whose_ranges_found_no_place_is_refused_and_leaves_nothing() -> None:
    node = Node(source_ranges=1)
    node.plan(frontend(sources=("10.0.0.0/8", "192.0.2.0/24")), backends("active"))
    assert "full" in node.applier.rejections()[0].reason
    assert not node.maps["frontends"].held
    assert not node.maps["source_ranges"].held
    node.maps["source_ranges"].max_entries = 2
    node.plan()
    assert not node.applier.rejections()
    assert len(held(node)[1]) == 2


def test_no_backend_answer_is_a_flag() -> None:
    node = Node()
    node.plan(frontend(no_backend="reject"))
    assert held(node)[0].flags == FRONTEND_REJECT


def keepers(node: Node) -> dict[int, int]:
    """Last number of the address of each backend that clients may keep -> for how many seconds."""
    ids = {node.applier.backends.id_of(f"10.0.0.{number}:8080/TCP"): number for number in range(1, 4)}
    entries = node.maps["affinity_s"].held.items()
    assert all(AFFINITY_OF.unpack(key)[0] == held(node)[0].id for key, _ in entries)
    return {ids[AFFINITY_OF.unpack(key)[1]]: ID.unpack(value)[0] for key, value in entries}


def test_clients_may_keep_the_backends_that_new_flows_go_to() -> None:
    node = Node()
    node.plan(frontend(affinity_s=60), backends("active", "draining", "down"))
    assert held(node)[0].flags == FRONTEND_AFFINITY
    assert keepers(node) == {1: 60, 3: 60}
    node.plan(backends("draining", "active", "active"))
    assert keepers(node) == {2: 60, 3: 60}
    node.plan(frontend(affinity_s=90))
    assert keepers(node) == {2: 90, 3: 90}
    node.plan(frontend())
    assert (held(node)[0].flags, keepers(node)) == (0, {})


def test_keepers_are_read_back_by_a_new_process_and_go_with_the_frontend() -> None:
    node = Node()
    node.plan(frontend(affinity_s=60), backends("active"))
    assert node.restart() == 0
    node.maps["affinity_s"].held[AFFINITY_OF.pack(9, 1)] = ID.pack(60)  # of a life that was interrupted
    assert node.restart() == 1
    node.plan(FrontendWithdrawn(vip="198.51.100.1", port=80, protocol="TCP", root=ROOT))
    assert not node.maps["affinity_s"].held


def slots(node: Node) -> set[str]:
    return {name.removesuffix(":8080/TCP") for name in node.in_table()}


def test_local_frontend_goes_to_backends_of_its_own_node() -> None:
    node = Node()  # named ""
    node.applier = Applier(node.maps, "n1")
    node.plan(frontend(local=True), backends("active", "active", "active", nodes=("n1", "n2", "n1")))
    assert slots(node) == {"10.0.0.1", "10.0.0.3"}
    node.plan(backends("active", "active", "active", nodes=("n2", "n2", "n1")))
    assert slots(node) == {"10.0.0.3"}, "it may have moved under its address"
    node.plan(backends("active", "active", "active", nodes=("n2", "n2", "n2")))
    assert (slots(node), held(node)[0].size) == (set(), 0)
    node.plan(frontend())
    assert slots(node) == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}


def test_backends_of_a_node_serve_on_where_all_of_them_leave() -> None:
    node = Node()
    node.applier = Applier(node.maps, "n1")
    node.plan(frontend(local=True), backends("draining", "active", "draining", nodes=("n1", "n2", "n1")))
    assert slots(node) == {"10.0.0.1", "10.0.0.3"}
    node.plan(backends("draining", "active", "active", nodes=("n1", "n2", "n1")))
    assert slots(node) == {"10.0.0.3"}


def test_backends_that_leave_are_told_with_their_time() -> None:
    node = Node()
    node.plan(frontend(drain_timeout_s=30), backends("active", "active", "active"))
    assert node.applier.leaving(node.world) == {}
    node.plan(backends("active", "draining"))
    found, (second, third) = held(node)[0], (node.applier.backends.id_of(f"10.0.0.{number}:8080/TCP") for number in (2, 3))
    assert node.applier.leaving(node.world) == {(found.id, second): 30, (found.id, third): 30}
    node.plan(frontend(drain_timeout_s=0))
    assert node.applier.leaving(node.world) == {}, "until their flows end"


def test_time_to_leave_is_up_once_and_begins_anew_for_who_came_back() -> None:
    drains, pair = Drains(), (1, 2)
    assert drains.due({pair: 30}, 100.0) == set()
    assert drains.due({pair: 30}, 129.0) == set()
    assert drains.due({pair: 30}, 130.0) == {pair}
    assert drains.due({pair: 30}, 131.0) == set()
    assert drains.due({}, 140.0) == set()
    assert drains.due({pair: 30}, 150.0) == set()
    assert drains.due({pair: 30}, 180.0) == {pair}
