"""What a cluster is told: rows from facts and what stands there to what is written."""

from typing import Any

import pytest
from msgspec.structs import replace

from services.watcher.core import Watcher
from services.watcher.kinds.seen import Meta, Seen
from services.watcher.writer.conditions import is_held, same
from services.watcher.writer.gateway import status_of
from services.watcher.writer.lbnode import node_status
from services.watcher.writer.lbservice import record_status
from services.watcher.writer.service import own, service_notes, service_status
from services.watcher.writer.status import Note, View
from services.watcher.writer.vippool import pool_status
from weir.decider import Fact, World
from weir.endpoints import counts
from weir.events import (
    AppliedThrough,
    EndpointSliceObserved,
    GatewayClassObserved,
    GatewayStatusPlanned,
    ManifestRejected,
    NodeAddressesObserved,
    NodeHeard,
    NodeSeen,
    NodeSilent,
    PoolObserved,
    RouteStatusPlanned,
    ServiceObserved,
    StatusPlanned,
    VipAllocated,
    VipReleased,
)
from weir.lbnodes import conflicts
from weir.model import Condition, Endpoint, Family, ParentRef, ParentStatus, Problem, Rejection, Root, ServicePort, SlicePort

ROOT = Root(kind="Service", namespace="shop", name="web")
V4, V6 = "203.0.113.10", "2001:db8:113::10"
THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def planned(*vips: str, programmed: bool = True, **reasons: str) -> StatusPlanned:
    """reasons: condition type -> the reason why it is not so."""
    states = {"Accepted": "", "Allocated": "", "Serving": "", "Programmed": "" if programmed else "Pending", **reasons}
    conditions = tuple(
        Condition(type=name, status=not why, reason=why or name, message=f"because of {why}" if why else "") for name, why in states.items()
    )
    return StatusPlanned(owner="Service/shop/web", vips=vips, conditions=conditions, root=ROOT)


def observed(*families: Family) -> ServiceObserved:
    return ServiceObserved(root=ROOT, exposed=True, ports=(ServicePort(port=80),), families=families)


def status(said: StatusPlanned | None, before: dict[str, Any] | None = None, *families: Family, host: str = "") -> dict[str, Any]:
    return service_status(said, observed(*families), before or {}, now=NOW, host=host)


def addresses(told: dict[str, Any]) -> list[str]:
    return [entry.get("ip") or entry["hostname"] for entry in told["loadBalancer"].get("ingress", ())]


def test_a_vip_is_told_once_nodes_have_read_it_back() -> None:
    assert addresses(status(planned(V4, programmed=False))) == []
    assert status(planned(V4))["loadBalancer"] == {"ingress": [{"ip": V4, "ipMode": "VIP", "ports": [{"port": 80, "protocol": "TCP"}]}]}


def test_a_vip_that_stands_there_stays_while_the_service_holds_it() -> None:
    before = status(planned(V4))
    assert addresses(status(planned(V4, programmed=False), before)) == [V4]
    assert addresses(status(planned(V6, programmed=False), before)) == []


@pytest.mark.parametrize(("families", "first"), [((), V4), (("IPv4", "IPv6"), V4), (("IPv6", "IPv4"), V6)])
def test_vips_of_the_first_family_come_first(families: tuple[Family, ...], first: str) -> None:
    assert addresses(status(planned(V6, V4), None, *families))[0] == first


def test_a_vip_may_be_told_as_a_hostname_and_is_known_again() -> None:
    before = status(planned(V4), host="llb")
    assert addresses(before) == [f"llb-{V4}"]
    assert addresses(status(planned(V4, programmed=False), before, host="llb")) == [f"llb-{V4}"]


def test_a_hostname_takes_no_colons() -> None:
    assert addresses(status(planned(V6), host="llb")) == ["llb-2001-db8-113--10"]


def test_a_hostname_ends_in_a_digit_though_an_address_may_end_in_colons() -> None:
    before = status(planned("2001:db8::"), host="llb")
    assert addresses(before) == ["llb-2001-db8--0"]
    assert addresses(status(planned("2001:db8::", programmed=False), before, host="llb")) == ["llb-2001-db8--0"]


def test_a_service_without_ports_that_are_served_is_written_once() -> None:
    told = service_status(planned(V4), ServiceObserved(root=ROOT, exposed=True), {}, now=NOW, host="")
    assert same(told, own(told))


def test_an_address_that_another_left_there_is_not_what_answers() -> None:
    theirs = {"loadBalancer": {"ingress": [{"ip": "192.0.2.200"}]}}
    denied = status(planned(programmed=False, Allocated="PoolExhausted"), theirs)
    assert denied["loadBalancer"] == {"ingress": []}
    assert not same(denied, own(theirs))
    assert same(denied, own({**denied, "loadBalancer": {}}))


def test_what_waits_for_nodes_is_not_worth_a_word() -> None:
    assert service_notes(planned(V4, programmed=False), status(planned(V4))) == []


def test_writing_again_what_stands_there_changes_nothing_and_a_time_is_that_of_the_change() -> None:
    before = status(planned(V4))
    again = service_status(planned(V4), observed(), before, now="2026-05-05T00:00:00Z", host="")
    assert again == before
    assert same(again, own(before))
    assert not same(status(planned(V4, Serving="NoEndpoints"), before), own(before))


def test_what_others_wrote_is_not_compared() -> None:
    before = status(planned(V4))
    theirs = {"type": "other.dev/Seen", "status": "True", "reason": "Here", "message": "", "lastTransitionTime": THEN}
    assert same(status(planned(V4), before), own({**before, "conditions": [*before["conditions"], theirs]}))
    assert same(status(None), own({"conditions": [theirs], "loadBalancer": {}}))


def test_a_person_is_told_what_became_different_and_nothing_twice() -> None:
    first = planned(V4, programmed=False)
    assert service_notes(first, {}) == [Note(False, "Allocated", f"assigned {V4}")]
    before = status(first)
    assert service_notes(planned(V4), before) == [Note(False, "Programmed", f"{V4} announced")]
    assert service_notes(planned(V4), before, ["lb-1", "lb-2"]) == [Note(False, "Programmed", f"{V4} announced on lb-1, lb-2")]
    before = status(planned(V4), before)
    assert service_notes(planned(V4), before) == []
    empty = planned(V4, Serving="NoEndpoints")
    assert service_notes(empty, before) == [Note(True, "NoEndpoints", "because of NoEndpoints")]
    assert service_notes(empty, status(empty, before)) == []
    assert service_notes(planned(V4), status(empty, before)) == [Note(False, "Serving", "Serving now")]


def test_a_denial_is_told_with_its_reason() -> None:
    assert Note(True, "PoolExhausted", "because of PoolExhausted") in service_notes(
        planned(programmed=False, Allocated="PoolExhausted"), {}
    )


def test_a_record_names_its_node_where_it_is_one() -> None:
    told = record_status(planned(V4), ["n1"], 2, 3, {}, NOW)
    assert told["addresses"] == V4
    assert (told["vips"], told["node"], told["nodes"], told["healthy"], told["total"]) == ([V4], "n1", ["n1"], 2, 3)
    assert record_status(planned(V4), ["n2", "n1"], 2, 3, {}, NOW)["node"] == ""


def test_a_record_says_in_one_line_what_a_service_has_and_why_not() -> None:
    served, refused = planned(V4, V6), planned(programmed=False, Allocated="PoolExhausted")
    told = [record_status(each, [], 0, 0, {}, NOW) for each in (served, refused)]
    assert [(each["addresses"], each["reason"]) for each in told] == [(f"{V4}, {V6}", "Serving"), ("", "PoolExhausted")]


def slice_of(family: Family, *endpoints: Endpoint, port: str = "") -> EndpointSliceObserved:
    ports = (SlicePort(port=8080, name=port),)
    return EndpointSliceObserved(root=ROOT, service="web", family=family, ports=ports, endpoints=endpoints)


def test_endpoints_are_counted_that_have_a_port_of_the_service_and_those_of_two_families_once() -> None:
    two = [Endpoint(address="10.0.0.1"), Endpoint(address="10.0.0.2", ready=False)]
    six = [Endpoint(address="fd00::1"), Endpoint(address="fd00::2"), Endpoint(address="fd00::3")]
    found = [slice_of("IPv4", *two), slice_of("IPv6", *six), slice_of("IPv4", *two[:1])]
    assert counts(observed(), found[:1], lambda _: False) == (1, 2)
    assert counts(observed(), found, lambda address: address == "fd00::3") == (2, 3)
    assert counts(observed(), [slice_of("IPv4", *two, port="other")], lambda _: False) == (0, 0)


def offering(*addresses: str, generation: int = 1, **fields: Any) -> PoolObserved:
    return PoolObserved(root=Root(kind="VIPPool", name="p", generation=generation), addresses=addresses, **fields)


def given(*vips: str, orphaned: bool = False) -> list[VipAllocated]:
    return [VipAllocated(vip=vip, pool="p", holders=("Service/shop/web",), orphaned=orphaned, root=ROOT) for vip in vips]


@pytest.mark.parametrize(
    ("pool", "vips", "total", "full"),
    [
        (offering(), (), "0", "False"),
        (offering("192.0.2.1-192.0.2.2"), ("192.0.2.1",), "2", "False"),
        (offering("192.0.2.1-192.0.2.2"), ("192.0.2.1", "192.0.2.2"), "2", "True"),
        (offering("192.0.2.0/30", avoid_buggy_ips=True), ("192.0.2.1", "192.0.2.2"), "4", "False"),
        (offering("192.0.2.0/30", avoid_buggy_ips=True), ("192.0.2.1", "192.0.2.2", "192.0.2.3"), "4", "True"),
        (offering("192.0.2.0/30", avoid_buggy_ips=True), ("192.0.2.0", "192.0.2.1", "192.0.2.2"), "4", "False"),
        (offering("192.0.1.254-192.0.2.1", avoid_buggy_ips=True), ("192.0.1.254", "192.0.2.1"), "4", "True"),
        (offering("2001:db8::/126"), ("2001:db8::1", "2001:db8::2"), "4", "False"),
        (offering("2001:db8::/126"), ("2001:db8::1", "2001:db8::2", "2001:db8::3"), "4", "True"),
        (offering("2001:db8::/126"), ("2001:db8::", "2001:db8::1", "2001:db8::2"), "4", "False"),
        (offering("2001:db8::-2001:db8::1"), ("2001:db8::1",), "2", "False"),
        (offering("2001:db8::/127", avoid_buggy_ips=True), ("2001:db8::",), "2", "False"),
    ],
)
def test_a_pool_is_full_when_all_it_gives_is_given(pool: PoolObserved, vips: tuple[str, ...], total: str, full: str) -> None:
    told = pool_status(pool, None, given(*vips), {}, NOW)
    assert (told["used"], told["total"]) == (len(vips), total)
    assert [each["status"] for each in told["conditions"] if each["type"] == "Full"] == [full]


def test_a_pool_names_who_holds_what_it_no_longer_offers() -> None:
    found = pool_status(offering("192.0.2.0/30"), None, given("192.0.2.9", orphaned=True), {}, NOW)["conditions"]
    (told,) = (each for each in found if each["type"] == "Orphaned")
    assert (told["status"], "192.0.2.9 of shop/web" in told["message"]) == ("True", True)


def test_a_pool_says_which_edit_was_judged() -> None:
    stood = pool_status(offering("192.0.2.0/30"), None, [], {}, NOW)
    assert {each["observedGeneration"] for each in stood["conditions"]} == {1}
    same_words = pool_status(offering("192.0.2.0/30", generation=2), None, [], stood, NOW)
    assert not same(same_words, stood)
    problem = Problem(field="spec.addresses", got="x", accepted="y")
    edit = ManifestRejected(source="p", problems=(problem,), root=Root(kind="VIPPool", name="p", generation=3))
    told = {each["type"]: each for each in pool_status(offering("192.0.2.0/30"), edit, [], stood, NOW)["conditions"]}
    assert (told["Accepted"]["status"], told["Accepted"]["observedGeneration"]) == ("False", 3)


def test_a_node_tells_the_hooks_that_it_has() -> None:
    asked = NodeSeen(node="n1", hook="auto", layout=2, interfaces=("front", "back"))
    hooks = [
        node_status(seen, None, {}, NOW, lost=False)["hook"]
        for seen in (asked, replace(asked, hooks=("xdp", "tc")), replace(asked, hooks=("", "tc")))
    ]
    assert hooks == ["auto", "tc, xdp", "tc"]


def test_a_node_is_ready_unless_its_kubelet_is_not_heard_of() -> None:
    seen = NodeSeen(node="n1", hook="tc", layout=2, interfaces=("front",))
    told = {lost: node_status(seen, None, {}, NOW, lost=lost)["conditions"][0] for lost in (False, True)}
    assert {lost: (each["type"], each["status"], each["reason"]) for lost, each in told.items()} == {
        False: ("Ready", "True", "Forwarding"),
        True: ("Ready", "False", "NodeNotReady"),
    }


def test_of_a_silent_node_nothing_is_known_and_the_command_that_ends_it_is_named() -> None:
    seen = NodeSeen(node="n1", hook="tc", layout=2, interfaces=("front",))
    conditions = node_status(seen, AppliedThrough(node="n1", seq=4), {}, NOW, lost=False, silent=True)["conditions"]
    assert [(each["type"], each["status"], each["reason"]) for each in conditions] == [
        ("Ready", "Unknown", "NodeSilent"),
        ("Programmed", "Unknown", "NodeSilent"),
        ("AddressConflict", "False", "None"),
    ]
    assert "kubectl delete lbnode n1" in conditions[0]["message"]


def test_a_node_whose_address_or_gateway_is_a_vip_says_whose_unless_it_is_shared() -> None:
    world = World()
    seen, own = NodeSeen(node="n1", hook="tc", layout=2, interfaces=("front",)), ("192.0.2.1", "192.0.2.2", "192.0.2.3")
    world.evolve(Fact(1, NodeAddressesObserved(node="n1", addresses=own, gateways=("192.0.2.9",))))
    for seq, (vip, shared) in enumerate({"192.0.2.2": False, "192.0.2.3": True, "192.0.2.9": False}.items(), 2):
        world.evolve(Fact(seq, VipAllocated(vip=vip, pool="p", holders=("Service/shop/web",), shared_with_node=shared, root=ROOT)))
    conflict = node_status(seen, None, {}, NOW, lost=False, conflicts=conflicts(world, "n1"))["conditions"][2]
    assert (conflict["type"], conflict["status"], conflict["reason"]) == ("AddressConflict", "True", "AddressIsVIP")
    assert conflict["message"] == (
        "192.0.2.2, its own address, is also the VIP of shop/web; 192.0.2.9, its default gateway, is also the VIP of shop/web"
    )


def test_a_service_is_held_until_its_address_is_free_or_only_a_silent_node_is_waited_for() -> None:
    world = World(Watcher(scopes=("@local",)).indexes)
    seen = NodeSeen(node="n1", hook="tc", layout=2, interfaces=("front",))
    assert not is_held(world, "Service/shop/web")
    for seq, event in enumerate((seen, VipAllocated(vip=V4, pool="p", holders=("Service/shop/web",), root=ROOT)), 1):
        world.evolve(Fact(seq, event))
    world.evolve(Fact(3, NodeSilent(lbnode="n1")))
    assert is_held(world, "Service/shop/web")
    world.evolve(Fact(4, VipReleased(vip=V4, pool="p", holders=("Service/shop/web",), root=ROOT)))
    assert not is_held(world, "Service/shop/web")
    world.evolve(Fact(5, NodeHeard(lbnode="n1")))
    assert is_held(world, "Service/shop/web")


def test_a_node_is_programmed_when_it_refused_nothing() -> None:
    seen = NodeSeen(node="n1", hook="tc", layout=2, interfaces=("front",))
    refusal = AppliedThrough(node="n1", seq=4, rejected=(Rejection(entity="planner.frontend._.x", reason="map full"),))
    states = {
        word: {each["type"]: each["reason"] for each in node_status(seen, applied, {}, NOW, lost=False)["conditions"]}["Programmed"]
        for word, applied in {"nothing": None, "all": AppliedThrough(node="n1", seq=4), "some": refusal}.items()
    }
    assert states == {"nothing": "Pending", "all": "Programmed", "some": "Rejected"}


@pytest.mark.parametrize("reason", ["Pending", "Programmed", "Rejected"])
def test_a_gateway_that_only_waits_for_nodes_is_not_written_at_once(reason: str) -> None:
    """Each change of a route or an endpoint makes it Pending for some milliseconds."""
    condition = Condition(type="Programmed", status=reason == "Programmed", reason=reason)
    root = Root(kind="Gateway", namespace="shop", name="edge")
    world = World()
    world.evolve(Fact(1, GatewayStatusPlanned(owner=root.owner, root=root, conditions=(condition,))))
    place = {"unit": "@kube/Gateway/shop/edge", "source": "", "namespace": "shop", "name": "edge"}
    wanted = status_of("Gateway").wanted(View(world, lambda _: Seen(Meta()), {}, existed=True, home=True, now=NOW, host="", **place))
    assert wanted
    assert wanted.status
    assert wanted.settling == (reason == "Pending")


CONTROLLER = "io.cilium/gateway-controller"  # served by --class


@pytest.mark.parametrize("controller", ["weir.dev/weir", CONTROLLER])
def test_of_a_routes_parents_those_of_every_class_that_is_ours_are_replaced(controller: str) -> None:
    """And those of other controllers stay: an entry of ours that is taken for another's would be written once more each time."""
    parent, root = ParentRef(kind="Gateway", group="g", namespace="shop", name="edge"), Root(kind="HTTPRoute", namespace="shop", name="web")
    condition = Condition(type="Accepted", status=True, reason="Accepted")
    entry = ParentStatus(parent=parent, controller=controller, conditions=(condition,))
    world = World()
    gateway_class = GatewayClassObserved(root=Root(kind="GatewayClass", name="c"), controller=CONTROLLER, ours=True)
    for seq, event in enumerate((gateway_class, RouteStatusPlanned(owner=root.owner, root=root, parents=(entry,))), 1):
        world.evolve(Fact(seq, event))
    theirs = {"parentRef": {"kind": "Gateway", "name": "other"}, "controllerName": "example.com/other", "conditions": []}
    place = {"unit": "@kube/HTTPRoute/shop/web", "source": "", "namespace": "shop", "name": "web"}
    before: dict[str, Any] = {"parents": [theirs]}
    for _ in range(3):
        wanted = status_of("HTTPRoute").wanted(
            View(world, lambda _: Seen(Meta()), before, existed=True, home=True, now=NOW, host="", **place)
        )
        before = (wanted and wanted.status) or before
    assert [each["controllerName"] for each in before["parents"]] == ["example.com/other", controller]
