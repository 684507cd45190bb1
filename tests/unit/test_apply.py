"""The plan in the kernel's maps: whatever happened on the way, they hold what a first application would have put there."""

import itertools
import random
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.dataplane.core import INDEXES, Touched, set_number, without_root
from services.dataplane.edge import bounded
from services.dataplane.l4 import tables
from services.dataplane.l4.apply import Applier
from services.dataplane.l4.kernel import MAPS
from services.dataplane.l4.layout import ID, NO_BACKEND, TABLE_CHUNK, TABLE_KEY, VIP_SHARED, Backend, Frontend, FrontendKey, Vip
from services.dataplane.plan_file import PlanFile
from weir.decider import Change, Fact, World
from weir.events import (
    AnyEvent,
    BackendsPlanned,
    BackendsWithdrawn,
    FrontendPlanned,
    FrontendWithdrawn,
    VipPlanned,
    VipWithdrawn,
    key_of,
)
from weir.model import MORE_REJECTED, BackendSet, BackendState, Rejection, Root, endpoint_name
from weir.model import Backend as Planned
from weir.pins import MapError, address_bytes, address_text
from weir.plan import members

ROOT = Root(kind="Service", name="web", namespace="shop")
ARRAYS = {"backends": 20, "frontend_stats": 16, "backend_stats": 16}  # size of a value
E2BIG, EIO = 7, 5


class FakeMap:
    """A BPF map in a dict; an array when `value_size` is given.  fails: asked before each write."""

    def __init__(self, name: str, journal: list[tuple[str, str]], max_entries: int = 64) -> None:
        self.name, self.max_entries, self.journal = name, max_entries, journal
        self.array = ARRAYS.get(name, 0)
        self.held = {ID.pack(number): bytes(self.array) for number in range(max_entries)} if self.array else {}
        self.fails: Iterator[bool] = iter(())

    def get(self, key: bytes) -> bytes | None:
        return self.held.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self._write("put")
        if key not in self.held and len(self.held) >= self.max_entries:
            raise MapError(self.name, "put", E2BIG)
        self.held[key] = value

    def put_many(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        for key, value in pairs:
            self.put(key, value)

    def delete(self, key: bytes) -> bool:
        if key in self.held:
            self._write("delete")
        return self.held.pop(key, None) is not None

    def count(self) -> None:
        """Packets come: every counter moves."""
        self.held = dict.fromkeys(self.held, b"\x01" * self.array)

    def items(self) -> Iterable[tuple[bytes, bytes]]:
        return list(self.held.items())

    def filled(self) -> Iterable[tuple[bytes, bytes]]:
        return [(key, value) for key, value in self.held.items() if any(value)]

    def _write(self, operation: str) -> None:
        if next(self.fails, False):
            raise MapError(self.name, operation, EIO)
        self.journal.append((operation, self.name))


class Node:
    """A kernel, an applier on it, and the plan it follows."""

    def __init__(self, **sizes: int) -> None:
        self.journal: list[tuple[str, str]] = []
        self.maps = {name: FakeMap(name, self.journal, sizes.get(name, 64)) for name in MAPS}
        self.world = World(INDEXES)
        self.applier = Applier(self.maps)
        self.seq = 0

    def plan(self, *events: AnyEvent) -> int:
        """One step of the plan; how much was written."""
        changes = [self.evolve(event) for event in events]
        return self.applier.apply(self.world, Touched.by(self.world, changes)).writes

    def announced(self, *events: AnyEvent) -> tuple[str, ...]:
        """The same; the VIPs that are to be announced."""
        changes = [self.evolve(event) for event in events]
        return self.applier.apply(self.world, Touched.by(self.world, changes)).announced

    def evolve(self, event: AnyEvent) -> Change:
        self.seq += 1
        return self.world.evolve(without_root(Fact(self.seq, event)))

    def again(self) -> int:
        """The whole plan once more; how much was written."""
        return self.applier.apply_all(self.world).writes

    def restart(self) -> int:
        """A new process over the same maps; how much it wrote."""
        self.applier = Applier(self.maps)
        return self.again()

    def trouble(self, dice: random.Random) -> None:
        """From now on one write in ten fails."""
        for each in self.maps.values():
            each.fails = iter(lambda: dice.random() < 0.1, None)

    def heal(self) -> None:
        for each in self.maps.values():
            each.fails = iter(())

    def in_table(self) -> set[str]:
        """The backends that have slots."""
        tables: Any = self.content()["tables"]
        return {name for chunk in tables.values() for name in chunk if name}

    def content(self) -> dict[str, object]:
        """What the maps say, with names instead of ids."""
        held = {name: each.held for name, each in self.maps.items()}
        names = {ID.unpack(key)[0]: Backend.unpack(value) for key, value in held["backends"].items()}
        named = {number: endpoint_name(b.address, b.port, b.protocol) for number, b in names.items() if b}
        assert len(set(named.values())) == len(named), "a backend with two ids"
        frontends = {FrontendKey.unpack(key): Frontend.unpack(value) for key, value in held["frontends"].items()}
        ids = [frontend.id for frontend in frontends.values()]
        assert len(set(ids)) == len(ids), "an id of two frontends"
        assert 0 not in ids
        return {
            "frontends": {key: (f.set_id, f.size, f.idle_timeout_s, f.algorithm, f.mode, f.plan_seq) for key, f in frontends.items()},
            "tables": {
                TABLE_KEY.unpack(key): [named[number] if number else "" for number in TABLE_CHUNK.unpack(value)]
                for key, value in held["tables"].items()
            },
            "backends": {name: names[number].flags for number, name in named.items()},  # type: ignore[union-attr]
            "backend_ids": {Backend.unpack(key): named[ID.unpack(value)[0]] for key, value in held["backend_ids"].items()},
            "hosts": {address_text(key) for key in held["backend_hosts"]},
            "vips": {address_text(key) for key in held["vips"]},
        }

    def fresh(self) -> dict[str, object]:
        """What a first application of the same plan into empty maps gives."""
        other = Node(**{name: each.max_entries for name, each in self.maps.items()})
        other.world = self.world
        other.again()
        return other.content()

    def is_empty(self) -> bool:
        hashes = {name: each.held for name, each in self.maps.items() if not each.array}
        return not any(hashes.values()) and set(self.maps["backends"].held.values()) == {NO_BACKEND}


def vip(address: str, *, shared: bool = False) -> VipPlanned:
    return VipPlanned(vip=address, shared_with_node=shared, root=ROOT)


def no_vip(address: str) -> VipWithdrawn:
    return VipWithdrawn(vip=address, release=1, root=ROOT)


def name_of(service: str, protocol: str = "TCP") -> str:
    return f"shop/{service}:80/{protocol}:IPv4"


def frontend(
    address: str, service: str, *, chunks: int = 1, protocol: str = "TCP", algorithm: str = "maglev", **fields: int
) -> FrontendPlanned:
    return FrontendPlanned(
        vip=address,
        port=80,
        protocol=protocol,  # type: ignore[arg-type]
        owner=f"Service/shop/{service}",
        sets=(BackendSet(name=name_of(service, protocol), chunks=chunks),),
        algorithm=algorithm,  # type: ignore[arg-type]
        root=ROOT,
        **fields,
    )


def no_frontend(address: str, protocol: str = "TCP") -> FrontendWithdrawn:
    return FrontendWithdrawn(vip=address, port=80, protocol=protocol, root=ROOT)  # type: ignore[arg-type]


def backend(host: int, state: BackendState, *down_on: str) -> Planned:
    """As down, where it is, by this node's own probes; a `Node` has no name."""
    return Planned(address=f"10.0.0.{host}", port=8080, state=state, down_on=down_on or ("",) * (state == "down"))


def backends(
    service: str, *hosts: int, chunk: int = 0, chunks: int = 1, protocol: str = "TCP", states: dict[int, BackendState] | None = None
) -> BackendsPlanned:
    found = tuple(backend(host, (states or {}).get(host, "active")) for host in sorted(hosts))
    return BackendsPlanned(set=name_of(service, protocol), chunk=chunk, chunks=chunks, protocol=protocol, backends=found, root=ROOT)  # type: ignore[arg-type]


def no_backends(service: str, *, chunk: int = 0, chunks: int = 1, protocol: str = "TCP") -> BackendsWithdrawn:
    return BackendsWithdrawn(set=name_of(service, protocol), chunk=chunk, chunks=chunks, root=ROOT)


WEB = (vip("192.0.2.1"), backends("web", 1, 2, 3), frontend("192.0.2.1", "web"))
NO_WEB = (no_backends("web"), no_frontend("192.0.2.1"), no_vip("192.0.2.1"))


@pytest.fixture
def node() -> Node:
    return Node()


# ── rows ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_plan_is_in_the_maps(node: Node) -> None:
    node.plan(*WEB)
    content = node.content()
    assert content["vips"] == {"192.0.2.1"}
    assert content["hosts"] == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}
    assert content["frontends"] == {FrontendKey("192.0.2.1", 80, "TCP"): (set_number(name_of("web")), 307, 0, 0, 0, 3)}
    assert node.applier.rejections() == ()


def test_a_table_that_is_gone_is_not_counted(node: Node) -> None:
    node.plan(vip("192.0.2.1"), frontend("192.0.2.1", "web"))
    for size in (1, 5, 12, 1):  # each size a table of its own
        node.plan(backends("web", *range(1, size + 1)))
        node.plan(no_backends("web"))
    node.plan(*NO_WEB)
    assert len(node.applier.tables) == 0


def test_two_sets_of_one_number_share_no_table(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "set_number", lambda name: 7)
    node.plan(*WEB)
    node.plan(backends("other", 5), frontend("192.0.2.9", "other"))
    assert [rejection.entity for rejection in node.applier.rejections()] == [key_of(frontend("192.0.2.9", "other"))]
    assert "belongs to shop/web" in node.applier.rejections()[0].reason
    assert node.in_table() == {"10.0.0.1:8080/TCP", "10.0.0.2:8080/TCP", "10.0.0.3:8080/TCP"}
    node.plan(*NO_WEB)
    node.plan()
    assert node.applier.rejections() == ()
    assert node.in_table() == {"10.0.0.5:8080/TCP"}


@pytest.mark.parametrize("event", [*WEB, no_vip("192.0.2.1")], ids=lambda event: type(event).__name__)
def test_a_fact_without_its_root_is_of_the_same_entity_and_says_the_same_else(event: Any) -> None:
    kept: Any = without_root(Fact(7, event))
    assert (kept.seq, key_of(kept.event)) == (7, key_of(event))
    assert not kept.event.root.name
    assert msgspec.structs.replace(kept.event, root=event.root) == event


def test_what_is_referred_to_is_written_first(node: Node) -> None:
    node.plan(*WEB)
    written = [name for operation, name in node.journal if operation == "put"]
    last, first = {name: at for at, name in enumerate(written)}, {name: at for at, name in reversed(list(enumerate(written)))}
    for before, after in [("backends", "tables"), ("backend_ids", "tables"), ("tables", "frontends"), ("frontends", "vips")]:
        assert last[before] < first[after], f"{before} before {after}"


def test_what_refers_is_removed_first(node: Node) -> None:
    node.plan(*WEB)
    node.journal.clear()
    node.plan(*NO_WEB)
    node.applier.backends.release(node.applier.backends.lingering, set())
    removed = list(dict.fromkeys(name for _, name in node.journal))
    assert removed == ["vips", "frontends", "tables", "backend_ids", "backends", "backend_hosts"]


def test_second_application_writes_nothing(node: Node) -> None:
    assert node.plan(*WEB) > 0
    assert node.plan(*WEB[:0]) == 0
    assert node.again() == 0
    assert node.restart() == 0


def test_one_flip_leaves_ids_and_size_alone(node: Node) -> None:
    node.plan(*WEB)
    before = dict(node.maps["backends"].held)
    node.journal.clear()
    node.plan(backends("web", 1, 2, 3, states={2: "down"}))
    assert node.maps["backends"].held == before
    assert {name for _, name in node.journal} == {"frontends"}, "no flow of another moves: the kernel steps over the dead one"


def test_round_robin_gives_the_dead_no_turn(node: Node) -> None:
    node.plan(vip("192.0.2.1"), backends("web", 1, 2, 3, states={2: "down"}), frontend("192.0.2.1", "web", algorithm="rr"))
    assert node.in_table() == {"10.0.0.1:8080/TCP", "10.0.0.3:8080/TCP"}


def test_those_who_leave_under_a_deadline_are_found(node: Node) -> None:
    node.plan(vip("192.0.2.1"), backends("web", 1, 2, 3, states={2: "draining"}), frontend("192.0.2.1", "web", drain_timeout_s=7))
    ids = {name: node.applier.backends.id_of(name) for name in node.applier.backends.names()}
    (number,) = [Frontend.unpack(value).id for value in node.maps["frontends"].held.values()]
    assert node.applier.leaving(node.world) == {(number, ids["10.0.0.2:8080/TCP"]): 7}
    node.plan(backends("web", 1, 2))
    assert node.applier.leaving(node.world) == {(number, ids["10.0.0.3:8080/TCP"]): 7}, "out of the plan, its flows may live"


def test_flows_of_every_frontend_of_a_backend_are_under_its_deadline(node: Node) -> None:
    """The kernel knows four frontends of a backend; the plan knows them all."""
    served = [frontend(f"192.0.2.{number}", f"web{number}", drain_timeout_s=7) for number in range(1, 8)]
    for number, each in enumerate(served, 1):
        node.plan(backends(f"web{number}", 1, 2), each)
    backend = node.applier.backends.id_of("10.0.0.2:8080/TCP")
    for number in range(1, 8):
        node.plan(backends(f"web{number}", 1))
        assert len(node.applier.leaving(node.world)) == number, "also while others still have it"
    assert {pair[1] for pair in node.applier.leaving(node.world)} == {backend}
    node.plan(backends("web3", 1, 2))
    assert len(node.applier.leaving(node.world)) == 6, "it came back to one of them"


def test_backends_that_are_down_leave_the_table_once_they_are_most_of_it(node: Node) -> None:
    node.plan(*WEB)
    assert node.in_table() == {"10.0.0.1:8080/TCP", "10.0.0.2:8080/TCP", "10.0.0.3:8080/TCP"}
    node.plan(backends("web", 1, 2, 3, states={2: "down", 3: "down"}))
    assert node.in_table() == {"10.0.0.1:8080/TCP"}
    node.plan(backends("web", 1, 2, 3, states={1: "down", 2: "down", 3: "down"}))
    assert node.in_table() == {"10.0.0.1:8080/TCP", "10.0.0.2:8080/TCP", "10.0.0.3:8080/TCP"}, "all down = all up"
    node.plan(backends("web", 1, 2, 3, states={1: "down", 2: "draining"}))
    assert node.in_table() == {"10.0.0.1:8080/TCP", "10.0.0.3:8080/TCP"}
    assert node.content() == node.fresh()


def test_a_node_acts_on_its_own_verdicts_and_not_on_those_of_others(node: Node) -> None:
    def planned(*found: Planned) -> BackendsPlanned:
        return BackendsPlanned(set=name_of("web"), chunk=0, chunks=1, protocol="TCP", backends=found, root=ROOT)

    node.plan(*WEB)
    node.plan(planned(backend(1, "down", "lb-2"), backend(2, "active", "lb-2"), backend(3, "active")))
    assert node.in_table() == {"10.0.0.1:8080/TCP", "10.0.0.2:8080/TCP", "10.0.0.3:8080/TCP"}, "lb-2 has a broken leg"
    node.plan(planned(backend(1, "active", "", "lb-2"), backend(2, "active", ""), backend(3, "active")))
    assert node.in_table() == {"10.0.0.3:8080/TCP"}, "and so have we, which others need not know"
    assert node.content() == node.fresh()


def test_draining_backend_gets_no_slot_and_keeps_its_way_back(node: Node) -> None:
    node.plan(*WEB)
    node.plan(backends("web", 1, 2, 3, states={2: "draining"}))
    tables = node.content()["tables"]
    assert isinstance(tables, dict)
    assert "10.0.0.2:8080/TCP" not in {name for names in tables.values() for name in names}
    assert node.maps["backend_ids"].get(Backend("10.0.0.2", 8080, "TCP").key())


def test_all_down_counts_as_all_up(node: Node) -> None:
    node.plan(*WEB)
    up = node.content()["tables"]
    node.plan(backends("web", 1, 2, 3, states={1: "down", 2: "down", 3: "down"}))
    assert node.content()["tables"] == up


def test_lingering_backend_keeps_its_origin_until_its_flows_are_gone(node: Node) -> None:
    node.plan(*WEB)
    origin = Backend("10.0.0.3", 8080, "TCP").key()
    (number,) = ID.unpack(node.maps["backend_ids"].held[origin])
    node.plan(backends("web", 1, 2))
    assert node.applier.backends.lingering == {"10.0.0.3:8080/TCP"}
    assert node.applier.backends.release(node.applier.backends.lingering, {number}) == 0
    assert node.maps["backend_ids"].get(origin)
    assert node.applier.backends.release(node.applier.backends.lingering, set()) == 1
    assert node.maps["backend_ids"].get(origin) is None
    assert node.content() == node.fresh()


def test_lingering_backend_that_comes_back_keeps_its_id(node: Node) -> None:
    node.plan(*WEB)
    before = dict(node.maps["backends"].held)
    node.plan(backends("web", 1, 2))
    node.plan(backends("web", 1, 2, 3))
    assert node.applier.backends.lingering == set()
    assert node.maps["backends"].held == before


def test_lingering_survives_a_restart(node: Node) -> None:
    node.plan(*WEB)
    node.plan(backends("web", 1, 2))
    assert node.restart() == 0
    assert node.applier.backends.lingering == {"10.0.0.3:8080/TCP"}
    node.applier.backends.release(node.applier.backends.lingering, set())
    assert node.content() == node.fresh()


def test_backend_of_udp_goes_at_once(node: Node) -> None:
    node.plan(backends("dns", 1, 2, protocol="UDP"), frontend("192.0.2.1", "dns", protocol="UDP"))
    node.plan(backends("dns", 1, protocol="UDP"))
    assert node.applier.backends.lingering == set()
    assert node.content() == node.fresh()


def test_backend_of_two_frontends_keeps_its_place_when_one_goes(node: Node) -> None:
    node.plan(backends("a", 1), frontend("192.0.2.1", "a"))
    held = dict(node.maps["backends"].held)
    node.plan(backends("b", 1), frontend("192.0.2.2", "b"))
    assert node.maps["backends"].held == held
    node.plan(no_backends("b"), no_frontend("192.0.2.2"))
    assert node.maps["backends"].held == held
    assert node.content() == node.fresh()


def test_address_that_a_node_shares_is_marked_and_not_announced(node: Node) -> None:
    """Also when the grant comes or goes."""
    held = node.maps["vips"].held
    assert node.announced(vip("192.0.2.1", shared=True), *WEB[1:]) == ()
    assert Vip.unpack(held[address_bytes("192.0.2.1")]).flags == VIP_SHARED
    assert node.announced(vip("192.0.2.1")) == ("192.0.2.1",)
    assert Vip.unpack(held[address_bytes("192.0.2.1")]).flags == 0
    assert node.content() == node.fresh()


def test_flows_hear_who_parts(node: Node) -> None:
    """A backend that leaves one Service and stays in another; one that drains; a frontend that goes.  Each once."""
    node.plan(*WEB, backends("other", 1), frontend("192.0.2.9", "other"))
    ids = {name: node.applier.backends.id_of(f"10.0.0.{name}:8080/TCP") for name in (1, 2)}
    held = {FrontendKey.unpack(key).vip: Frontend.unpack(value).id for key, value in node.maps["frontends"].held.items()}
    web, other = held["192.0.2.1"], held["192.0.2.9"]
    node.applier.parted()
    node.plan(backends("web", 2, 3))
    assert node.applier.parted() == ({(web, ids[1])}, set(), set())
    node.plan(backends("web", 2, 3, states={2: "draining"}))
    assert node.applier.parted() == (set(), {(web, ids[2])}, set())
    node.plan(no_frontend("192.0.2.9"))
    assert node.applier.parted() == (set(), set(), {other})
    assert not node.applier.parted()


def test_set_that_is_cut_into_chunks_turns_in_one_write(node: Node) -> None:
    node.plan(*WEB)
    node.plan(backends("web", 1, 3, chunk=0, chunks=2))
    assert members(node.world, frontend("192.0.2.1", "web"))[0] == list(backends("web", 1, 2, 3).backends)
    assert node.content() == node.fresh()
    node.plan(backends("web", 2, chunk=1, chunks=2), frontend("192.0.2.1", "web", chunks=2), no_backends("web"))
    assert node.applier.backends.lingering == set()
    assert node.content() == node.fresh()


def test_emptied_plan_leaves_the_maps_empty(node: Node) -> None:
    node.plan(*WEB)
    node.plan(*NO_WEB)
    assert not node.is_empty()
    node.applier.backends.release(node.applier.backends.lingering, set())
    assert node.is_empty(), "maps are empty"


def test_new_vips_are_announced_once(node: Node) -> None:
    changes = [node.evolve(event) for event in WEB]
    assert node.applier.apply(node.world, Touched.by(node.world, changes)).announced == ("192.0.2.1",)
    assert node.applier.apply_all(node.world).announced == ()
    assert Applier(node.maps).apply_all(node.world).announced == ()


def test_plan_from_disk_is_the_plan(node: Node) -> None:
    node.plan(*WEB)
    other = Node()
    other.world = PlanFile.of(node.world, 3).world()
    other.again()
    assert other.content() == node.content()
    node.world = other.world
    assert node.restart() == 0, "the log later finds nothing to change"


def test_restart_deletes_nothing_to_put_it_back(node: Node) -> None:
    node.plan(*WEB)
    node.plan(backends("web", 2, 3, 4))
    node.journal.clear()
    node.restart()
    assert node.journal == []


def test_restart_takes_away_what_the_plan_lost_meanwhile(node: Node) -> None:
    node.plan(*WEB, backends("dns", 7, protocol="UDP"), frontend("192.0.2.9", "dns", protocol="UDP"), vip("192.0.2.9"))
    for event in (no_vip("192.0.2.9"), no_frontend("192.0.2.9", "UDP"), no_backends("dns", protocol="UDP"), backends("web", 1)):
        node.evolve(event)
    node.restart()
    node.applier.backends.release(node.applier.backends.lingering, set())
    assert node.content() == node.fresh()


# ── a kernel that refuses ──────────────────────────────────────────────────────────────────────────────────────────


def test_full_map_is_told_and_neighbours_are_applied() -> None:
    node = Node(frontends=1)
    node.plan(*WEB, backends("other", 4), frontend("192.0.2.2", "other"), vip("192.0.2.2"))
    (rejection,) = node.applier.rejections()
    assert rejection.entity == key_of(frontend("192.0.2.2", "other"))
    assert rejection.reason == "map frontends: put: the map is full"
    assert node.content()["vips"] == {"192.0.2.1", "192.0.2.2"}


def test_refused_frontend_is_tried_again_when_there_is_room() -> None:
    node = Node(frontends=1)
    node.plan(*WEB, backends("other", 4), frontend("192.0.2.2", "other"))
    node.plan(*NO_WEB)
    node.plan()
    assert node.applier.rejections() == ()
    node.applier.backends.release(node.applier.backends.lingering, set())
    assert node.content() == node.fresh()


def test_trying_again_for_ever_uses_up_no_ids() -> None:
    node = Node(frontends=1, frontend_stats=8)
    node.plan(*WEB, backends("other", 4), frontend("192.0.2.2", "other"))
    for _ in range(20):
        node.plan()
    assert node.applier.used()["frontends"] == (1, 8)
    assert "the map is full" in node.applier.rejections()[0].reason


def test_refused_frontend_that_is_withdrawn_leaves_no_table() -> None:
    node = Node(frontends=1)
    node.plan(*WEB, backends("other", 4), frontend("192.0.2.2", "other"))
    node.plan(no_backends("other"), no_frontend("192.0.2.2"))
    node.applier.backends.release(node.applier.backends.lingering, set())
    assert node.applier.rejections() == ()
    assert node.content() == node.fresh()


def test_refused_vip_is_told_and_tried_again() -> None:
    node = Node(vips=1)
    node.plan(*WEB)
    node.plan(vip("192.0.2.2"))
    assert [rejection.entity for rejection in node.applier.rejections()] == [key_of(vip("192.0.2.2"))]
    node.plan(no_vip("192.0.2.1"))
    node.plan()
    assert node.applier.rejections() == ()
    assert node.content()["vips"] == {"192.0.2.2"}


def test_backends_without_a_place_refuse_their_frontend_only() -> None:
    node = Node(backends=4)
    node.plan(*WEB, vip("192.0.2.2"), backends("other", 4), frontend("192.0.2.2", "other"))
    (rejection,) = node.applier.rejections()
    assert rejection.entity == key_of(frontend("192.0.2.2", "other"))
    assert rejection.reason == "backend 10.0.0.4:8080/TCP: backends: all 3 places are taken"
    node.plan(backends("web", 1, 2))
    node.applier.backends.release(node.applier.backends.lingering, set())
    node.plan()
    assert node.applier.rejections() == ()
    assert node.content() == node.fresh()


def test_backend_that_found_no_place_leaves_no_trace(node: Node) -> None:
    node.maps["backends"].fails = iter([True])
    node.plan(backends("web", 1), frontend("192.0.2.1", "web"))
    node.plan(no_backends("web"), no_frontend("192.0.2.1"))
    node.applier.backends.release(node.applier.backends.lingering, set())
    assert node.is_empty(), "maps are empty"


def test_failed_removal_of_a_table_is_made_good(node: Node) -> None:
    node.plan(*WEB)
    node.maps["tables"].fails = iter([False] * 16 + [True])  # a table of 1009 slots is put, the old one cannot go
    node.plan(backends("web", *range(1, 9)))
    node.plan()
    node.plan()
    assert node.applier.rejections() == ()
    assert node.content() == node.fresh()


@pytest.mark.parametrize("name", ["vips", "frontends", "tables", "backend_ids", "backends", "backend_hosts"])
def test_failed_removal_is_survived_and_made_good(node: Node, name: str) -> None:
    node.plan(*WEB)
    node.maps[name].fails = iter([True])
    node.plan(*NO_WEB)
    node.applier.backends.release(node.applier.backends.lingering, set())
    node.plan()
    node.applier.backends.release(node.applier.backends.lingering, set())
    assert node.is_empty(), "maps are empty"


def test_vip_planned_again_while_its_removal_fails_stays(node: Node) -> None:
    node.plan(*WEB)
    node.maps["vips"].fails = iter([True, True])
    node.plan(no_vip("192.0.2.1"))
    node.plan(vip("192.0.2.1"))
    node.plan()
    assert node.content() == node.fresh()
    assert node.applier.rejections() == ()


def test_vip_that_will_not_go_is_told_by_its_name(node: Node) -> None:
    """Or its address would be given on while this node answers for it."""
    node.plan(*WEB)
    node.maps["vips"].fails = iter([True])
    node.plan(no_vip("192.0.2.1"))
    assert [rejection.entity for rejection in node.applier.rejections()] == [key_of(vip("192.0.2.1"))]
    node.plan()
    assert node.applier.rejections() == ()


@pytest.mark.parametrize("name", ["backends", "frontends", "vips"])
def test_what_was_refused_is_unfinished_until_an_application_of_nothing_new_writes_it(node: Node, name: str) -> None:
    node.maps[name].fails = itertools.repeat(True)
    node.plan(*WEB)
    assert node.applier.unfinished
    node.heal()
    node.plan()
    assert not node.applier.unfinished
    assert node.content() == node.fresh()


def test_frontend_that_cannot_be_removed_is_named_so_that_its_vip_is_not_reassigned(node: Node) -> None:
    node.plan(*WEB)
    node.maps["frontends"].fails = itertools.repeat(True)
    node.plan(*NO_WEB)
    assert [rejection.entity for rejection in node.applier.rejections()] == [key_of(frontend("192.0.2.1", "web"))]
    node.heal()
    node.plan()
    assert node.applier.rejections() == ()
    assert node.is_empty() or node.applier.backends.lingering


def test_counter_that_will_not_clear_gives_no_second_id(node: Node) -> None:
    for name in ("backend_stats", "frontend_stats"):
        node.maps[name].count()
        node.maps[name].fails = iter([True])
    node.plan(*WEB)
    node.plan()
    node.plan()
    assert node.applier.rejections() == ()
    assert node.content() == node.fresh()
    assert node.applier.used() == {"frontends": (1, 64), "backends": (3, 64)}


def test_second_place_of_a_backend_is_cleared_by_a_restart(node: Node) -> None:
    node.plan(*WEB)
    node.maps["backends"].held[ID.pack(40)] = Backend("10.0.0.1", 8080, "TCP").pack()
    node.restart()
    assert node.content() == node.fresh()


def test_new_owner_of_an_id_starts_at_nothing(node: Node) -> None:
    for name in ("backend_stats", "frontend_stats"):
        node.maps[name].count()
    node.plan(*WEB)
    ids = [ID.unpack(value)[0] for value in node.maps["backend_ids"].held.values()]
    assert {node.maps["backend_stats"].held[ID.pack(number)] for number in ids} == {bytes(16)}


@pytest.mark.parametrize("name", ["frontends", "backend_ids", "backend_hosts", "tables"])
def test_failure_between_two_writes_is_made_good_by_a_restart(node: Node, name: str) -> None:
    node.maps[name].fails = iter([False, True] if name == "tables" else [True])
    node.plan(*WEB)
    for event in NO_WEB:
        node.evolve(event)
    node.restart()
    node.applier.backends.release(node.applier.backends.lingering, set())
    assert node.is_empty(), "maps are empty"


class Killed(BaseException):
    """The process died here."""


def killed_at(node: Node, write: int, *events: AnyEvent) -> None:
    """The process dies before a write while it applies `events`; the plan has them all the same."""

    def die(count: Iterator[int] = iter(range(10_000))) -> bool:
        if next(count) == write:
            raise Killed
        return False

    for each in node.maps.values():
        each.fails = iter(die, None)
    with suppress(Killed):
        node.plan(*events)
        node.applier.backends.release(node.applier.backends.lingering, set())
    node.heal()


@pytest.mark.parametrize("write", range(20))
def test_process_killed_at_any_write_is_made_good_by_the_next(node: Node, write: int) -> None:
    killed_at(node, write, *WEB)
    node.restart()
    assert node.content() == node.fresh()
    killed_at(node, write, backends("web", 2, 3, 4, 5), frontend("192.0.2.1", "web", algorithm="rr"))
    node.restart()
    node.applier.backends.release(node.applier.backends.lingering, set())
    assert node.content() == node.fresh()
    killed_at(node, write, *NO_WEB)
    node.restart()
    node.applier.backends.release(node.applier.backends.lingering, set())
    assert node.is_empty(), "maps are empty"


@pytest.mark.parametrize("write", range(20))
def test_plan_that_is_gone_when_the_killed_process_comes_back_leaves_nothing(node: Node, write: int) -> None:
    killed_at(node, write, *WEB)
    for event in NO_WEB:
        node.evolve(event)
    node.restart()
    node.applier.backends.release(node.applier.backends.lingering, set())
    assert node.is_empty(), "maps are empty"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_facts_that_come_one_by_one_in_any_order_end_the_same(node: Node, order: tuple[int, ...]) -> None:
    for at in order:
        node.plan(WEB[at])
    assert node.content() == node.fresh()
    assert node.applier.rejections() == ()
    for at in order:
        node.plan(NO_WEB[at])
    node.applier.backends.release(node.applier.backends.lingering, set())
    assert node.is_empty(), "maps are empty"


# ── any sequence ───────────────────────────────────────────────────────────────────────────────────────────────────

SERVICES = ("a", "b", "c")
HOSTS = st.lists(st.integers(1, 6), max_size=6, unique=True)
STATES = st.dictionaries(st.integers(1, 6), st.sampled_from(["down", "draining"]), max_size=4)


def _events(service: str, hosts: list[int], states: dict[int, BackendState], chunks: int, algorithm: str, protocol: str) -> list[AnyEvent]:
    """One Service as the planner plans it, all of it."""
    address = f"192.0.2.{SERVICES.index(service) + 1}"
    cut: dict[int, list[int]] = {}
    for host in hosts:
        cut.setdefault(host % chunks, []).append(host)
    planned = [backends(service, *cut[at], chunk=at, chunks=chunks, states=states, protocol=protocol) for at in sorted(cut)]
    return [vip(address), *planned, frontend(address, service, chunks=chunks, algorithm=algorithm, protocol=protocol)]


PLANNED = st.builds(
    _events,
    st.sampled_from(SERVICES),
    HOSTS,
    STATES,
    st.sampled_from([1, 2]),
    st.sampled_from(["maglev", "maglev", "rr"]),
    st.sampled_from(["TCP", "UDP"]),
)
STEPS = st.lists(st.one_of(PLANNED, st.sampled_from([*SERVICES, "restart", "release"])), max_size=12)


def withdrawn(world: World, service: str) -> list[AnyEvent]:
    """What takes `service` out of the plan, in the planner's order."""
    chunks = [event for event in world.of(BackendsPlanned) if event.set.startswith(f"shop/{service}:")]
    frontends = [event for event in world.of(FrontendPlanned) if event.owner == f"Service/shop/{service}"]
    return [
        *(BackendsWithdrawn(set=event.set, chunk=event.chunk, chunks=event.chunks, root=ROOT) for event in chunks),
        *(no_frontend(event.vip, event.protocol) for event in frontends),
        *(no_vip(event.vip) for event in frontends),
    ]


def follow(node: Node, steps: list[list[AnyEvent] | str]) -> Iterator[None]:
    """Takes the node through the steps, every other fact by fact; the planner withdraws what it does not plan any more."""
    for number, step in enumerate(steps):
        if step == "restart":
            node.restart()
        elif step == "release":
            node.applier.backends.release(node.applier.backends.lingering, set())
        elif isinstance(step, str):
            node.plan(*withdrawn(node.world, step))
        else:
            (service,) = {event.owner.removeprefix("Service/shop/") for event in step if isinstance(event, FrontendPlanned)}
            keys = {key_of(event) for event in step}
            events = [*step, *(event for event in withdrawn(node.world, service) if key_of(event) not in keys)]
            for part in [events] if number % 2 else [[event] for event in events]:
                node.plan(*part)
        for name in ("backend_stats", "frontend_stats"):
            node.maps[name].count()
        yield


@settings(max_examples=120, deadline=None)
@given(STEPS)
def test_any_way_to_a_plan_ends_with_the_same_maps(steps: list[list[AnyEvent] | str]) -> None:
    node = Node()
    for _ in follow(node, steps):
        assert node.applier.rejections() == ()
        for service in node.world.of(FrontendPlanned):
            assert service.vip in node.content()["vips"]  # type: ignore[operator]
    node.applier.backends.release(node.applier.backends.lingering, set())
    assert node.content() == node.fresh()
    assert node.again() == 0
    assert node.restart() == 0
    for service in SERVICES:
        node.plan(*withdrawn(node.world, service))
    node.applier.backends.release(node.applier.backends.lingering, set())
    assert node.is_empty(), "maps are empty"


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.randoms(use_true_random=False))
def test_kernel_that_fails_one_time_in_ten_ends_with_the_same_maps(steps: list[list[AnyEvent] | str], dice: random.Random) -> None:
    node = Node()
    node.trouble(dice)
    for _ in follow(node, steps):
        for rejection in node.applier.rejections():
            kept = rejection.entity.startswith(("map ", "planner.frontend."))  # what is not planned any more, and could not be removed
            assert kept or node.world.get(rejection.entity), "only what is planned can be refused"
    node.heal()
    node.plan()
    assert node.applier.rejections() == ()
    node.applier.backends.release(node.applier.backends.lingering, set())
    node.plan()
    assert node.content() == node.fresh()
    assert node.restart() == 0
    for service in SERVICES:
        node.plan(*withdrawn(node.world, service))
    node.applier.backends.release(node.applier.backends.lingering, set())
    assert node.is_empty(), "maps are empty"


def test_a_backend_that_would_not_go_is_forgotten_by_the_next_life() -> None:
    node = Node()
    node.plan(*_events("a", [1], {}, 1, "maglev", "TCP"))
    node.plan(*withdrawn(node.world, "a"))
    for name in ("backend_ids", "backends"):
        node.maps[name].fails = itertools.repeat(True)
    node.applier.backends.release(node.applier.backends.lingering, set())
    node.heal()
    node.restart()
    node.plan(*_events("a", [1], {}, 1, "maglev", "UDP"))
    node.applier.backends.release(node.applier.backends.lingering, set())
    assert node.content() == node.fresh()


def test_ten_thousand_refusals_fit_into_one_fact_and_say_that_they_are_more() -> None:
    refused = [Rejection(entity=f"planner.frontend._.{number}", reason="map frontends: put: the map is full") for number in range(10_000)]
    stuck = Rejection(entity="planner.planvip._.v", reason="Input/output error")
    told = bounded([*refused, stuck])
    assert told[0] == stuck, "a VIP that is stuck must not be given on"
    assert (told[-1].entity, told[-1].reason) == (MORE_REJECTED, "9501 more are refused")
    assert len(msgspec.json.encode(told)) < 100_000
    assert bounded([stuck]) == (stuck,)
