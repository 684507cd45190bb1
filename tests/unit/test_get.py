"""Which rows `weir get` shows: by name, namespace and labels."""

import pytest
import typer

from weir.cli.show.commands import Noun
from weir.cli.show.get import View, Wanted, labels_of, log_view
from weir.decider import Fact, World
from weir.events import BackendsPlanned, EndpointDown, EndpointSliceObserved, NodeSeen, ServiceObserved, StatusPlanned, VipAllocated
from weir.model import Backend, Condition, Endpoint, Family, Root, ServicePort, SlicePort

ROWS = [
    {"name": "shop/web", "ip": "192.0.2.1", "labels": {"app": "web", "tier": "front"}},
    {"name": "shop/api", "ip": "192.0.2.1", "labels": {"app": "api"}},
    {"name": "two:shop/web", "ip": "192.0.2.3", "labels": {}},
    {"name": "blog/web", "ip": "192.0.2.2", "labels": {"app": "web"}},
]
VIEW = View(ROWS, ("name",), ("name", "ip"), "name")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), [0, 1, 2, 3]),
        (Wanted("shop/web"), [0]),
        (Wanted("web"), [0, 2, 3]),
        (Wanted("web", "shop"), [0]),
        (Wanted("web", "two:shop"), [2]),
        (Wanted("192.0.2.1"), [0, 1]),
        (Wanted("192.0.2.1", "blog"), []),
        (Wanted(namespace="shop"), [0, 1]),
        (Wanted(labels=labels_of("app=web")), [0, 3]),
        (Wanted(labels=labels_of("app=web,tier==front")), [0]),
        (Wanted("nobody"), []),
    ],
)
def test_rows_are_chosen_by_name_namespace_and_labels(wanted: Wanted, expected: list[int]) -> None:
    assert wanted.of(VIEW, every_row=True) == [ROWS[at] for at in expected]


def test_what_has_no_namespace_is_shown_in_any() -> None:
    view = View([{"name": "public"}], ("name",), ("name",))
    assert Wanted(namespace="shop").of(view, every_row=True) == view.rows


def test_idle_rows_are_left_out_of_a_table_unless_asked_for() -> None:
    view = View(
        [{"verdict": "a", "packets": 0}, {"verdict": "b", "packets": 1}], ("verdict",), ("verdict",), idle=lambda r: not r["packets"]
    )
    assert [row["verdict"] for row in Wanted().of(view, every_row=False)] == ["b"]
    assert [row["verdict"] for row in Wanted("a").of(view, every_row=False)] == ["a"]
    assert len(Wanted().of(view, every_row=True)) == 2


def test_selector_that_is_none_ends_the_command_with_2() -> None:
    with pytest.raises(typer.Exit) as ended:
        labels_of("app")
    assert ended.value.exit_code == 2


@pytest.mark.parametrize(("noun", "kind"), [("svc", "svc"), ("services", "svc"), ("vip", "vips"), ("lb", "lb"), ("drops", "drops")])
def test_a_kind_has_the_names_that_people_use(noun: str, kind: str) -> None:
    assert Noun(noun).kind == kind


def test_services_are_shown_with_what_is_wrong_first() -> None:
    def service(name: str) -> ServiceObserved:
        root = Root(kind="Service", namespace="shop", name=name)
        return ServiceObserved(root=root, exposed=True, ports=(ServicePort(port=80),), labels={"app": name})

    web, late = service("web"), service("late")
    conditions = (Condition(type="Serving", status=False, reason="AllDown", message="every probe fails"),)
    backends = tuple(Backend(address=f"10.0.0.{n}", port=8080) for n in (1, 2))
    events = [
        web,
        late,
        VipAllocated(vip="192.0.2.1", pool="p", holders=("Service/shop/web",), root=web.root),
        BackendsPlanned(set="shop/web:80/TCP:IPv4", chunk=0, chunks=1, protocol="TCP", backends=backends, root=web.root),
        StatusPlanned(owner="Service/shop/web", vips=("192.0.2.1",), conditions=conditions, root=web.root),
    ]
    world = World()
    for seq, event in enumerate(events, 1):
        world.evolve(Fact(seq, event))
    view = log_view("svc", world)
    assert [[row[column] for column in view.columns] for row in view.rows] == [
        ["shop/late", [], ["80/TCP"], "0/0", "Pending", "waiting for an address"],
        ["shop/web", ["192.0.2.1"], ["80/TCP"], "0/0", "AllDown", "every probe fails"],
    ]
    assert [row["name"] for row in Wanted("192.0.2.1").of(view, every_row=True)] == ["shop/web"]


def test_a_backend_counts_once_whatever_its_ports_and_families_and_those_that_are_up_are_told_apart() -> None:
    root = Root(kind="Service", namespace="shop", name="web")
    ports = (SlicePort(name="http", port=8080), SlicePort(name="dns", port=5353, protocol="UDP"))

    def slice_of(family: Family, *addresses: str) -> EndpointSliceObserved:
        endpoints = tuple(Endpoint(address=address, ready=not address.endswith("3")) for address in addresses)
        place = Root(kind="EndpointSlice", namespace="shop", name=f"web-{family}")
        return EndpointSliceObserved(root=place, service="web", family=family, ports=ports, endpoints=endpoints)

    def down(node: str) -> EndpointDown:
        return EndpointDown(node=node, address="10.0.0.2", port=8080, protocol="TCP", reason="refused", failures=2)

    served = (ServicePort(name="http", port=80), ServicePort(name="dns", port=53, protocol="UDP"))
    world = World()
    events = [
        ServiceObserved(root=root, exposed=True, ports=served),
        slice_of("IPv4", "10.0.0.1", "10.0.0.2", "10.0.0.3"),
        slice_of("IPv6", "fd00::1", "fd00::2", "fd00::3"),
        *(NodeSeen(node=node, hook="tc", layout=2, interfaces=("eth0",)) for node in ("n1", "n2")),
        down("n1"),
    ]
    for seq, event in enumerate(events, 1):
        world.evolve(Fact(seq, event))
    (row,) = log_view("svc", world).rows
    assert (row["ready"], row["up"], row["backends"]) == ("2/3", 2, 3), "one node alone finds it dead"
    world.evolve(Fact(9, down("n2")))
    (row,) = log_view("svc", world).rows
    assert (row["ready"], row["up"], row["backends"]) == ("1/3", 1, 3)
