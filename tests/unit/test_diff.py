"""Two moments told apart, in words; and rows shown again as they change."""

import json

import pytest

from weir.cli.log.diff import change
from weir.cli.show.watch import Screen, changes
from weir.decider import Fact, World
from weir.events import AnyEvent, AppliedThrough, BackendsPlanned, EpochStarted, ServiceGone, ServiceObserved, StatusPlanned, VipAllocated
from weir.model import Backend, Condition, Rejection, Root, ServicePort
from weir.view.diff import Changed, differences, picture

ROOT = Root(kind="Service", namespace="shop", name="web", generation=1)


def world(*events: AnyEvent) -> World:
    made = World()
    for seq, event in enumerate(events, 1):
        made.evolve(Fact(seq, event))
    return made


def told(before: World, after: World) -> list[tuple[str, str, str]]:
    return [(row.change, row.kind, row.name) for row in differences(picture(before), picture(after))]


def service(port: int, generation: int = 1, **more: bool) -> ServiceObserved:
    root = Root(kind="Service", namespace="shop", name="web", generation=generation)
    return ServiceObserved(root=root, exposed=True, ports=(ServicePort(port=port),), **more)


def backends(chunks: int, *of: Backend) -> tuple[AnyEvent, ...]:
    return tuple(
        BackendsPlanned(set="shop/web:80/TCP:IPv4", chunk=at, chunks=chunks, protocol="TCP", backends=of[at::chunks], root=ROOT)
        for at in range(chunks)
    )


A, B, C = (Backend(address=f"10.0.0.{number}", port=80) for number in (1, 2, 3))


def test_what_came_went_and_changed_is_told_by_entity() -> None:
    vip = VipAllocated(vip="192.0.2.1", pool="p", holders=("Service/shop/web",), root=ROOT)
    assert told(world(), world(service(80), vip)) == [("added", "VIP", "192.0.2.1"), ("added", "service", "shop/web")]
    assert told(world(service(80), vip), world(service(80), vip, ServiceGone(root=ROOT))) == [("removed", "service", "shop/web")]
    (row,) = differences(picture(world(service(80))), picture(world(service(8080))))
    assert row.change == "changed"
    assert list(row.fields) == ["ports"]


def test_another_process_that_appends_is_no_difference() -> None:
    first, second = (EpochStarted(writer="watcher", host="lb", pid=pid) for pid in (1, 2))
    assert told(world(first, service(80)), world(second, service(80))) == []


def test_object_written_again_and_watermarks_are_no_difference() -> None:
    before = world(service(80, 1), AppliedThrough(node="n1", seq=1))
    assert told(before, world(service(80, 2), AppliedThrough(node="n1", seq=9, writes=4))) == []
    refused = AppliedThrough(node="n1", seq=9, rejected=(Rejection(entity="planner.frontend", reason="the map is full"),))
    assert told(before, world(service(80), refused)) == [("added", "refused by", "n1")]


def test_backends_are_one_entity_however_they_are_cut() -> None:
    assert told(world(*backends(1, A, B)), world(*backends(2, A, B))) == []
    (row,) = differences(picture(world(*backends(1, A, B))), picture(world(*backends(2, A, C))))
    assert row.fields == {
        "10.0.0.2:80/TCP": Changed(before="active", after=None),
        "10.0.0.3:80/TCP": Changed(before=None, after="active"),
    }


def test_condition_that_became_false_is_a_change_to_it() -> None:
    good, bad = (
        StatusPlanned(owner="Service/shop/web", vips=(), conditions=(Condition(type="Programmed", status=status, reason="R"),), root=ROOT)
        for status in (True, False)
    )
    (row,) = differences(picture(world(good)), picture(world(bad)))
    each = row.fields["conditions"]
    assert "status=no" in change(each.before, each.after)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (1, 2, "1 → 2"),
        ("", "maglev", "none → maglev"),
        (None, "active", "active"),
        ("active", None, "active → none"),
        (False, True, "no → yes"),
        (["a", "b"], ["b", "c"], "+ c, - a"),
        (["a", "b"], ["b", "a"], "in another order"),
        ({"x": 1}, {"x": 1, "y": [1, 2]}, "x=1 → x=1 y=1, 2"),
    ],
)
def test_change_of_a_field_is_told_in_words(before: object, after: object, words: str) -> None:
    assert change(before, after) == words


# ── watch ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_that_came_changed_and_went_each_have_their_word() -> None:
    before = {("a",): {"name": "a", "n": 1}, ("b",): {"name": "b", "n": 1}}
    now = {("a",): {"name": "a", "n": 2}, ("c",): {"name": "c", "n": 1}}
    assert [(row["change"], row["name"]) for row in changes(before, now)] == [("changed", "a"), ("added", "c"), ("gone", "b")]


def test_pipe_gets_a_line_for_each_change_and_none_for_what_stays(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen("table", ("name",), ("name", "n"))
    for n in (1, 1, 2):
        screen.show([{"name": "a", "n": n, "hidden": object()}])
    assert capsys.readouterr().out.splitlines() == ["CHANGE  NAME  N", "added   a     1", "changed  a     2"]


def test_program_gets_one_document_a_line_that_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen("json", ("name",))
    screen.show([{"name": "\x1b[31m\u202e", "n": 1}])
    screen.show([])
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["change"] for line in lines] == ["added", "gone"]
    assert json.loads(lines[0])["name"] == "\x1b[31m\u202e"
    assert not {"\x1b", "\u202e"} & set(lines[0])
