"""From what files say to what the log is told: only differences, first come by path, and what cannot be read stands."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.watcher.core import Watcher, differences
from services.watcher.inventory import Inventory, Observation
from services.watcher.sources.yaml_documents import documents
from weir.decider import Fact, Fold, World
from weir.events import DECODE, ENCODE, AnyEvent, EndpointSliceObserved, ManifestRejected, PoolObserved, ServiceObserved, key, key_of


class Log:
    """A watcher and what it told, folded as the log gives it back.  After every change, asking again must yield nothing."""

    def __init__(self) -> None:
        self.watcher, self.world, self.files = Watcher(), World(Watcher.indexes), dict[str, str]()
        self.facts: list[AnyEvent] = []
        self.observe({}, complete=True)

    def see(self, files: dict[str, str | None], *, complete: bool = False) -> list[str]:
        """Takes the texts of `files` (None: gone); gives what was told, in short."""
        self.files = {name: text for name, text in (({} if complete else self.files) | files).items() if text is not None}
        return self.observe({name: None if text is None else documents(name, text.encode()) for name, text in files.items()}, complete)

    def observe(self, units: dict, complete: bool = False) -> list[str]:
        return self.tell(differences(self.world, self.watcher.inventory, taken(self.watcher.inventory, Observation(units, complete))))

    def tell(self, events: list[AnyEvent]) -> list[str]:
        for event in events:
            self.facts.append(DECODE(ENCODE(event)))
            self.world.evolve(Fact(len(self.facts), self.facts[-1]))
        assert differences(self.world, self.watcher.inventory) == []
        return [short(event) for event in events]

    def restart(self, files: dict[str, str]) -> list[str]:
        """Another life, that knows only the log; `files` is what it finds."""
        self.watcher = Watcher()
        return self.see(files, complete=True)

    def service(self, name: str = "web") -> ServiceObserved | None:
        return self.world.get(key("watcher", "service", "shop", name))  # type: ignore[return-value]

    def slice(self) -> EndpointSliceObserved:
        return self.world.get(key("watcher", "endpointslice", "shop", "web-1"))  # type: ignore[return-value]

    def problems(self, source: str) -> list[str]:
        rejected = self.world.get(key("watcher", "manifest", "", source))
        return [str(problem) for problem in rejected.problems] if isinstance(rejected, ManifestRejected) else []


def taken(said: Inventory, observation: Observation) -> tuple[str, ...] | None:
    return said.take(said.read(observation))


def short(event: AnyEvent) -> str:
    return f"{type(event).__name__} {'/'.join(filter(None, event.entity()))}"


def service(port: int = 80, name: str = "web") -> str:
    head = f"apiVersion: v1, kind: Service, metadata: {{namespace: shop, name: {name}}}"
    return f"{{{head}, spec: {{type: LoadBalancer, ports: [{{port: {port}}}]}}}}\n"


def endpoints(*addresses: str) -> str:
    listed = ", ".join(f"{{addresses: ['{address}']}}" for address in addresses)
    metadata = "{namespace: shop, name: web-1, labels: {kubernetes.io/service-name: web}}"
    return f"{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {metadata}, addressType: IPv4, endpoints: [{listed}]}}\n"


def node(name: str, *addresses: str) -> str:
    listed = ", ".join(f"{{type: InternalIP, address: {address}}}" for address in addresses)
    return f"{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}, status: {{addresses: [{listed}]}}}}\n"


def pool(name: str, *addresses: str) -> str:
    return f"{{apiVersion: weir.dev/v1alpha1, kind: VIPPool, metadata: {{name: {name}}}, spec: {{addresses: [{', '.join(addresses)}]}}}}\n"


NAMESPACE = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n"
CUT = "{apiVersion: v1, kind: Serv"


def test_pools_come_first_and_rejections_last() -> None:
    everything = "---\n".join(
        [service(0, "bad"), endpoints("10.0.0.1"), service(), node("n1", "10.1.0.1"), NAMESPACE, pool("p", "10.2.0.0/24")]
    )
    assert Log().see({"shop.yaml": everything}) == [
        "PoolObserved p",
        "NamespaceObserved shop",
        "NodeObserved n1",
        "ServiceObserved shop/web",
        "EndpointSliceObserved shop/web-1",
        "ManifestRejected shop.yaml#1",
    ]


def test_what_is_said_again_is_not_told_again() -> None:
    log = Log()
    log.see({"shop.yaml": service() + "---\n" + endpoints("10.0.0.1", "10.0.0.2")})
    assert log.see({"shop.yaml": service() + "---\n" + endpoints("10.0.0.2", "10.0.0.1")}) == []
    assert log.restart(log.files) == []


def test_another_place_in_its_file_says_nothing_new_but_another_file_does() -> None:
    log = Log()
    log.see({"a.yaml": service()})
    assert log.see({"a.yaml": NAMESPACE + "---\n" + service()}) == ["NamespaceObserved shop"]
    assert log.see({"a.yaml": NAMESPACE, "b.yaml": service()}) == ["ServiceObserved shop/web"]


def test_a_generation_that_rose_is_told() -> None:
    log = Log()
    log.see({"a.yaml": service().replace("name: web", "name: web, generation: 1")})
    assert log.see({"a.yaml": service().replace("name: web", "name: web, generation: 2")}) == ["ServiceObserved shop/web"]


def test_a_deleted_file_takes_its_objects_and_faults_away() -> None:
    log = Log()
    log.see({"a.yaml": service() + "---\n" + service(0, "bad"), "b.yaml": NAMESPACE})
    assert log.see({"a.yaml": None}) == ["ServiceGone shop/web", "ManifestAccepted a.yaml#2"]


def test_what_was_deleted_while_nobody_watched_is_found() -> None:
    log = Log()
    log.see({"a.yaml": service(), "b.yaml": service(81, "other") + "---\n" + NAMESPACE})
    assert log.restart({"b.yaml": NAMESPACE}) == ["ServiceGone shop/other", "ServiceGone shop/web"]


def test_a_bad_service_stands_as_it_was_and_is_mended() -> None:
    log = Log()
    log.see({"a.yaml": service(80)})
    assert log.see({"a.yaml": service(65536)}) == ["ManifestRejected a.yaml#1"]
    assert log.facts[-1].root == log.service().root
    assert log.problems("a.yaml#1") == ["spec.ports[0].port: got 65536, accepted: 1-65535"]
    assert log.service().ports[0].port == 80
    assert log.restart(log.files) == []
    assert log.see({"a.yaml": service(81)}) == ["ServiceObserved shop/web", "ManifestAccepted a.yaml#1"]


def test_a_bad_service_without_a_past_is_only_rejected() -> None:
    log = Log()
    assert log.see({"a.yaml": service(0)}) == ["ManifestRejected a.yaml#1"]
    assert log.see({"a.yaml": None}) == ["ManifestAccepted a.yaml#1"]


@pytest.mark.parametrize("broken", [CUT, "\x00", "[1]", "{apiVersion: v1, kind: Service, metadata: {}}"])
def test_while_a_document_cannot_be_named_what_its_file_said_stands(broken: str) -> None:
    log = Log()
    log.see({"a.yaml": service() + "---\n" + NAMESPACE})
    assert log.see({"a.yaml": NAMESPACE + "---\n" + broken}) == ["ManifestRejected a.yaml#2"]
    assert log.restart(log.files) == []
    assert log.service()
    assert log.see({"a.yaml": NAMESPACE}) == ["ServiceGone shop/web", "ManifestAccepted a.yaml#2"]


def test_neighbours_of_a_broken_document_are_followed() -> None:
    log = Log()
    log.see({"a.yaml": service(80)})
    assert log.see({"a.yaml": CUT + "\n---\n" + service(81)}) == ["ServiceObserved shop/web", "ManifestRejected a.yaml#1"]


def test_while_a_folder_cannot_be_read_what_its_files_said_stands_even_over_a_restart() -> None:
    log = Log()
    log.see({"manifests/a.yaml": service(), "other/b.yaml": NAMESPACE})
    gone = documents("manifests", b"\xff")
    assert log.observe({"manifests": gone}) == ["ManifestRejected manifests"]
    log.watcher = Watcher()
    assert log.observe({"manifests": gone}, complete=True) == ["NamespaceGone shop"]
    assert log.service()
    assert log.observe({"manifests": None, "manifests/c.yaml": documents("manifests/c.yaml", service(81, "new").encode())}) == [
        "ServiceObserved shop/new",
        "ServiceGone shop/web",
        "ManifestAccepted manifests",
    ]


def test_a_slice_that_cannot_be_read_names_its_service_where_it_got_so_far() -> None:
    log = Log()
    named = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: FQDN, metadata: {name: %s, namespace: shop%s}}"
    label = ", labels: {kubernetes.io/service-name: %s}"
    log.see({"a.yaml": named % ("one", label % "web"), "b.yaml": named % ("two", ""), "c.yaml": named % ("three", label % "'not/one'")})
    assert {each.source: each.owner for each in log.world.of(ManifestRejected)} == {
        "a.yaml#1": "Service/shop/web",
        "b.yaml#1": "",
        "c.yaml#1": "",
    }


def test_a_slice_that_loses_its_label_is_told_on_the_service_it_serves_still() -> None:
    log = Log()
    log.see({"a.yaml": endpoints("10.0.0.1")})
    assert log.see({"a.yaml": endpoints("10.0.0.1").replace("kubernetes.io/service-name: web", "other: web")}) == [
        "ManifestRejected a.yaml#1"
    ]
    assert [each.owner for each in log.world.of(ManifestRejected)] == ["Service/shop/web"]
    assert log.slice().service == "web"


def test_of_two_new_files_that_name_an_object_the_first_by_path_wins() -> None:
    log = Log()
    assert log.see({"c.yaml": service(82), "b.yaml": service(81)}) == ["ServiceObserved shop/web", "ManifestRejected c.yaml#1"]
    assert log.problems("c.yaml#1") == ["metadata.name: got shop/web, accepted: each Service once; b.yaml#1 has it"]
    assert log.service().ports[0].port == 81
    assert log.see({"b.yaml": None}) == ["ServiceObserved shop/web", "ManifestAccepted c.yaml#1"]
    assert log.service().ports[0].port == 82


def test_a_new_file_does_not_take_an_object_away_from_the_one_that_has_it() -> None:
    log = Log()
    log.see({"b.yaml": service(81)})
    assert log.see({"a.yaml": service(80)}) == ["ManifestRejected a.yaml#1"]
    assert log.problems("a.yaml#1") == ["metadata.name: got shop/web, accepted: each Service once; b.yaml#1 has it"]
    assert log.restart(log.files) == []
    assert log.see({"b.yaml": service(83)}) == ["ServiceObserved shop/web"]
    assert log.see({"b.yaml": CUT}) == ["ManifestRejected b.yaml#1"]
    assert log.restart(log.files) == []
    assert log.service().ports[0].port == 83
    assert log.see({"b.yaml": None}) == ["ServiceObserved shop/web", "ManifestAccepted a.yaml#1", "ManifestAccepted b.yaml#1"]
    assert log.service().ports[0].port == 80


def test_documents_of_one_file_are_ordered_by_number_not_by_text() -> None:
    log = Log()
    log.see({"a.yaml": "---\n".join(service(80 + i, "web" if i in (1, 9) else f"s{i}") for i in range(10))})
    assert log.service().ports[0].port == 81
    assert log.problems("a.yaml#10") == ["metadata.name: got shop/web, accepted: each Service once; a.yaml#2 has it"]


def test_a_second_file_does_not_get_the_object_while_the_first_is_broken() -> None:
    log = Log()
    log.see({"a.yaml": service(80), "b.yaml": service(81)})
    log.see({"a.yaml": CUT})
    assert log.service().ports[0].port == 80
    assert log.restart(log.files) == []
    assert log.problems("b.yaml#1") == ["metadata.name: got shop/web, accepted: each Service once; a.yaml#1 has it"]
    log.see({"a.yaml": None})
    assert log.service().ports[0].port == 81


def test_endpoints_on_a_nodes_own_address_are_refused_by_name_and_return_when_the_node_is_gone() -> None:
    log = Log()
    log.see({"a.yaml": endpoints("10.0.0.1", "10.1.0.1"), "b.yaml": service()})
    assert log.see({"n.yaml": node("n1", "10.1.0.1")}) == [
        "NodeObserved n1",
        "EndpointSliceObserved shop/web-1",
        "ManifestRejected a.yaml#1",
    ]
    assert log.problems("a.yaml#1") == ["endpoints: got 10.1.0.1, accepted: an endpoint's own address (this is node n1's)"]
    assert [endpoint.address for endpoint in log.slice().endpoints] == ["10.0.0.1"]
    assert log.see({"a.yaml": endpoints("10.0.0.2", "10.1.0.1")}) == ["EndpointSliceObserved shop/web-1"]
    assert log.restart(log.files) == []
    assert log.see({"n.yaml": node("n1", "10.1.0.2")}) == [
        "NodeObserved n1",
        "EndpointSliceObserved shop/web-1",
        "ManifestAccepted a.yaml#1",
    ]
    assert [endpoint.address for endpoint in log.slice().endpoints] == ["10.0.0.2", "10.1.0.1"]


def test_of_two_nodes_with_one_address_the_first_by_name_is_told() -> None:
    log = Log()
    log.see({"a.yaml": node("n1", "10.1.0.1"), "b.yaml": endpoints("10.1.0.1")})
    assert log.see({"c.yaml": node("n2", "10.1.0.1")}) == ["NodeObserved n2"]
    assert log.see({"a.yaml": None}) == ["NodeGone n1", "ManifestRejected b.yaml#1"]
    assert log.problems("b.yaml#1") == ["endpoints: got 10.1.0.1, accepted: an endpoint's own address (this is node n2's)"]


def test_of_new_pools_that_overlap_the_later_by_name_is_rejected() -> None:
    log = Log()
    both = {"a.yaml": pool("second", "10.0.0.128/25", "10.9.0.0/24"), "b.yaml": pool("first", "10.0.0.0/24")}
    assert log.see(both) == ["PoolObserved first", "ManifestRejected a.yaml#1"]
    assert log.problems("a.yaml#1") == ["spec.addresses: got 10.0.0.128/25, accepted: each address in one pool; pool first has 10.0.0.0/24"]
    assert log.see({"b.yaml": pool("first", "10.0.0.0/25")}) == ["PoolObserved first", "PoolObserved second", "ManifestAccepted a.yaml#1"]


def test_a_new_pool_that_overlaps_one_of_the_log_is_rejected_whatever_its_name() -> None:
    log = Log()
    log.see({"b.yaml": pool("public", "10.0.0.0/24")})
    assert log.see({"a.yaml": pool("bad", "10.0.0.20/31")}) == ["ManifestRejected a.yaml#1"]
    assert log.problems("a.yaml#1") == ["spec.addresses: got 10.0.0.20/31, accepted: each address in one pool; pool public has 10.0.0.0/24"]
    assert log.restart(log.files) == []
    assert log.see({"b.yaml": None}) == ["PoolObserved bad", "PoolGone public", "ManifestAccepted a.yaml#1"]


def test_an_edited_pool_that_comes_to_overlap_is_rejected_whatever_its_name() -> None:
    log = Log()
    log.see({"a.yaml": pool("first", "10.0.0.0/24"), "b.yaml": pool("second", "10.0.1.0/24")})
    assert log.see({"a.yaml": pool("first", "10.0.0.0/23")}) == ["ManifestRejected a.yaml#1"]
    assert log.see({"c.yaml": pool("early", "10.0.0.7")}) == ["ManifestRejected c.yaml#1"], "first still holds it"
    assert log.restart(log.files) == []


def test_a_pool_may_take_what_another_gives_up_in_the_same_moment() -> None:
    log = Log()
    log.see({"a.yaml": pool("first", "10.0.0.0/24"), "b.yaml": pool("second", "10.0.1.0/24", "10.0.2.0/24")})
    moved = {"a.yaml": pool("first", "10.0.0.0/24", "10.0.1.0/24"), "b.yaml": pool("second", "10.0.2.0/24")}
    assert log.see(moved) == ["PoolObserved first", "PoolObserved second"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("pqrs"), st.none() | st.sets(st.sampled_from(range(8)), min_size=1)), max_size=8))
def test_pools_of_the_log_never_overlap_however_they_are_edited(changes: list[dict[str, set[int] | None]]) -> None:
    log = Log()
    for change in changes:
        log.see({f"{name}.yaml": parts and pool(name, *(f"10.0.{i}.0/24" for i in sorted(parts))) for name, parts in change.items()})
        addresses = [address for held in log.world.of(PoolObserved) for address in held.addresses]
        assert len(addresses) == len(set(addresses))
    assert log.restart(log.files) == []


def test_at_most_20_faults_of_a_document_are_told_and_how_many_more() -> None:
    log = Log()
    ports = ", ".join("{port: 0, name: A, protocol: X, targetPort: -1}" for _ in range(4000))
    assert log.see({"a.yaml": service().replace("{port: 80}", ports)}) == ["ManifestRejected a.yaml#1"]
    told = log.problems("a.yaml#1")
    assert len(told) == 21
    assert told[-1] == "document: got 15980 more like these, accepted: none of them"


def test_faults_that_show_among_objects_count_with_those_of_the_document() -> None:
    log, addresses = Log(), [f"10.1.0.{i}" for i in range(1, 101)]
    log.see({"n.yaml": node("n1", *addresses), "a.yaml": endpoints(*addresses, *["127.0.0.1"] * 30)})
    told = log.problems("a.yaml#1")
    assert len(told) == 21
    assert told[-1] == "document: got 110 more like these, accepted: none of them"


def test_each_of_thousands_of_ranges_in_many_pools_is_not_compared_with_each() -> None:
    log = Log()
    files = {f"{i}.yaml": pool(f"p{i}", *(f"10.{i}.{j}.0/24" for j in range(100))) for i in range(25)}
    units = {name: documents(name, text.encode()) for name, text in files.items()}
    changed = taken(log.watcher.inventory, Observation(units))
    events = list[AnyEvent]()
    assert (
        bytecodes(lambda: events.extend(differences(log.world, log.watcher.inventory, changed))) < 20_000_000
    )  # 3 million pairs would take more
    assert len(events) == 25


def test_a_pool_that_comes_to_overlap_stands_as_it_was() -> None:
    log = Log()
    log.see({"a.yaml": pool("second", "10.0.1.0/24"), "b.yaml": pool("first", "10.0.0.0/24"), "c.yaml": pool("third", "10.3.0.0/24")})
    assert log.see({"a.yaml": pool("second", "10.0.0.0/23")}) == ["ManifestRejected a.yaml#1"]
    assert log.see({"c.yaml": pool("third", "10.0.1.7-10.0.1.9")}) == ["ManifestRejected c.yaml#1"], "second still holds these"
    assert log.restart(log.files) == []
    assert log.see({"a.yaml": None}) == ["PoolGone second", "PoolObserved third", "ManifestAccepted a.yaml#1", "ManifestAccepted c.yaml#1"]
    assert log.problems("c.yaml#1") == []


def test_a_source_that_is_listed_again_takes_away_what_it_no_longer_names() -> None:
    log = Log()
    log.see({"a.yaml": service(), "b.yaml": NAMESPACE})
    assert log.see({"b.yaml": NAMESPACE}, complete=True) == ["ServiceGone shop/web"]


def test_a_watcher_that_has_not_looked_yet_owes_nothing_and_afterwards_all_that_the_log_lacks() -> None:
    log = Log()
    log.see({"a.yaml": service(), "b.yaml": NAMESPACE})
    fold, lost = Fold(Watcher(), "watcher"), Fold(log.watcher, "watcher")
    for seq, event in enumerate(log.facts, 1):
        fold.load(Fact(seq, event))
    lost.load(Fact(1, log.facts[0]))
    assert fold.caught_up() == []
    assert [(short(decided.event), decided.cause) for decided in lost.caught_up()] == [("ServiceObserved shop/web", 0)]


def many(count: int) -> dict[str, str]:
    return {f"{i:05}.yaml": service(name=f"s{i}") + "---\n" + endpoints("10.0.0.1").replace("web-1", f"s{i}-1") for i in range(count)}


def test_unchanged_objects_add_nothing_and_one_changed_file_costs_the_same_among_many_as_among_few() -> None:
    assert cost_of_a_change(5000) < 2 * cost_of_a_change(50)


def cost_of_a_change(count: int) -> int:
    """In bytecodes, with so many files."""
    log, files, events = Log(), many(count), list[AnyEvent]()
    assert len(log.see(files)) == 2 * count
    assert log.restart(files) == []
    content = documents("00007.yaml", files["00007.yaml"].replace("port: 80", "port: 81").encode())
    said = log.watcher.inventory
    cost = bytecodes(lambda: events.extend(differences(log.world, said, taken(said, Observation({"00007.yaml": content})))))
    assert [short(event) for event in events] == ["ServiceObserved shop/s7"]
    return cost


def bytecodes(work: Callable[[], None]) -> int:
    """How many Python executes for it: what it costs, whatever else this machine does."""
    counted = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal counted
        frame.f_trace_opcodes = True
        counted += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return counted


TEXTS = st.sampled_from(
    [
        service(80),
        service(0),
        service(81) + "---\n" + service(82),
        service(80, "other"),
        endpoints("10.0.0.1", "10.1.0.1"),
        endpoints("10.0.0.1", "127.0.0.1"),
        node("n1", "10.1.0.1"),
        node("n1", "10.1.0.2"),
        node("n2", "10.1.0.1"),
        pool("p", "10.2.0.0/24"),
        pool("q", "10.2.0.0/25"),
        pool("p", "10.3.0.0/24"),
        pool("q", "0.0.0.0/0"),
        CUT,
        service(80) + "---\n" + CUT,
        "",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a.yaml", "b.yaml", "c.yaml"]), st.none() | TEXTS), max_size=12))
def test_however_files_change_the_step_by_step_way_tells_what_a_restart_would(changes: list[tuple[str, str | None]]) -> None:
    log = Log()
    for name, text in changes:
        log.see({name: text}, complete=False)  # `tell` asserts that a full comparison finds nothing more
    assert log.restart(log.files) == []
    last = World(Watcher.indexes)
    for seq, event in enumerate({key_of(event): event for event in log.facts}.values()):
        last.evolve(Fact(seq, event))
    assert {name: fact.event for name, fact in last.facts.items()} == {name: fact.event for name, fact in log.world.facts.items()}


def test_the_hash_seed_does_not_show() -> None:
    program = (
        "from tests.unit import test_watcher_differences as t\n"
        "log = t.Log()\n"
        "pools = t.pool('p', '10.2.0.0/24') + '---\\n' + t.pool('q', '10.2.0.0/25')\n"
        "files = t.many(20) | {'z.yaml': t.node('n1', '10.0.0.1'), 'y.yaml': pools}\n"
        "log.see(files)\n"
        "print(b''.join(t.ENCODE(event) for event in log.facts))\n"
    )
    root = Path(__file__).parents[2]
    runs = [
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}, capture_output=True, text=True
        )
        for seed in ("1", "2")
    ]
    assert runs[0].stdout, runs[0].stderr
    assert runs[0].stdout == runs[1].stdout
