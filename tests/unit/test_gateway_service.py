"""The Service that bears a Gateway's infrastructure: when there is one, how it is called, what is in it."""

from typing import Any

import msgspec
import pytest

from services.watcher.kinds.seen import Meta, OwnerReference, Seen
from services.watcher.writer.gateway_service import gateway_of, missing, name_of, services_of, wanted_for
from services.watcher.writer.service import STATUS
from services.watcher.writer.status import Mark, View
from weir.decider import Fact, World
from weir.events import GatewayObserved, GatewayStatusPlanned, ServiceObserved, StatusPlanned
from weir.model import Condition, Listener, Root, ServicePort

ROOT = Root(kind="Gateway", namespace="shop", name="edge", uid="u1")
LISTENERS = tuple(Listener(name=f"l{port}", port=port, protocol=protocol) for port, protocol in ((80, "HTTP"), (53, "UDP"), (80, "HTTP")))
GATEWAY = GatewayObserved(root=ROOT, class_name="weir", listeners=LISTENERS, labels={"team": "shop"}, annotations={"a": "b"})
PLANNED = GatewayStatusPlanned(owner=ROOT.owner, root=ROOT, addresses=("203.0.113.7", "2001:db8::7"))
INGRESS = [{"ip": "203.0.113.7", "ipMode": "Proxy"}, {"ip": "2001:db8::7", "ipMode": "Proxy"}]


def view(*events: Any, seen: Seen | None = None, name: str = "edge-weir") -> View:
    world = World({"service of gateway": services_of, "holder": lambda _: ()})
    for seq, event in enumerate(events, 1):
        world.evolve(Fact(seq, event))
    before = msgspec.json.decode(seen.status) if seen else {}
    named = {"unit": f"@kube/Service/shop/{name}", "source": "", "namespace": "shop", "name": name}
    return View(world, lambda _: seen, before, existed=False, home=True, now="", host="", **named)


def service(uid: str, status: Any = None) -> Seen:
    return Seen(Meta(name="edge-weir", ownerReferences=(OwnerReference(uid),)), msgspec.Raw(msgspec.json.encode(status or {})))


def test_a_service_is_made_that_bears_the_infrastructure_and_by_which_no_packet_passes() -> None:
    wanted = STATUS.wanted(view(GATEWAY, PLANNED))
    assert wanted
    assert wanted.created
    metadata, spec = wanted.created["metadata"], wanted.created["spec"]
    named = {"gateway.networking.k8s.io/gateway-name": "edge", "gateway.networking.k8s.io/gateway-class-name": "weir"}
    assert (metadata["labels"], metadata["annotations"]) == ({"team": "shop", **named}, {"a": "b"})
    assert [(each["kind"], each["name"], each["uid"]) for each in metadata["ownerReferences"]] == [("Gateway", "edge", "u1")]
    assert (spec["type"], spec["loadBalancerClass"], "selector" in spec) == ("LoadBalancer", "weir.dev/gateway", False)
    assert [(each["port"], each["protocol"]) for each in spec["ports"]] == [(80, "TCP"), (53, "UDP")]
    assert wanted.status == {"loadBalancer": {"ingress": INGRESS}}


def test_what_stands_there_is_not_written_again() -> None:
    found = view(GATEWAY, PLANNED, seen=service("u1", {"loadBalancer": {"ingress": INGRESS}}))
    wanted = wanted_for(found, GATEWAY, PLANNED)
    assert wanted
    assert wanted.status is None
    assert wanted.maintained, "labels of one that is there follow those of the Gateway"


PLAIN = GatewayObserved(root=ROOT, class_name="weir", listeners=LISTENERS)


@pytest.mark.parametrize(
    ("events", "seen"),
    [
        ((PLAIN, PLANNED), None),
        ((GATEWAY,), None),
        ((GATEWAY, PLANNED), service("another")),
        ((GATEWAY, PLANNED), Seen(Meta(name="edge-weir"))),
    ],
    ids=["no infrastructure", "another controller's Gateway", "another Gateway's Service", "a Service that somebody made"],
)
def test_what_is_not_its_own_is_left_alone(events: Any, seen: Seen | None) -> None:
    assert STATUS.wanted(view(*events, seen=seen)) is None


@pytest.mark.parametrize(
    ("events", "seen"),
    [
        ((PLAIN, PLANNED), Seen(Meta(name="edge-weir"))),
        ((GATEWAY, PLANNED), Seen(Meta(name="edge-weir"))),
        ((GATEWAY,), service("u1")),
    ],
    ids=["no infrastructure", "infrastructure", "made by the controller of its Gateway, as Istio calls it"],
)
def test_a_service_that_only_has_such_a_name_is_told_how_it_stands_as_any_other(events: Any, seen: Seen) -> None:
    root = Root(kind="Service", namespace="shop", name="edge-weir")
    condition = Condition(type="Programmed", status=True, reason="Programmed")
    told = StatusPlanned(owner=root.owner, root=root, vips=("203.0.113.9",), conditions=(condition,))
    exposed = ServiceObserved(root=root, exposed=True, ports=(ServicePort(port=80),))
    wanted = STATUS.wanted(view(*events, exposed, told, seen=seen))
    assert wanted
    assert wanted.created is None
    assert [each["ip"] for each in (wanted.status or {})["loadBalancer"]["ingress"]] == ["203.0.113.9"]


def test_labels_that_a_gateway_does_not_have_any_more_go() -> None:
    wanted = STATUS.wanted(view(PLAIN, PLANNED, seen=service("u1")))
    assert wanted
    assert wanted.created
    assert "team" not in wanted.created["metadata"]["labels"]


@pytest.mark.parametrize(
    ("name", "class_name", "expected"),
    [
        ("edge", "weir", "edge-weir"),
        ("a.b", "weir", "a-b-weir-"),
        ("1st", "weir", "g-1st-weir-"),
        ("e" * 80, "weir", "e" * 54 + "-"),
    ],
)
def test_it_is_called_as_a_service_may_be(name: str, class_name: str, expected: str) -> None:
    found = name_of(GatewayObserved(root=Root(kind="Gateway", namespace="shop", name=name), class_name=class_name))
    assert found == expected or (found.startswith(expected) and len(found) == len(expected) + 8 <= 63)


def test_two_gateways_never_have_one_service() -> None:
    roots = [Root(kind="Gateway", namespace="shop", name=name) for name in ("a.b", "a-b", "a-b-weir", "e" * 80, "e" * 81)]
    assert len({name_of(GatewayObserved(root=root, class_name="weir")) for root in roots}) == len(roots)


def test_it_is_looked_at_when_the_gateway_changes_when_its_plan_does_and_where_it_is_missing() -> None:
    world, expected = view(GATEWAY, PLANNED).world, Mark("", "shop", "edge-weir")
    assert [*STATUS.marks[GatewayObserved](world, GATEWAY, None)] == [expected]
    assert [*STATUS.marks[GatewayStatusPlanned](world, PLANNED, None)] == [expected]
    assert STATUS.missing
    assert [*STATUS.missing(world)] == [*missing(world)] == [expected]
    assert gateway_of(view(GATEWAY, name="other")) is None
