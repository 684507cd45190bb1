"""Which rows `weir get` shows: by name, namespace and labels."""

import pytest
import typer

from weir.cli.get import View, Wanted, labels_of, log_view
from weir.cli.get_commands import Noun
from weir.decider import Fact, World
from weir.events import BackendsPlanned, ServiceObserved, StatusPlanned, VipAllocated
from weir.model import Backend, Condition, Root, ServicePort

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
        VipAllocated(vip="192.0.2.1", pool="p", services=("shop/web",), root=web.root),
        BackendsPlanned(set="shop/web:80/TCP:IPv4", chunk=0, chunks=1, protocol="TCP", backends=backends, root=web.root),
        StatusPlanned(service="shop/web", vips=("192.0.2.1",), conditions=conditions, root=web.root),
    ]
    world = World()
    for seq, event in enumerate(events, 1):
        world.evolve(Fact(seq, event))
    view = log_view("svc", world)
    assert [[row[column] for column in view.columns] for row in view.rows] == [
        ["shop/late", [], ["80/TCP"], 0, "Pending", "no address was given or denied yet"],
        ["shop/web", ["192.0.2.1"], ["80/TCP"], 2, "AllDown", "every probe fails"],
    ]
    assert [row["name"] for row in Wanted("192.0.2.1").of(view, every_row=True)] == ["shop/web"]
